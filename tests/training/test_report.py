"""The report and the model card: rendered from the files of a run alone, self-contained, everything escaped."""

from __future__ import annotations

import base64
import html.parser
import json
import re
from pathlib import Path

import pytest

from tfthesis.errors import UserError
from training import report
from training.results import figure

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = "<script>alert(1)</script>|`x`"


class Page(html.parser.HTMLParser):
    """Collects tags, their attributes and the text of a page; complains about tags that do not match."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text, self._open = [], [], "", []
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run written by hand, with hostile text wherever users or data can put text."""
    files = {
        "recipe.json": {
            "title": "A method",
            "chapter": "chapter 7",
            "summary": HOSTILE,
            "method": "/somewhere/mine.py",
            "preset": "quick",
            "variant": None,
            "hash": "0123abcd",
            "served_name": "mine_quick",
            "seed": 3,
            "data_dir": None,
            "fields": {"dataset": "scenes", "rate": 0.05, "widths": [2048, 512]},
            "about": {
                "dataset": {"help": "dataset to read", "unit": "", "source": "our choice"},
                "rate": {"help": "learning rate", "unit": "per step", "source": "section 7.4.1"},
                "widths": {"help": "channels", "unit": "units", "source": HOSTILE},
            },
        },
        "spec.json": {
            "inputs": {"image": [2048], "text": [None, 300]},
            "classes": ["cat", HOSTILE],
            "multi_label": True,
            "encoders": {"image": {"name": "lite", "weights": HOSTILE, "fingerprint": "f" * 64}},
        },
        "data.json": {"name": "scenes", "images": {"train": 1000, "test": 500}, "skipped": [f"a.jpg: {HOSTILE}"]},
        "environment.json": {
            "python": "3.12.1",
            "packages": {"tensorflow": "2.20.0", "keras": "3.14"},
            "processor": HOSTILE,
            "cores": 2,
            "devices": [],
            "commit": None,
            "command": HOSTILE,
        },
        "evaluation.json": {
            "split": "test",
            "protocol": "R@K",
            "scalars": {"i2t_r1": 34.5678, "nothing": None, "items": 12345},
            "selection": 1.0,
            "tables": {"per_class": [{"class": HOSTILE, "ap": 0.5}, {"class": "cat", "n": 3}]},
            "curves": {"precision_recall": [[0, 0.5, 1], [1, 0.8, 0.1]]},
        },
        "pictures.json": [{"file": "pictures/found.png", "caption": HOSTILE}],
    }
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/found.png").write_bytes(PIXEL)
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    (tmp_path / "metrics.csv").write_text(
        "stage,epoch,step,loss,matching,learning_rate,val_r_sum\n"
        "matching,1,8,2.5,2.5,0.1,\nmatching,2,16,1.25,1.25,0.1,40.5\njoint,1,24,1.0,nan,0.02,41.0\n"
    )
    return tmp_path


def test_report_is_one_self_contained_page(run):
    report.render(run)
    text = (run / "report.html").read_text()
    page = Page(text)
    assert "script" not in page.tags and "link" not in page.tags
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    # Losses, validation, learning rate, one curve of the evaluation, one picture.
    assert len(sources) == 5 and all(source.startswith("data:image/") for source in sources)
    assert base64.b64encode(PIXEL).decode() in text
    assert ("name", "viewport") in page.attributes
    assert not re.search(r"url\(|@import", text)


def test_report_shows_results_recipe_sources_and_skipped_items(run):
    report.render(run)
    text = " ".join(Page((run / "report.html").read_text()).text.split())
    for expected in (
        "34.57",
        "12,345",
        "Protocol: R@K",
        "section 7.4.1",
        "2,048, 512",
        "images train",
        "3.12.1",
        f"a.jpg: {HOSTILE}",
        "picks the weights. Dashed lines part the stages: matching, joint.",
        "Skipped items (1)",
    ):
        assert expected in text, expected


def test_model_card_keeps_text_as_text(run):
    report.render(run)
    card = (run / "model_card.md").read_text()
    assert "<script" not in card and "&lt;script&gt;alert(1)&lt;/script&gt;\\|\\`x\\`" in card
    assert "text (any, 300)" in card and "| i2t r1 | 34.57 |" in card
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {3}


def test_report_of_an_unfinished_run_has_no_results(run):
    for name in ("evaluation.json", "pictures.json", "metrics.csv", "spec.json", "data.json"):
        (run / name).unlink()
    report.render(run)
    assert "no evaluation yet" in (run / "report.html").read_text()
    assert "Not evaluated." in (run / "model_card.md").read_text()


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    with pytest.raises(UserError, match=r"recipe\.json"):
        report.render(tmp_path)
    assert report.main(["--run-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (34.5678, "34.57"),
        (0.0, "0.000"),
        (0.00123456, "0.001235"),
        (1e-9, "1e-09"),
        (123456.0, "123456"),
        (12345, "12,345"),
        (None, "–"),
        (float("nan"), "nan"),
        (-2.5, "-2.500"),
        (True, "True"),
    ],
)
def test_figures_have_four_digits(value, text):
    assert figure(value) == text


def test_skipped_items_by_split_or_reason():
    skipped = {"train": ["a.jpg: empty"], "test": [], "counts": 3}
    assert list(report.skipped_items(skipped)) == ["train: a.jpg: empty", "counts: 3"]
