"""An index over several servers, and the client that merges their answers."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.client import Client, ClientError, Hit
from serving.client_command import main as ask
from serving.index import assemble
from serving.index.command import main
from serving.index.item_store import ItemStore
from serving.sharded import RESULTS, ShardedClient, _best, parse_address
from tests.serving.test_index import picture, write_export
from tfthesis.matching import served

SHARDS = 3
COUNT = 75


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folder of an export, of pictures of distinct colours, of one index of all, and of three of a third each."""
    folder = tmp_path_factory.mktemp("shards")
    generator = np.random.default_rng(0)
    lines = []
    for number, colour in enumerate(generator.permutation(256 * 3)[:COUNT]):
        values = np.unravel_index(int(colour), (256, 3))
        (folder / f"{number}.png").write_bytes(picture((values[0], 17 * values[1], number)))
        lines.append({"id": f"item {number}", "image": f"{number}.png", "payload": f"picture {number}"})
    lines += [{"id": f"text {number}", "text": "red " * number + "blue"} for number in range(6)]
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    export = write_export(folder / "export")
    for name, shard in (("all", "1/1"), *((f"shard{k}", f"{k}/{SHARDS}") for k in range(1, SHARDS + 1))):
        arguments = ("--export", export, "--items", folder / "items.jsonl", "--name", "photos", "--shard", shard)
        paths = ("--index", folder / name / "index", "--models", folder / name / "models")
        assert main(["build", *map(str, (*arguments, *paths))]) == 0
    return folder


@pytest.fixture(scope="module")
def servers(world, serve):
    """The server of all items, and the addresses of those of the shards."""
    with contextlib.ExitStack() as stack:
        whole = stack.enter_context(serve(world / "all" / "models"))
        shards = [stack.enter_context(serve(world / f"shard{k}" / "models")) for k in range(1, SHARDS + 1)]
        yield whole, [f"127.0.0.1:{stub.port}" for stub in shards]


def ids(folder):
    with ItemStore(folder / "index") as store:
        return {name for gallery in store.galleries().values() for name in gallery.ids}


def test_every_item_is_in_one_shard(world):
    shards = [ids(world / f"shard{k}") for k in range(1, SHARDS + 1)]
    assert sum(map(len, shards)) == COUNT + 6
    assert set.union(*shards) == ids(world / "all")
    assert min(map(len, shards)) > COUNT // SHARDS // 2


@pytest.mark.parametrize("top", [None, 1, 20, 50])
def test_merged_answers_are_those_of_one_server_with_all_items(world, servers, top):
    whole, addresses = servers
    texts = ["red", "blue blue green", "green", "red red blue", ""]
    images = [world / "0.png", (world / "1.png").read_bytes()]
    with Client(port=whole.port, model="photos") as one, ShardedClient(addresses, model="photos") as many:
        for expected, found in (
            (one.search_by_text(texts, top=top), many.search_by_text(texts, top=top)),
            (one.search_by_image(images, top=top), many.search_by_image(images, top=top)),
        ):
            assert len(found) == len(expected)
            for wanted, hits in zip(expected, found, strict=True):
                np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in wanted], rtol=1e-6)
                # Items of one score may stand in another order, and at the end others may stand for them.
                last = wanted[-1].score
                surer = [{hit.id for hit in found if hit.score > last} for found in (hits, wanted)]
                assert surer[0] == surer[1]
                assert all(hit.payload for hit in hits)


def test_a_shard_that_does_not_answer_is_named(servers, free_port):
    _, addresses = servers
    missing = f"127.0.0.1:{free_port}"
    with ShardedClient([*addresses, missing], model="photos") as client, pytest.raises(ClientError) as caught:
        client.search_by_text(["red"])
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert f"shard {missing}" in caught.value.message


def test_answers_without_a_shard_where_that_is_allowed(servers, free_port, caplog):
    _, addresses = servers
    missing = f"127.0.0.1:{free_port}"
    with ShardedClient(addresses[:2], model="photos") as some:
        expected = some.search_by_text(["red"])
    with (
        caplog.at_level(logging.WARNING),
        ShardedClient([addresses[0], missing, addresses[1]], model="photos", may_fail=1) as client,
    ):
        assert client.search_by_text(["red"]) == expected
    assert f"answered without shard {missing}" in caplog.text


