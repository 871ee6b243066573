"""The curves of a run: which columns are drawn where, and what is said of them."""

from __future__ import annotations

import re

import pytest

from training import curves


def rows(count: int = 4, stages: tuple[str, ...] = ("first",), **columns) -> list[dict[str, str]]:
    """Return rows of `metrics.csv`; a column is a function of the epoch, from 1 on."""
    return [
        {
            "stage": stages[epoch * len(stages) // count],
            "epoch": str(epoch + 1),
            "step": str(10 * epoch + 10),
            **{name: str(value(epoch + 1)) for name, value in columns.items()},
        }
        for epoch in range(count)
    ]


@pytest.fixture
def panels(monkeypatch):
    """Return what `draw_metrics` draws: caption and, by panel and line, the points."""

    def draw(table):
        monkeypatch.setattr(curves, "_draw", lambda panels, begins, epochs: panels)
        return [(caption, panels) for panels, caption in curves.draw_metrics(table)]

    return draw


def test_columns_of_a_family_are_lines_of_one_panel(panels):
    table = rows(
        loss=lambda epoch: 2 / epoch,
        fusion_weight_1=lambda epoch: 0.3 / epoch,
        fusion_weight_2=lambda epoch: 0.3,
        fusion_weight_3=lambda epoch: 0.3 * epoch,
        learning_rate=lambda epoch: 0.1,
        val_error=lambda epoch: 90 - epoch,
        selection=lambda epoch: 10 + epoch,
    )
    loss, family, validation, rate = panels(table)
    assert list(loss[1]) == ["loss"] and list(rate[1]) == ["learning_rate"]
    assert family[1] == {
        "fusion_weight": {
            "1": ([1, 2, 3, 4], [0.3, 0.15, 0.3 / 3, 0.075]),
            "2": ([1, 2, 3, 4], [0.3] * 4),
            "3": ([1, 2, 3, 4], [0.3 * epoch for epoch in (1, 2, 3, 4)]),
        }
    }
    assert family[0] == (
        "Figures of the model of which there are several, over epochs. In one panel each: fusion weight 1, 2, 3."
    )
    assert validation[1] == {
        "val_error": {"val_error": ([1, 2, 3, 4], [89, 88, 87, 86])},
        "selection": {"selection": ([1, 2, 3, 4], [11, 12, 13, 14])},
    }
    assert "In one panel" not in loss[0] + validation[0] + rate[0]


def test_one_number_is_no_family_and_a_family_of_the_validation_stays_there(panels):
    table = rows(
        loss=lambda epoch: 1,
        side_1=lambda epoch: 2,
        val_recall_1=lambda epoch: 3,
        val_recall_10=lambda epoch: 4,
        gain=lambda epoch: 5,
        gain_1=lambda epoch: 6,
        gain_2=lambda epoch: 7,
    )
    (_, losses), (caption, validation) = panels(table)
    # The panel of `gain` is taken, so that its numbered ones keep their own.
    assert list(losses) == ["loss", "side_1", "gain", "gain_1", "gain_2"]
    assert {name: list(lines) for name, lines in validation.items()} == {"val_recall": ["1", "10"]}
    assert caption.endswith("In one panel each: val recall 1, 10.")


def texts(svg: bytes) -> str:
    """Return the comments of an SVG, in which the letters of each text are kept beside their outlines."""
    return " | ".join(re.findall(r"<!-- (.*?) -->", svg.decode()))


def colours(svg: bytes) -> list[str]:
    return re.findall(r"stroke: (#[0-9a-f]{6}); stroke-width: 1\.5", svg.decode())


def test_a_family_has_a_colour_a_line_and_a_legend():
    several = {f"weight_{n}": (lambda epoch, n=n: n * epoch) for n in range(101, 109)}
    (svg, caption), *_ = curves.draw_metrics(rows(9, ("a", "b"), **several))
    assert all(text in texts(svg) for text in ("weight", *map(str, range(101, 109))))
    assert set(colours(svg)) == set(curves.COLOURS)
    assert caption.endswith("weight 101, 102, 103, 104, 105, 106, 107, 108. Dashed lines part the stages: a, b.")
    (single, _), *_ = curves.draw_metrics(rows(9, ("a", "b"), loss=lambda epoch: epoch))
    assert set(colours(single)) == {curves.COLOURS[0]}


def test_figures_that_are_missing_or_no_numbers_are_left_out(panels):
    table = rows(loss=lambda epoch: "nan" if epoch == 2 else epoch, weight_1=lambda epoch: "", weight_2=lambda epoch: 1)
    ((_, drawn),) = panels(table)
    assert drawn == {"loss": {"loss": ([1, 3, 4], [1, 3, 4])}, "weight_2": {"weight_2": ([1, 2, 3, 4], [1.0] * 4)}}
