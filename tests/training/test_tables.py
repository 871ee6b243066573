"""The table files: all load, say what the thesis prints, and mistakes in them are named."""

import re
from pathlib import Path

import pytest

from tfthesis.errors import UserError
from training.reproduction.edition import Edition
from training.reproduction.table_files import load_table, table_names

TOY = Path(__file__).with_name("toy_method.py")

GOOD = f"""
title = "Toys"
source = "Table 1"
method = "{TOY}"
seeds = [0, 1, 2]

[[columns]]
scalar = "score"
label = "score"
items = "rank < 5"

[[rows]]
label = "weak"
variant = "weak"

[[rows]]
label = "strong"
overrides = {{ skill = 0.7, style = "fancy" }}

[[claims]]
better = "strong"
than = ["weak"]

[printed."Dots"]
"weak" = {{ score = 1.5 }}
"strong" = {{ score = 2.0 }}
"""

SWEEP = f"""
title = "Width"
source = "Figure 1"
method = "{TOY}"
kind = "sweep"
parameter = "width"
values = [1, 2, 4]

[[columns]]
scalar = "score"
label = "score"

[[rows]]
label = "toy"
"""


@pytest.fixture
def load(tmp_path):
    def written(text):
        (tmp_path / "t.toml").write_text(text, encoding="utf-8")
        return load_table("t", tmp_path)

    return written


@pytest.mark.parametrize("name", table_names())
def test_every_table_loads_and_its_runs_can_be_planned(name):
    table = load_table(name)
    edition = Edition(table, table.preset)
    planned = [planned for row in table.rows for planned in edition.planned(row)]
    # What others printed is not run.
    assert len(planned) >= sum(row.kind != "cited" for row in table.rows) > 0
    assert edition.name.startswith(f"{name}-{table.preset}")


def test_tables_are_listed_in_the_order_of_the_thesis():
    names = table_names()
    assert names.index("7.2") < names.index("7.9") < names.index("7.13")
    assert names.index("fig7.9") < names.index("fig7.10")


@pytest.mark.parametrize(
    ("table", "dataset", "row", "figures"),
    [
        ("4.1", "Holidays", "DPI 6+18", {"mean_ap_ma1": 73.82, "mean_ap_ma3": 81.64, "mean_ap_ma5": 82.38}),
        ("4.1", "Paris", "DPI 7+18", {"mean_ap_ma1": 36.56, "mean_ap_ma5": 66.18, "mean_ap_ma10": 75.35}),
        ("4.1", "UKB", "DPI 7+18", {"ns_score_ma1": 3.26, "ns_score_ma5": 3.37, "ns_score_ma10": 3.32}),
        ("4.2", "Holidays", "512", {"mean_ap": 85.65}),
        ("4.4", "Holidays", "2-D DPI", {"thesis_bytes": 4152}),
        ("7.2", "CUB-Bird", "MMC-Net", {"i2t_r1": 39.2, "i2t_r5": 66.9, "i2t_r10": 76.4}),
        ("7.3", "Flowers", "MM-Net", {"t2i_r1": 32.7, "t2i_r5": 46.4, "t2i_r10": 52.9}),
        ("7.4", "MSCOCO", "MC-Net", {"mean_ap": 77.6}),
        ("7.8", "Flowers", "Only vision", {"top1": 92.2}),
    ],
)
def test_printed_figures(table, dataset, row, figures):
    assert load_table(table).printed[dataset][row] == figures


def test_printed_pascal_sentence_rows_agree_between_tables():
    """MM-Net and MMC-Net stand in Tables 7.2, 7.3, 7.6 and 7.7 of the thesis with the same figures."""
    images, texts = (load_table(name).printed["Pascal Sentence"] for name in ("7.2", "7.3"))
    fusion, pooling = (load_table(name).printed["Pascal Sentence"] for name in ("7.6", "7.7"))
    assert fusion["MM-Net, convolution"] == {**images["MM-Net"], **texts["MM-Net"]}
    assert fusion["MMC-Net, convolution"] == {**images["MMC-Net"], **texts["MMC-Net"]}
    assert pooling["MMC-Net with CBP"] == {**images["MMC-Net"], **texts["MMC-Net"]}
    coco = {**load_table("7.2").printed["MSCOCO"]["MMC-Net"], **load_table("7.3").printed["MSCOCO"]["MMC-Net"]}
    assert load_table("7.5").printed["MSCOCO"]["batch_size = 1500"] == coco
    assert load_table("7.9").printed["MSCOCO"]["MMC-Net, ResNet-152"] == coco


def test_a_good_file(load):
    table = load(GOOD)
    assert [row.label for row in table.rows] == ["weak", "strong"]
    assert table.recipe(table.row("weak"), "thesis").skill == 0.3
    assert table.recipe(table.row("strong"), "thesis").width == 8
    assert table.claims[0].columns == ("score",)
    assert table.column("score").item_terms() == [("rank", 5)]