def test_a_shard_without_images_finds_none(world, servers, serve, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"id": "only", "text": "red"}\n')
    (export,) = (path for path in Path(world / "export" / "model").iterdir() if path.name.isdigit())
    arguments = ["--export", str(export), "--name", "photos", "--items", str(tmp_path / "texts.jsonl")]
    assert main(["build", *arguments, "--index", str(tmp_path / "i"), "--models", str(tmp_path / "models")]) == 0
    _, addresses = servers
    with serve(tmp_path / "models") as stub:
        lacking = f"127.0.0.1:{stub.port}"
        with (
            ShardedClient(addresses, model="photos") as some,
            ShardedClient([*addresses, lacking], model="photos") as all,
        ):
            assert all.search_by_text(["red"]) == some.search_by_text(["red"])
        with ShardedClient([lacking], model="photos") as alone, pytest.raises(ClientError, match="signature"):
            alone.search_by_text(["red"])


def test_best_of_lists_of_different_lengths():
    many = [Hit(f"a{n}", 1.0 - n / 10, "") for n in range(5)]
    few = [Hit("b0", 0.95, ""), Hit("b1", 0.0, "")]
    assert [hit.id for hit in _best([many, few], 4)] == ["a0", "b0", "a1", "a2"]
    assert len(_best([many, few], 50)) == 7
    assert _best([[], []], 3) == []


@pytest.mark.parametrize(
    ("addresses", "may_fail", "message"),
    [
        ([], 0, "at least one"),
        (["a:1", "a:1"], 0, "different"),
        (["a:1", "b"], 0, "HOST:PORT, got 'b'"),
        (["a:1"], 1, "0 to 0 of 1 shards"),
        (["a:1", "b:1"], -1, "got -1"),
    ],
)
def test_bad_addresses(addresses, may_fail, message):
    with pytest.raises(ValueError, match=message):
        ShardedClient(addresses, may_fail=may_fail)


def test_addresses():
    assert parse_address("[::1]:8500") == ("[::1]", 8500)
    for text in ("", ":1", "a:", "a:0", "a:70000", "a:x", "a"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            parse_address(text)


def test_terminal(servers, capsys):
    _, addresses = servers
    shards = [argument for address in addresses for argument in ("--shard", address)]
    assert ask([*shards, "--model", "photos", "--text", "red", "--top", "2", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert len(answer["answers"]) == 2
    for arguments, message in (
        ([*shards, "--status"], "for searches"),
        (["--shard", "nowhere", "--text", "a"], "expected HOST:PORT"),
    ):
        with pytest.raises(SystemExit):
            ask(arguments)
        assert message in capsys.readouterr().err


def test_changes_reach_the_shard_that_an_item_belongs_to(world, tmp_path, capsys):
    (tmp_path / "new.jsonl").write_text('{"id": "the new one", "text": "red green"}\n')
    homes = []
    for k in range(1, SHARDS + 1):
        folder = world / f"shard{k}"
        before = sorted(path.name for path in (folder / "models" / "photos").iterdir())
        assert main(["add", "--index", str(folder / "index"), "--items", str(tmp_path / "new.jsonl")]) == 0
        after = sorted(path.name for path in (folder / "models" / "photos").iterdir())
        if "the new one" in ids(folder):
            homes.append(k)
        assert (after != before) == (k in homes)
        assert main(["remove", "--index", str(folder / "index"), "--id", "the new one", "--later"]) == 0
        assert "the new one" not in ids(folder)
    assert len(homes) == 1


def test_shards_that_cannot_be(world, tmp_path, capsys):
    (tmp_path / "one.jsonl").write_text('{"id": "one", "text": "red"}\n')
    (export,) = (path for path in Path(world / "export" / "model").iterdir() if path.name.isdigit())
    common = ["build", "--index", str(tmp_path / "index"), "--export", str(export), "--name", "one"]
    results = [
        main([*common, "--items", str(tmp_path / "one.jsonl"), "--models", str(tmp_path / str(k)), "--shard", f"{k}/2"])
        for k in (1, 2)
    ]
    assert sorted(results) == [0, 1]
    assert "none of the items belongs to it" in capsys.readouterr().err
    for text in ("0/2", "3/2", "1", "a/b"):
        with pytest.raises(SystemExit):
            main([*common, "--items", "x", "--shard", text])


def test_as_many_results_as_exports_give():
    assert RESULTS == assemble.RESULTS == served.RESULTS
