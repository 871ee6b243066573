"""The life of an index, on an export whose encoders count words and average colours."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.client import Client, ClientError
from serving.index.command import main
from serving.index.item_store import FILE, ItemStore, StoredItem, changing
from serving.index.items import read_items
from serving.index.published import wait_until_served
from tfthesis.errors import UserError
from tfthesis.export.manifest import read_manifest
from tfthesis.export.saved_model import write_saved_model
from tfthesis.export.session import open_session
from tfthesis.method import Gallery, Served, Signature
from tfthesis.retrieval import scann_neighbours
from tfthesis.retrieval.exact import ExactNeighbours

ROOT = Path(__file__).parents[2]
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class Encoders(tf.Module):
    """Words and colours in one space of three numbers; a variable and a table stand for weights and a vocabulary."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable([1.0, 1.0, 1.0])
        keys = tf.constant(list(COLOURS))
        values = tf.constant([0, 1, 2], tf.int64)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1)

    def text(self, text):
        words = self.table.lookup(tf.strings.split(text).to_tensor(""))
        return {"embedding": tf.reduce_sum(tf.one_hot(words, 3), 1) * self.scale}

    def image(self, image):
        def mean(data):
            pixels = tf.io.decode_image(data, channels=3, expand_animations=False)
            return tf.reduce_mean(tf.cast(pixels, tf.float32), [0, 1]) / 255.0

        return {"embedding": tf.map_fn(mean, image, fn_output_signature=tf.TensorSpec([3], tf.float32)) * self.scale}


def picture(colour):
    pixels = np.broadcast_to(np.uint8(colour), (8, 8, 3))
    return tf.io.encode_png(pixels).numpy()


def write_export(folder):
    encoders = Encoders()
    old = ExactNeighbours(Gallery(["old"], np.ones((1, 3), np.float32), ["old"]))
    text, image = tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.string)
    texts = {"text": np.array([b"red"], object)}
    signatures = {
        "search_by_text": Signature(
            lambda text: old.search(encoders.text(text)["embedding"], 20), {"text": text}, texts, "old items"
        ),
        "encode_text": Signature(lambda text: encoders.text(text), {"text": text}, texts, "words"),
        "encode_image": Signature(
            lambda image: encoders.image(image),
            {"image": image},
            {"image": np.array([picture((9, 9, 9))], object)},
            "colours",
        ),
        # Of features, as exports of image-text methods have it beside the others; nothing in an index asks so.
        "encode_image_features": Signature(
            lambda image: {"embedding": image * encoders.scale},
            {"image": tf.TensorSpec([None, 3], tf.float32)},
            {"image": np.ones((1, 3), np.float32)},
            "means of colours",
        ),
    }
    metadata = {"model": {"fingerprint": "f" * 64}, "index": {}}
    return write_saved_model(Served(signatures, [encoders, old]), folder / "model", metadata=metadata)


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("exports"))


