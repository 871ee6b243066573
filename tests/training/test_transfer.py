"""Features on other datasets: from the command line, from a run, and as rows of tables."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import DATA_VARIABLE
from tfthesis.discovery import load_method
from tfthesis.encoders import open_encoder
from tfthesis.errors import UserError
from tfthesis.metrics.ranked_lists import group_average_precisions, ns_hits
from tfthesis.transfer import transfer
from training import reproduce
from training import transfer as command
from training.baselines import evaluate_transfer
from training.export import load_model
from training.reproduction.comparison import assess
from training.reproduction.edition import Edition
from training.reproduction.store import ResultStore
from training.reproduction.table_files import load_table
from training.request import Request
from training.run_directory import RunDirectory
from training.run_encoder import RunEncoder

HERE = Path(__file__).parent
GROUPS, IMAGES = 5, 4


def write_image(path, colour, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 60, (20, 24, 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    path.write_bytes(tf.io.encode_png(pixels).numpy())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Groups of four noisy pictures; of a group the colour is nearly the same."""
    folder = tmp_path_factory.mktemp("photos")
    for group in range(GROUPS):
        colour = np.random.default_rng(group).integers(60, 200, 3)
        for number in range(IMAGES):
            write_image(folder / f"g{group}" / f"{number}.png", colour, 10 * group + number)
    return folder