def test_a_sweep_has_a_row_for_each_value(load):
    table = load(SWEEP)
    assert [row.label for row in table.rows] == ["width = 1", "width = 2", "width = 4"]
    assert [table.recipe(row, "quick").width for row in table.rows] == [1, 2, 4]
    assert [row.x for row in table.rows] == [1, 2, 4]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Toys"', "", "entries ['title'] are missing"),
        ('title = "Toys"', "title = 3", "t.toml: 'title' is 3, expected str"),
        ('title = "Toys"', 'titel = "Toys"', "unknown entry 'titel'. Did you mean 'title'?"),
        ("seeds = [0, 1, 2]", "seeds = [0.5]", "'seeds' is [0.5]"),
        ("seeds = [0, 1, 2]", "seeds = []", "at least one row, one column and one seed"),
        ("seeds = [0, 1, 2]", 'kind = "tabel"', "unknown 'tabel'. Did you mean 'table'?"),
        ("seeds = [0, 1, 2]", "seeds = [", "is no TOML"),
        ("seeds = [0, 1, 2]", "claims = 3", "no TOML"),
        ('[[rows]]\nlabel = "weak"', '[rows]\nlabel = "weak"', "no TOML"),
        ("seeds = [0, 1, 2]", 'kind = "sweep"', "needs 'parameter'"),
        ("skill = 0.7", "skil = 0.7", "row 'strong': unknown recipe field 'skil'. Did you mean 'skill'?"),
        ("skill = 0.7", 'skill = "much"', "row 'strong': recipe field 'skill': expected float, got str"),
        ('variant = "weak"', 'variant = "week"', "row 'weak': unknown variant 'week'. Did you mean 'weak'?"),
        ('variant = "weak"', 'kind = "rigde"', "unknown 'rigde'. Did you mean 'ridge'?"),
        ('variant = "weak"', 'kind = "count"', "needs spec.inputs"),
        ('variant = "weak"', 'folder = "x"', "'folder' needs 'data'"),
        ('label = "weak"', 'label = "strong"', "row label 'strong' appears twice"),
        ('than = ["weak"]', 'than = ["weakest"]', "claims[0]: row: unknown 'weakest'. Did you mean 'weak'?"),
        ('than = ["weak"]', 'than = ["weak"]\ncolumns = ["scorn"]', "unknown 'scorn'. Did you mean 'score'?"),
        ('"weak" = { score = 1.5 }', '"weak" = { scor = 1.5 }', "printed.Dots.weak: column: unknown 'scor'"),
        ('"weak" = { score = 1.5 }', '"week" = { score = 1.5 }', "printed.Dots: row: unknown 'week'"),
        ('items = "rank < 5"', 'items = "rank > 5"', "expected 'sample' or 'sample < number', got 'rank > 5'"),
        ('items = "rank < 5"', 'better = "bigger"', "unknown 'bigger'"),
        (str(TOY), "toy_net", "unknown method 'toy_net'"),
    ],
)
def test_mistakes_are_named(load, old, new, message):
    assert old in GOOD
    with pytest.raises(UserError, match=re.escape(message)):
        load(GOOD.replace(old, new))


def test_unknown_table_suggests_the_nearest():
    with pytest.raises(UserError, match=re.escape("unknown table '7.22'. Did you mean '7.2'?")):
        load_table("7.22")


def test_data_of_rows_cannot_be_replaced(load):
    table = load(GOOD.replace('variant = "weak"', 'data = "dots"\nfolder = "a/dots"'))
    with pytest.raises(UserError, match="rows of table t fix their data, such as 'weak'"):
        Edition(table, "quick", data="other")


def test_pages_do_not_name_places_of_this_machine(tmp_path):
    edition = Edition(load_table("flickr8k"), "quick", data_dir=tmp_path)
    assert edition.command.startswith(
        "python -m training.reproduce --table flickr8k --scale quick --data-dir DIR --seeds"
    )
    labels = {planned.data for row in edition.table.rows for planned in edition.planned(row)}
    assert labels == {"precomp@f8k_precomp", "flickr8k@flickr8k_1k"}
    assert edition.name == "flickr8k-quick"


def test_edition_names_say_what_was_changed(load, tmp_path):
    table = load(GOOD)
    assert Edition(table, "quick").name == "t-quick-dots"
    other = Edition(table, "tiny", data="stars", data_dir=tmp_path / "sky", seeds=(4,), changes=("width=3",))
    assert other.name == "t-tiny-stars@sky-width=3"
    assert other.command == (
        "python -m training.reproduce --table t --scale tiny --data stars --data-dir sky --seeds 4 --set width=3"
    )
    (planned,) = other.planned(table.row("strong"))
    assert (planned.request.recipe.width, planned.request.recipe.skill, planned.request.seed) == (3, 0.7, 4)
    assert planned.request.recipe.dataset == "stars"