@pytest.fixture
def photos(tmp_path):
    """A folder of one picture of each colour."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, colour in COLOURS.items():
        (folder / f"{name}.png").write_bytes(picture(colour))
    return folder


@pytest.fixture
def run(tmp_path, capsys):
    """Return a function that runs a command on the index of the test and returns its code and output."""

    def command(name, *arguments):
        code = main([name, "--index", str(tmp_path / "index"), *map(str, arguments)])
        out = capsys.readouterr()
        return code, out.out + out.err

    return command


@pytest.fixture
def built(run, export, photos, tmp_path):
    code, text = run(
        "build", "--export", export, "--items", photos, "--name", "photos", "--models", tmp_path / "models"
    )
    assert code == 0, text
    return tmp_path / "models" / "photos"


def search(version, text):
    """Return ids and scores of the answer to one text."""
    with open_session(version) as model:
        answer = model.callable("search_by_text")({"text": np.array([text.encode()], object)})
    return [name.decode() for name in answer["ids"][0]], answer["scores"][0]


def write_lines(file, *items):
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    return file


def test_index_of_a_folder_answers_with_its_images(built, export):
    ids, scores = search(built / "1", "green green blue")
    assert ids == ["green.png", "blue.png", "red.png"]
    np.testing.assert_allclose(scores, [2, 1, 0])
    manifest = read_manifest(built / "1")["metadata"]
    assert manifest["items"]["count"] == 3
    assert manifest["items"]["export"]["sha256"] == read_manifest(export)["sha256"]
    assert manifest["model"]["fingerprint"] == "f" * 64
    assert manifest["index"]["image"]["dimension"] == 3


def test_encoders_stay_and_old_items_go(built, export):
    with open_session(built / "1") as model, open_session(export) as before:
        texts = {"text": np.array([b"red blue", b""], object)}
        np.testing.assert_array_equal(
            model.callable("encode_text")(texts)["embedding"], before.callable("encode_text")(texts)["embedding"]
        )
    assert "old" not in search(built / "1", "red")[0]
    variables = tf.train.list_variables(str(built / "1" / "variables" / "variables"))
    # The scale, and vectors, ids and payloads of the new items; nothing of the old ones.
    assert len([name for name, _ in variables if name.endswith("VARIABLE_VALUE")]) == 4


def test_texts_and_images_are_searched_by_each_other(run, export, photos, tmp_path):
    file = write_lines(
        tmp_path / "items.jsonl",
        {"id": "r", "image": "photos/red.png", "payload": "a red square"},
        {"id": "t1", "text": "blue"},
        {"id": "t2", "text": "red red", "payload": "two"},
    )
    arguments = ("--export", export, "--items", file, "--name", "both", "--models", tmp_path / "models")
    assert run("build", *arguments)[0] == 0
    with open_session(tmp_path / "models" / "both" / "1") as model:
        answer = model.callable("search_by_image")({"image": np.array([picture(COLOURS["red"])], object)})
        assert answer["ids"].tolist() == [[b"t2", b"t1"]]
        assert answer["payload"].tolist() == [[b"two", b"blue"]]
        assert (
            model.callable("search_by_text")({"text": np.array([b"red"], object)})["payload"][0][0] == b"a red square"
        )


def test_images_are_searched_by_images_where_nothing_encodes_texts(run, photos, tmp_path):
    encoders, images = Encoders(), tf.TensorSpec([None], tf.string)
    example = {"image": np.array([picture((9, 9, 9))], object)}
    signatures = {
        "encode_image": Signature(encoders.image, {"image": images}, example, ""),
        "brightness": Signature(
            lambda image: {"value": tf.reduce_sum(encoders.image(image)["embedding"], 1)},
            {"image": images},
            example,
            "",
        ),
    }
    export = write_saved_model(
        Served(signatures, [encoders]), tmp_path / "exports", metadata={"model": {}, "index": {}}
    )
    arguments = ("--export", export, "--items", photos, "--name", "photos", "--models", tmp_path / "models")
    assert run("build", *arguments)[0] == 0
    asked = {"image": np.array([picture(COLOURS["red"])], object)}
    with open_session(tmp_path / "models" / "photos" / "1") as model:
        assert model.callable("search_by_image")(asked)["ids"][0][0] == b"red.png"
        # What does not search is served as before.
        assert model.callable("brightness")(asked)["value"] == pytest.approx(1.0)


def test_items_come_and_go_and_every_change_is_a_version(run, built, photos, tmp_path):
    (photos / "more" / "purple.png").write_bytes(picture((255, 0, 255)))
    assert run("add", "--items", photos / "more")[0] == 0
    assert search(built / "2", "red blue")[0][0] == "purple.png"
    assert run("remove", "--id", "red.png", "--id", "purple.png")[0] == 0
    assert sorted(search(built / "3", "red")[0]) == ["blue.png", "green.png"]
    assert sorted(search(built / "1", "red")[0]) == ["blue.png", "green.png", "red.png"]


def test_item_that_comes_again_replaces_the_old_one_in_a_new_row(run, built, photos, tmp_path):
    def rows():
        with ItemStore(tmp_path / "index") as store:
            return dict(store._rows("SELECT id, row FROM items"))

    before = rows()
    (photos / "red.png").write_bytes(picture(COLOURS["blue"]))
    assert run("add", "--items", photos)[0] == 0
    after = rows()
    assert set(before) == set(after)
    assert min(after.values()) > max(before.values())
    ids, scores = search(built / "2", "blue")
    assert (set(ids[:2]), scores[1]) == ({"red.png", "blue.png"}, 1.0)


def test_changes_may_be_left_to_a_rebuild(run, built, tmp_path):
    assert run("remove", "--id", "red.png", "--later")[0] == 0
    assert not (built / "2").exists()
    assert "rebuild" in run("verify")[1]
    assert run("rebuild")[0] == 0
    assert len(search(built / "2", "red")[0]) == 2
    assert run("rebuild") == (0, "no item changed since the last version\n")
    assert not (built / "3").exists()


def test_rollback_hides_versions_and_never_gives_a_number_again(run, built):
    for name in ("red.png", "green.png"):
        assert run("remove", "--id", name)[0] == 0
    assert run("rollback")[0] == 0
    assert sorted(path.name for path in built.iterdir()) == [".taken-back-3", "1", "2"]
    assert run("rollback", "--to", "1")[0] == 0
    code, text = run("rollback")
    assert code == 1
    assert "no lower version" in text
    assert run("rollback", "--to", "9")[0] == 1
    for hidden in built.glob(".taken-back-*"):
        shutil.rmtree(hidden)
    assert run("add", "--items", built.parents[1] / "photos")[0] == 0
    assert sorted(path.name for path in built.iterdir() if path.name.isdigit()) == ["1", "4"]


def test_rollback_hides_the_highest_version_first(run, built, monkeypatch):
    """At every moment the highest version that is left is served."""
    for name in ("red.png", "green.png"):
        assert run("remove", "--id", name)[0] == 0
    moved, rename = [], Path.rename

    def watch(path, target):
        moved.append(path.name)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watch)
    assert run("rollback", "--to", "1")[0] == 0
    assert moved == ["3", "2"]


def test_dry_run_says_what_it_takes_and_makes_nothing(run, export, photos, tmp_path):
    arguments = ("--export", export, "--items", photos, "--name", "photos", "--models", tmp_path / "models")
    code, text = run("build", *arguments, "--dry-run")
    assert code == 0
    assert "3 items of 3 numbers" in text
    assert "encoding takes about 0 s here" in text
    assert not (tmp_path / "index").exists()
    assert not (tmp_path / "models").exists()


def test_scann_below_the_bound_is_refused_and_nothing_is_published(run, export, tmp_path, monkeypatch):
    monkeypatch.setattr(scann_neighbours.ScannNeighbours, "tune", lambda self, exact, queries: 0.8)
    generator = np.random.default_rng(0)
    texts = {" ".join(generator.choice(["red", "green", "blue"], 12).tolist() + ["."] * n) for n in range(1100)}
    items = ({"id": str(number), "text": text} for number, text in enumerate(sorted(texts)))
    file = write_lines(tmp_path / "items.jsonl", *items)
    arguments = ("--export", export, "--items", file, "--name", "poor", "--models", tmp_path / "models")
    code, text = run("build", *arguments, "--kind", "scann")
    assert code == 1
    assert "recall@10 0.800, below --min-recall 0.9" in text
    assert not (tmp_path / "models" / "poor").exists()
    # Above the bound, but below what makes it worth while: the exact search, and the reason is logged.
    assert run("build", *arguments, "--kind", "scann", "--min-recall", "0.7")[0] == 0
    manifest = read_manifest(tmp_path / "models" / "poor" / "1")["metadata"]
    assert manifest["index"]["text"]["kind"] == "exact"


@pytest.mark.parametrize("bound", ["nan", "-0.1", "1.5", "much"])
def test_bounds_that_refuse_nothing(run, bound):
    with pytest.raises(SystemExit):
        run("build", "--export", ".", "--items", ".", "--name", "m", "--min-recall", bound)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index, built, export: (index / FILE).write_bytes(b"not a database" * 100), "damaged"),
        (lambda index, built, export: os.truncate(index / FILE, 2000), "damaged"),
        (lambda index, built, export: (built / "1" / "saved_model.pb").write_bytes(b"x"), "damaged"),
        (lambda index, built, export: flip(next((built / "1" / "variables").glob("*.data*"))), "damaged"),
        (lambda index, built, export: (index / FILE).unlink(), "no such file"),
    ],
)
def test_damage_is_found(run, built, export, tmp_path, change, message):
    assert run("verify")[0] == 0
    change(tmp_path / "index", built, export)
    code, text = run("verify")
    assert code == 1
    assert message in text


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def test_flipped_bit_of_a_vector_is_found_before_it_is_published(run, built, tmp_path):
    with ItemStore(tmp_path / "index") as store:
        vector = bytearray(store._rows("SELECT vector FROM items WHERE id = 'red.png'")[0][0])
    file = tmp_path / "index" / FILE
    data = file.read_bytes()
    assert data.count(bytes(vector)) == 1
    changed = bytes([vector[0] ^ 1]) + bytes(vector[1:])
    file.write_bytes(data.replace(bytes(vector), changed))
    for command in ("verify", "remove"):
        code, text = run(command, *(("--id", "blue.png") if command == "remove" else ()))
        assert code == 1
        assert "'red.png' is damaged" in text
    assert not (built / "2").exists()


def test_another_export_in_its_place_is_refused(run, photos, tmp_path):
    export = write_export(tmp_path / "own")
    arguments = ("--export", export, "--items", photos, "--name", "photos", "--models", tmp_path / "models")
    assert run("build", *arguments)[0] == 0
    manifest = json.loads((export / "manifest.json").read_text())
    from tfthesis.export.manifest import write_manifest

    write_manifest(export, {**manifest, "metadata": {"model": {"fingerprint": "0" * 64}}})
    code, text = run("add", "--items", photos)
    assert code == 1
    assert "another export" in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[]", "an object of strings"),
        ('{"id": 3, "text": "a"}', "an object of strings"),
        ('{"text": "a"}', "expected 'id'"),
        ('{"id": "a"}', "expected 'id'"),
        ('{"id": "a", "text": "a", "image": "b"}', "expected 'id'"),
        ('{"id": "a", "text": "a", "colour": "b"}', "colour"),
        ('{"id": "a", "text": "a"}\n{"id": "a", "text": "b"}', "two texts have the id 'a'"),
        ("", "no items"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path, line, message):
    file = tmp_path / "items.jsonl"
    file.write_text(line)
    with pytest.raises(UserError, match=message):
        read_items(file)


def test_bad_images_leave_nothing_behind(run, export, photos, built, tmp_path):
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n")
    (photos / "missing.jsonl").write_text('{"id": "m", "image": "nowhere.png"}')
    for items in (photos, photos / "missing.jsonl"):
        code, text = run("add", "--items", items)
        assert code == 1, text
    with ItemStore(tmp_path / "index") as store:
        assert store.count() == 3
    assert not (built / "2").exists()


@pytest.mark.parametrize(
    ("vector", "message"), [([1, 2], "expected a vector of 3"), ([1, np.nan, 0], "NaN"), ([], "expected a vector")]
)
def test_unfit_vectors_are_refused_whole(tmp_path, vector, message):
    ItemStore.create(tmp_path, {"dimension": 3})
    with ItemStore(tmp_path) as store:
        good = StoredItem("text", "good", "", np.ones(3))
        with pytest.raises(UserError, match=message):
            store.upsert([good, StoredItem("text", "bad", "", np.array(vector))])
        assert store.count() == store.sequence() == 0


def test_removing_what_is_not_there_removes_nothing(run, built, tmp_path):
    code, text = run("remove", "--id", "red.png", "--id", "nobody")
    assert code == 1
    assert "'nobody' is not in the index" in text
    with ItemStore(tmp_path / "index") as store:
        assert store.count() == 3


def test_one_command_at_a_time(run, built, tmp_path, monkeypatch):
    from serving.index import item_store

    monkeypatch.setattr(item_store, "_WAIT_SECONDS", 0.2)
    with changing(tmp_path / "index"):
        code, text = run("remove", "--id", "red.png")
    assert code == 1
    assert "another command" in text


@pytest.mark.parametrize("command", ["add", "remove", "rebuild", "verify", "rollback"])
def test_commands_on_no_index(run, photos, command):
    arguments = {"add": ("--items", photos), "remove": ("--id", "red.png")}.get(command, ())
    code, text = run(command, *arguments)
    assert code == 1
    assert "make an index first" in text


def test_file_that_somebody_else_writes_is_not_called_damaged(run, built, tmp_path, monkeypatch):
    from serving.index import item_store

    monkeypatch.setattr(item_store, "_BUSY_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(tmp_path / "index" / FILE)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for command, *arguments in (("remove", "--id", "red.png", "--later"), ("verify",)):
            code, text = run(command, *arguments)
            assert code == 1
            assert "database is locked" in text
            assert "damaged" not in text
    assert run("verify")[0] == 0


@pytest.mark.parametrize("command", ["add", "remove", "rebuild"])
def test_damaged_items_are_told_by_every_command(run, built, photos, tmp_path, command):
    file = tmp_path / "index" / FILE
    data = file.read_bytes()
    file.write_bytes(data[:4096] + b"\0" * (len(data) - 4096))
    arguments = {"add": ("--items", photos), "remove": ("--id", "red.png"), "rebuild": ("--force",)}[command]
    code, text = run(command, *arguments)
    assert code == 1
    assert "damaged" in text
    assert not (built / "2").exists()


def test_refused_build_leaves_nothing_and_can_be_repeated(run, export, tmp_path, monkeypatch):
    from serving.index import published

    def fail(*arguments, **options):
        raise UserError("below the bound")

    file = write_lines(tmp_path / "items.jsonl", {"id": "a", "image": "a.png"})
    (tmp_path / "a.png").write_bytes(picture(COLOURS["red"]))
    arguments = ("--export", export, "--items", file, "--name", "photos", "--models", tmp_path / "models")
    with monkeypatch.context() as patch:
        patch.setattr(published, "assemble", fail)
        assert run("build", *arguments)[0] == 1
        assert not (tmp_path / "index" / FILE).exists()
    # Killed between the items and their first version.
    with monkeypatch.context() as patch:
        patch.setattr(published, "assemble", lambda *arguments, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run("build", *arguments)
        assert (tmp_path / "index" / FILE).exists()
    assert run("build", *arguments)[0] == 0
    assert search(tmp_path / "models" / "photos" / "1", "red")[0] == ["a"]
    code, text = run("build", *arguments)
    assert code == 1
    assert "has versions already" in text
    code, text = run("build", *arguments[:-3], "other", *arguments[-2:])
    assert code == 1
    assert "is an index already" in text
    shutil.rmtree(tmp_path / "models" / "photos")
    code, text = run("build", *arguments)
    assert code == 1
    assert "is an index already" in text


def test_flipped_bit_of_a_small_copy_is_found(run, built, tmp_path):
    with ItemStore(tmp_path / "index") as store:
        small = store.thumbnail("red.png")
    file = tmp_path / "index" / FILE
    data = file.read_bytes()
    # The same picture may be there three times; the first is enough.
    place = data.index(small) + len(small) // 2
    file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    code, text = run("verify")
    assert code == 1
    assert "is damaged" in text


def test_taken_back_version_is_told_and_can_be_published_again(run, built):
    assert run("remove", "--id", "red.png")[0] == 0
    assert run("rollback")[0] == 0
    assert "the newest version was taken back" in run("verify")[1]
    assert "no item changed" in run("rebuild")[1]
    assert run("rebuild", "--force")[0] == 0
    assert sorted(search(built / "3", "red")[0]) == ["blue.png", "green.png"]
    assert "taken back" not in run("verify")[1]


def test_scann_is_built_and_served_by_command(run, export, tmp_path, monkeypatch):
    # Whether it pays depends on the machine; here it always does.
    monkeypatch.setattr(scann_neighbours, "SPEED_TARGET", 0.0)
    generator = np.random.default_rng(0)
    counts = np.unique(generator.integers(0, 20, (1600, 3)), axis=0)
    texts = (" ".join(["red"] * r + ["green"] * g + ["blue"] * b + ["."]) for r, g, b in counts.tolist())
    items = ({"id": f"{r}-{g}-{b}", "text": text} for (r, g, b), text in zip(counts.tolist(), texts, strict=True))
    file = write_lines(tmp_path / "items.jsonl", *items)
    arguments = ("--export", export, "--items", file, "--name", "many", "--models", tmp_path / "models")
    code, text = run("build", *arguments, "--kind", "scann", "--min-recall", "0.5")
    assert code == 0, text
    version = tmp_path / "models" / "many" / "1"
    metadata = read_manifest(version)["metadata"]
    assert metadata["index"]["text"]["kind"] == "scann"
    assert metadata["items"]["count"] == len(counts)
    with open_session(version) as model:
        answer = model.callable("search_by_image")({"image": np.array([picture((255, 0, 0))], object)})
    assert answer["scores"][0][0] == counts[:, 0].max()


def test_images_have_small_copies(built, tmp_path):
    with ItemStore(tmp_path / "index") as store:
        small = tf.io.decode_jpeg(store.thumbnail("red.png")).numpy()
        assert store.thumbnail("nobody") is None
    assert small.shape == (8, 8, 3)
    assert small[..., 0].min() > 240


def test_waiting_for_the_server_and_queries_through_a_rebuild(run, built, photos, serve, tmp_path):
    (photos / "more" / "grey.png").write_bytes(picture((200, 200, 200)))
    stop = threading.Event()
    with serve(tmp_path / "models") as stub:

        def ask(own):
            try:
                with Client(port=stub.port, model="photos") as client:
                    while not stop.is_set():
                        own.append(tuple(hit.id for hit in client.search_by_text(["red green"])[0]))
            except ClientError as error:
                own.append(error)

        answers = [[] for _ in range(8)]
        threads = [threading.Thread(target=ask, args=(own,)) for own in answers]
        for thread in threads:
            thread.start()
        code, text = run("add", "--items", photos / "more", "--wait", f"127.0.0.1:{stub.port}")
        assert code == 0, text
        assert "version 2 is served" in text
        time.sleep(0.2)
        code, text = run("rollback", "--wait", f"127.0.0.1:{stub.port}")
        assert code == 0, text
        time.sleep(0.2)
        stop.set()
        for thread in threads:
            thread.join()
    old, new = ("green.png", "red.png", "blue.png"), ("grey.png", "green.png", "red.png", "blue.png")
    for own in answers:
        # Each client went from the old answer to the new one and back, and got nothing else, an error least of all.
        assert [answer for answer, _ in itertools.groupby(own)] == [old, new, old]


def test_waiting_for_a_version_that_does_not_load(run, built, serve, tmp_path):
    assert run("remove", "--id", "red.png")[0] == 0
    with serve(tmp_path / "models") as stub:
        (built / "2" / "manifest.json").unlink()
        (built / "2" / "saved_model.pb").write_bytes(b"x")
        (built / "2").rename(built / "3")
        with pytest.raises(UserError, match="version 3 does not load"):
            wait_until_served(f"127.0.0.1:{stub.port}", "photos", 3, 20, print)


def test_waiting_in_vain(run, built, free_port):
    address = f"127.0.0.1:{free_port}"
    code, text = run("remove", "--id", "red.png", "--wait", address, "--wait-seconds", "0.3")
    assert code == 1
    assert f"not served at {address} after 0.3 s" in text
    assert run("rollback", "--wait", "nowhere")[0] == 1


def items_of(store):
    """Return the vector of each item by its id."""
    galleries = store.galleries()
    if not galleries:
        return {}
    return dict(zip(galleries["image"].ids, galleries["image"].vectors.tolist(), strict=True))


def check_killed(built, photos, tmp_path, rounds):
    """Kill commands at random moments, and compare what is left with the sets that the test itself keeps."""
    generator = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    index = ("--index", str(tmp_path / "index"))
    expected = {f"{name}.png": [float(value > 0) for value in colour] for name, colour in COLOURS.items()}
    for number in range(rounds):
        kind = ("add", "remove", "rebuild")[number % 3]
        arguments, after = (), dict(expected)
        if kind == "add":
            colours = generator.integers(0, 256, (6, 3))
            lines = []
            for place, colour in enumerate(colours.tolist()):
                (photos / f"{number}-{place}.png").write_bytes(picture(colour))
                lines.append({"id": f"{number}-{place}", "image": f"{number}-{place}.png"})
                after[f"{number}-{place}"] = (np.float32(colour) / np.float32(255)).tolist()
            arguments = ("--items", str(write_lines(photos / f"{number}.jsonl", *lines)))
        elif kind == "remove":
            gone = generator.choice(sorted(expected), 2, replace=False).tolist()
            arguments = ("--id", gone[0], "--id", gone[1])
            after = {name: vector for name, vector in expected.items() if name not in gone}
        command = [sys.executable, "-m", "serving.index", kind, *index, *arguments]
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT, stdout=subprocess.DEVNULL
        )
        try:
            finished = process.wait(generator.uniform(1.0, 7.0)) == 0
            assert finished
        except subprocess.TimeoutExpired:
            finished = False
            process.send_signal(signal.SIGKILL)
            process.wait()
        with ItemStore(tmp_path / "index") as store:
            store.verify()
            found = items_of(store)
        same = [names for names in (expected, after) if set(names) == set(found)]
        assert same
        assert not finished or set(found) == set(after)
        expected = same[0]
        for name, vector in expected.items():
            np.testing.assert_allclose(found[name], vector, atol=1e-6)
    assert main(["rebuild", *index, "--force"]) == 0
    assert main(["verify", *index]) == 0
    newest = built / str(max(int(path.name) for path in built.iterdir() if path.name.isdigit()))
    names = sorted(expected)
    vectors = np.float32([expected[name] for name in names])
    for query in ("red", "green", "blue", "red red green", "green blue blue"):
        weights = np.float32([query.split().count(colour) for colour in COLOURS])
        scores = vectors @ weights
        ids, answered = search(newest, query)
        np.testing.assert_allclose(answered, np.sort(scores)[::-1][: len(ids)], rtol=1e-5)
        assert len(ids) == min(20, len(names))
        for name, score in zip(ids, answered, strict=True):
            np.testing.assert_allclose(score, scores[names.index(name)], rtol=1e-5)


def test_killed_commands_leave_the_old_or_the_new_items(built, photos, tmp_path):
    check_killed(built, photos, tmp_path, 3)


@pytest.mark.slow
def test_many_killed_commands_leave_the_old_or_the_new_items(built, photos, tmp_path):
    check_killed(built, photos, tmp_path, 30)


def test_periodic_rebuild_ends_when_told(run, built, tmp_path):
    assert run("remove", "--id", "red.png", "--later")[0] == 0
    command = [sys.executable, "-m", "serving.index", "rebuild", "--index", str(tmp_path / "index"), "--every", "0.2"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT) as process:
        end = time.monotonic() + 60
        while not (built / "2").exists() and time.monotonic() < end:
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == 0
    assert (built / "2").exists()
    assert not (built / "3").exists()


def test_periodic_rebuild_survives_what_fails_once(run, built, tmp_path, monkeypatch, capsys):
    from serving.index import command as module
    from serving.index import published

    rounds, rebuild = [], published.rebuild

    class Clock(threading.Event):
        def wait(self, seconds):
            rounds.append(seconds)
            return len(rounds) == 3

    def fail_first(store):
        if not rounds:
            raise UserError("the disk is full")
        return rebuild(store)

    assert run("remove", "--id", "red.png", "--later")[0] == 0
    monkeypatch.setattr(module.threading, "Event", Clock)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    monkeypatch.setattr(published, "rebuild", fail_first)
    code, text = run("rebuild", "--every", "1")
    assert code == 0
    assert "the disk is full" in text
    assert (built / "2").exists()


def test_readers_are_not_kept_out_while_items_are_encoded(built, tmp_path, monkeypatch):
    from serving.index import item_store

    monkeypatch.setattr(item_store, "_BUSY_SECONDS", 0.0)
    seen = []

    def slowly():
        # More than SQLite keeps in memory, so that it writes meanwhile.
        for number in range(3000):
            yield StoredItem("text", f"t{number}", "x" * 2000, np.ones(3))
            if number % 500 == 499:
                with ItemStore(tmp_path / "index") as reader:
                    seen.append(reader.count())

    with ItemStore(tmp_path / "index") as store:
        assert store.upsert(slowly()) == 3000
        assert store.count() == 3003
        store.verify()
    assert seen == [3] * 6


def test_items_that_the_log_does_not_lead_to_are_found(run, built, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "index" / FILE)) as database, database:
        database.execute("DELETE FROM items WHERE id = 'red.png'")
    code, text = run("verify")
    assert code == 1
    assert "not those that its log leads to" in text


def test_old_versions_and_remains_are_deleted_where_that_is_asked_for(run, built):
    (built / ".unfinished-of-a-killed-command").mkdir()
    for name in ("red.png", "green.png"):
        assert run("remove", "--id", name)[0] == 0
    assert sorted(path.name for path in built.iterdir()) == ["1", "2", "3"]
    assert run("rollback")[0] == 0
    code, text = run("rebuild", "--force", "--keep", "2")
    assert code == 0
    assert sorted(path.name for path in built.iterdir()) == ["2", "4"]
    assert "deleted 1" in text