@pytest.fixture
def damaged(photos, tmp_path):
    """The same with a picture that is cut off."""
    for file in photos.rglob("*.png"):
        copy = tmp_path / "damaged" / file.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    whole = (tmp_path / "damaged/g1/2.png").read_bytes()
    (tmp_path / "damaged/g1/2.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "damaged"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a finished run of `cfn` leaves, without training."""
    folder = tmp_path_factory.mktemp("run")
    write_run(Request.create("cfn", "tiny", seed=3), folder)
    return folder


def write_run(request, folder):
    tf.keras.utils.set_random_seed(request.seed)
    recipe = dataclasses.replace(request.recipe, scene_images=(8, 2, 2))
    data = request.method.data(recipe, "scenes", None)
    files = RunDirectory(folder)
    files.write_json("recipe.json", request.to_json())
    files.write_json("spec.json", data.spec.to_json())
    request.method.build(recipe, data.spec).save(folder / "model.keras")
    files.mark_done()


def features(encoder, files):
    rows = encoder(tf.constant([file.read_bytes() for file in files])).numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_retrieval_is_that_of_the_encoders_features(photos):
    encoder = open_encoder("pixels")
    found = transfer(encoder, "image_groups", photos)
    files = sorted(photos.rglob("*.png"))
    groups, queries = np.repeat(np.arange(GROUPS), IMAGES), np.arange(GROUPS * IMAGES)
    expected = group_average_precisions(features(encoder, files), groups, queries)
    assert 0.2 < expected.mean() < 1
    np.testing.assert_allclose(found.evaluation.samples["average_precision"], expected)
    assert found.evaluation.scalars == {"mean_ap": pytest.approx(100 * expected.mean())}
    assert found.evaluation.selection == found.evaluation.scalars["mean_ap"]
    assert "step rule, the query left out" in found.evaluation.protocol
    assert found.dataset["counts"] == {"images": 20, "groups": 5, "queries": 20}


def test_each_benchmark_has_its_rule(photos, tmp_path):
    encoder = open_encoder("pixels")
    for number, file in enumerate(sorted(photos.rglob("*.png"))):
        group, place = divmod(number, IMAGES)
        for name in (f"ukb/ukbench{number:05d}.png", f"holidays/{1000 + group}{place:02d}.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(file.read_bytes())
    groups = np.repeat(np.arange(GROUPS), IMAGES)
    vectors = features(encoder, sorted((tmp_path / "ukb").iterdir()))
    ukb = transfer(encoder, "ukbench", tmp_path / "ukb").evaluation
    assert ukb.scalars == {"ns_score": pytest.approx(ns_hits(vectors, groups, np.arange(20)).mean())}
    assert 1 <= ukb.selection < 4
    holidays = transfer(encoder, "holidays", tmp_path / "holidays").evaluation
    firsts = group_average_precisions(vectors, groups, np.arange(0, 20, IMAGES), "trapezoid")
    assert holidays.scalars == {"mean_ap": pytest.approx(100 * firsts.mean())}
    assert "trapezoid" in holidays.protocol


def test_classification_trains_on_training_and_validation_images(photos):
    encoder = open_encoder("pixels")
    options = {"train_per_class": 3}
    found = transfer(encoder, "class_folders", photos, options)
    with_val = transfer(encoder, "class_folders", photos, {**options, "val_per_class": 1})
    assert with_val.dataset["counts"] == {"train": 10, "val": 5, "test": 5}
    np.testing.assert_array_equal(found.evaluation.samples["correct"], with_val.evaluation.samples["correct"])
    assert found.evaluation.scalars["accuracy"] == 100 * found.evaluation.samples["correct"].mean() >= 60
    assert "C 1" in found.evaluation.protocol and "standardised" in found.evaluation.protocol
    other = transfer(encoder, "class_folders", photos, options, cost=0.5, standardise=False)
    assert "C 0.5" in other.evaluation.protocol and "not standardised" in other.evaluation.protocol


def test_accuracy_of_classes_counts_them_alike(photos, tmp_path):
    """Of four pictures of one class and one of each other, all are given the class of the most."""
    for number in range(8):
        write_image(tmp_path / "a" / f"{number}.png", (90, 90, 90), number)
    for name in ("b", "c"):
        for number in range(3):
            write_image(tmp_path / name / f"{number}.png", (90, 90, 90), ord(name) + 9 * number)
    scalars = transfer(open_encoder("pixels"), "class_folders", tmp_path, {"train_per_class": 2}).evaluation
    correct, labels = scalars.samples["correct"], np.array([0] * 6 + [1, 2])
    expected = 100 * np.mean([correct[labels == label].mean() for label in range(3)])
    assert scalars.scalars["mean_class_accuracy"] == pytest.approx(expected)
    assert scalars.scalars["accuracy"] == pytest.approx(100 * correct.mean())


def test_pixels_in_memory_are_encoded_as_files():
    """Drawn scenes, whose images are arrays."""
    found = transfer(open_encoder("pixels"), "scenes", None, {"images": [60, 8, 30]})
    assert found.dataset["counts"] == {"train": 60, "val": 8, "test": 30}
    assert len(found.evaluation.samples["correct"]) == 30


def test_images_that_cannot_be_read_are_left_out_and_listed(damaged):
    encoder = open_encoder("pixels")
    found = transfer(encoder, "image_groups", damaged)
    assert len(found.evaluation.samples["average_precision"]) == 19
    (line,) = found.dataset["skipped"]["items"]
    assert line.startswith("g1/2.png: ")
    files = [file for file in sorted(damaged.rglob("*.png")) if file != damaged / "g1/2.png"]
    groups = np.array([int(file.parent.name[1:]) for file in files])
    expected = group_average_precisions(features(encoder, files), groups, np.arange(19))
    np.testing.assert_allclose(found.evaluation.samples["average_precision"], expected)
    classified = transfer(encoder, "class_folders", damaged, {"train_per_class": 3})
    tested = len(classified.evaluation.samples["correct"])
    assert classified.dataset["skipped"]["count"] == 1 and tested in (4, 5)


def test_a_query_that_is_left_alone_is_listed(damaged):
    for name in ("0", "1"):
        (damaged / f"g1/{name}.png").unlink()
    found = transfer(open_encoder("pixels"), "image_groups", damaged)
    assert len(found.evaluation.samples["average_precision"]) == 16
    lines = found.dataset["skipped"]["items"]
    assert "query g1/3.png: too few images of its group are left" in lines and len(lines) == 2


def test_what_cannot_be_measured(photos, tmp_path):
    with pytest.raises(UserError, match="expected one of images, got one of texts"):
        transfer(open_encoder("hashed_words"), "image_groups", photos)
    with pytest.raises(UserError, match="Did you mean 'holidays'"):
        transfer(open_encoder("pixels"), "holiday", photos)
    for number in range(2):
        (tmp_path / "g").mkdir(exist_ok=True)
        (tmp_path / "g" / f"{number}.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match="none of 2 images can be read; the first: g/0.jpg"):
        transfer(open_encoder("pixels"), "image_groups", tmp_path)


# A run.


def test_a_run_is_the_encoder_that_it_serves(run, photos):
    encoder = RunEncoder(run)
    request = Request.from_json(RunDirectory(run).read_json("recipe.json"))
    model = load_model(run, request)
    files = sorted(photos.rglob("*.png"))[:3]
    found = encoder(tf.constant([file.read_bytes() for file in files])).numpy()
    pixels = [tf.io.decode_png(file.read_bytes()).numpy() for file in files]
    # The scenes have 32 pixels a side; a file is stretched to that.
    stretched = tf.image.resize(np.stack(pixels), (32, 32), antialias=True)
    expected = model({"image": stretched}, training=False)["feature"].numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert encoder.dimension == expected.shape[1] == 16 and encoder.name == "cfn_tiny"
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert encoder(tf.constant([], tf.string)).shape == (0, 16)


def test_other_weights_are_another_encoder(run, tmp_path):
    encoder = RunEncoder(run)
    assert RunEncoder(run).fingerprint == encoder.fingerprint
    write_run(Request.create("cfn", "tiny", seed=4), tmp_path / "other")
    assert RunEncoder(tmp_path / "other").fingerprint != encoder.fingerprint
    json.dumps(encoder.describe())


def test_a_damaged_image_does_not_fail_its_batch_in_a_run(run, damaged):
    found = transfer(RunEncoder(run), "image_groups", damaged)
    assert [line.split(":")[0] for line in found.dataset["skipped"]["items"]] == ["g1/2.png"]


def test_runs_that_are_no_encoders(tmp_path, monkeypatch, run):
    with pytest.raises(UserError, match="is not a finished run"):
        RunEncoder(tmp_path)
    cfn = load_method("cfn")
    served = cfn.signatures

    def nothing(*arguments):
        found = served(*arguments)
        del found.signatures["encode_image"]
        return found

    request = Request.from_json(RunDirectory(run).read_json("recipe.json"))
    other = dataclasses.replace(request, method=dataclasses.replace(cfn, signatures=nothing))
    monkeypatch.setattr(Request, "from_json", lambda values: other)
    with pytest.raises(UserError, match="cfn has no encode_image, only classify"):
        RunEncoder(run)


# The command.


def test_the_command_prints_and_keeps_one_result(run, photos, capsys):
    words = ["--run", str(run), "--dataset", "class_folders", "--data", str(photos), "--reader", "train_per_class=2"]
    assert command.main([*words, "--cost", "3"]) == 0
    said = capsys.readouterr()
    kept = run / f"transfer-class_folders@{photos.name}.json"
    assert said.out == kept.read_text() and f"wrote {kept}" in said.err
    values = json.loads(said.out)
    assert values["features"]["name"] == "cfn_tiny" and values["features"]["dimension"] == 16
    assert "C 3" in values["protocol"] and set(values["scalars"]) == {"accuracy", "mean_class_accuracy"}
    assert values["dataset"]["source"]["train_per_class"] == 2
    assert (
        values["scalars"]["accuracy"]
        == transfer(RunEncoder(run), "class_folders", photos, {"train_per_class": 2}, cost=3.0).evaluation.selection
    )


def test_the_command_takes_an_encoder(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--encoder", "pixels", "--dataset", "image_groups", "--data", str(photos)]
    assert command.main(words) == 0
    assert json.loads((tmp_path / f"runs/transfer/pixels-image_groups@{photos.name}.json").read_text())["scalars"]
    assert command.main([*words, "--out", str(tmp_path / "a/b.json")]) == 0
    assert json.loads((tmp_path / "a/b.json").read_text())["features"]["name"] == "pixels"
    capsys.readouterr()
    assert command.main(["--list"]) == 0
    said = capsys.readouterr().out
    assert "holidays" in said and "scene15" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "ukbench"], "give either --run or --encoder"),
        (["--run", "a", "--encoder", "pixels", "--dataset", "ukbench"], "give either --run or --encoder"),
        (["--run", "a", "--weights", "w", "--dataset", "ukbench"], "belong to --encoder"),
        (["--encoder", "pixels"], "--dataset is missing"),
        (["--encoder", "pixels", "--dataset", "ukbensh"], "Did you mean 'ukbench'"),
        (["--encoder", "pixel", "--dataset", "ukbench"], "Did you mean 'pixels'"),
        (["--encoder", "pixels", "--encoder-option", "layer", "--dataset", "ukbench"], "items such as name=value"),
        (["--encoder", "alexnet", "--encoder-option", "layer=fc6", "--dataset", "ukbench"], "give its weights"),
        (["--encoder", "pixels", "--dataset", "ukbench"], "give its folder"),
    ],
)
def test_mistakes_end_with_a_sentence(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main(words) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_does_not_load_tensorflow():
    code = (
        "import sys\nfrom training import transfer\ntransfer.parser()\nfrom training.reproduction import table_files\n"
        "sys.exit(' '.join({'tensorflow', 'sklearn', 'scipy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Tables.

TABLE = """
title = "Elsewhere"
source = "Nobody 2000, Table 1"
method = "cfn"
preset = "tiny"
seeds = [0, 1]

[[columns]]
scalar = "groups"
label = "mAP"
target = { dataset = "image_groups", folder = "photos" }

[[columns]]
scalar = "classes"
label = "accuracy"
target = { dataset = "class_folders", folder = "photos", options = ["train_per_class=2"] }
items = "classes_correct"
scales = ["tiny"]

[[columns]]
scalar = "ukb"
label = "N-S"
target = { dataset = "ukbench", folder = "missing" }
scales = ["thesis"]

[[rows]]
label = "pixels"
kind = "transfer"
encoder = "pixels"

[[rows]]
label = "run"
kind = "transfer"

[[rows]]
label = "other"
kind = "transfer"
encoder = "alexnet"
weights = "alexnet.npz"
scales = ["thesis"]

[[claims]]
better = "run"
than = ["pixels"]
columns = ["groups", "classes"]

[printed."There"]
"other" = { ukb = 3.5 }
"""


@pytest.fixture
def table(tmp_path, photos, monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/elsewhere.toml").write_text(TABLE, encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/photos").symlink_to(photos)
    return tmp_path


def make(folder, trained, *options):
    def train(request, path):
        trained.append(request.seed)
        if not (path / "DONE").exists():
            write_run(request, path)

    words = ["--table", "elsewhere", "--tables", str(folder / "tables"), "--out", str(folder / "results"), *options]
    return reproduce.main(
        [*words, "--runs-root", str(folder / "runs"), "--data-dir", str(folder / "data")], train=train
    )


def test_rows_of_a_table_are_features_elsewhere(table, photos, capsys):
    trained = []
    assert make(table, trained) == 0
    assert trained == [0, 1]
    edition = Edition(load_table("elsewhere", table / "tables"), "tiny", data_dir=table / "data")
    outcome = assess(edition, ResultStore(table / "results"))
    pixels, run, other = outcome.rows
    assert outcome.complete and [column.scalar for column in outcome.columns] == ["groups", "classes"]
    expected = transfer(open_encoder("pixels"), "image_groups", photos).evaluation.selection
    assert pixels.summary("groups").mean == pytest.approx(expected) and pixels.summary("groups").deviation is None
    folders = [planned.request.folder(table / "runs") for planned in edition.planned(run.row)]
    values = [transfer(RunEncoder(folder), "image_groups", photos).evaluation.selection for folder in folders]
    assert run.summary("groups").mean == pytest.approx(np.mean(values)) and values[0] != values[1]
    assert (
        not other.records and "| pixels | " in (text := capsys.readouterr().out) and "| There | other | 3.5 |" in text
    )
    assert [claim.remark for claim in outcome.claims] == ["", ""]
    assert make(table, trained) == 0 and trained == [0, 1]


def test_results_do_not_name_the_machine_and_do_not_collide(table):
    make(table, [])
    records = ResultStore(table / "results").records
    assert len(records) == 3 and str(table) not in json.dumps([record.to_json() for record in records])
    assert sorted(record.data for record in records) == ["none", "scenes", "scenes"]
    text = (table / "tables/elsewhere.toml").read_text().replace("train_per_class=2", "train_per_class=3")
    (table / "tables/elsewhere.toml").write_text(text)
    trained = []
    assert make(table, trained) == 0
    # Other targets are other results, of the same networks; the earlier ones stay.
    assert trained == [0, 1] and len(ResultStore(table / "results").records) == 6


def test_what_is_missing_is_said_before_anything_is_trained(table, capsys):
    trained = []
    (table / "data/photos").unlink()
    assert make(table, trained) == 1
    assert trained == [] and "photos; name the one that holds it with --data-dir" in capsys.readouterr().err
    (table / "data/photos").mkdir()
    (table / "data/missing").mkdir()
    assert make(table, trained, "--scale", "thesis") == 1
    assert "alexnet.npz; name the folder that holds it" in capsys.readouterr().err


def test_targets_lie_below_the_folder_of_the_variable(table, monkeypatch):
    edition = Edition(load_table("elsewhere", table / "tables"), "tiny")
    assert edition.planned(edition.table.row("run"))[0].root is None
    monkeypatch.setenv(DATA_VARIABLE, str(table / "data"))
    (planned, _) = edition.planned(edition.table.row("run"))
    assert planned.root == table / "data" and planned.request.data_dir is None
    assert edition.command.endswith("--scale tiny --data-dir DIR --seeds 0,1")
    found = evaluate_transfer(None, {**planned.settings, "encoder": "pixels", "weights": ""}, planned.root)
    assert set(found.evaluation.scalars) == {"groups", "classes"} and "classes_correct" in found.evaluation.samples


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'dataset = "ukbench", folder',
            'datasett = "ukbench", folder',
            "target: unknown 'datasett'. Did you mean 'dataset'",
        ),
        ('dataset = "ukbench", folder', "folder", "target: entry 'dataset' is missing"),
        ('scales = ["tiny"]', 'scales = ["tinny"]', "scales: unknown 'tinny'. Did you mean 'tiny'"),
        ('encoder = "alexnet"\n', "", "'weights' needs 'encoder'"),
        ('kind = "transfer"\nencoder = "pixels"', 'encoder = "pixels"', "'encoder' needs kind 'transfer'"),
    ],
)
def test_mistakes_in_a_table_are_named(table, old, new, message):
    assert old in TABLE
    (table / "tables/elsewhere.toml").write_text(TABLE.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_table("elsewhere", table / "tables")


def test_a_scale_without_targets_is_refused(table):
    (table / "tables/elsewhere.toml").write_text(TABLE.replace("\ntarget = ", "\nscales = ['tiny']\ntarget = ", 1))
    loaded = load_table("elsewhere", table / "tables")
    with pytest.raises(UserError, match="no column has a target at scale 'quick'"):
        Edition(loaded, "quick").planned(loaded.row("run"))


def test_printed_figures_of_table_2_6():
    printed = load_table("2.6").printed["ImageNet"]
    assert printed["CFN-11"] == {
        **{"scene15": 86.83, "indoor67": 62.24, "flower": 82.57, "bird": 48.12, "holidays": 80.32, "ukb": 3.54}
    }
    assert printed["AlexNet"]["flower"] == 78.68 and printed["CNN-11"]["holidays"] == 78.33
