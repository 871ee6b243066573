"""Indexes that are built, appended to, removed from and merged; and what may go wrong meanwhile."""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.inverted_index.slow import as_lists, cases, scorings, slow_search
from tfthesis.errors import UserError
from tfthesis.inverted_index import building, cells, files
from tfthesis.inverted_index import index as indexes
from tfthesis.inverted_index.building import Images, append_images, build_index, merge_indexes, remove_images
from tfthesis.inverted_index.codebook import Codebook
from tfthesis.inverted_index.index import open_index
from tfthesis.inverted_index.search import Scoring, search
from tfthesis.inverted_index.signatures import KINDS

BOOK = Codebook(np.arange(20, dtype=np.float32)[:, None])


def images(count, first=0, seed=0, patches=3, width=0):
    """Return images, without signatures where these have no width."""
    rng = np.random.default_rng([seed, first])
    names = [f"photo {first + row}" for row in range(count)]
    features = [rng.integers(0, 20, (count, patches, 1)).astype(np.float32)]
    return Images(names, features, [rng.random((count, width))] if width else ())


signed = functools.partial(images, width=4)


def digests(folder):
    """Return the SHA-256 of each file of the newest version."""
    manifest = files.read_manifest(files.newest(Path(folder)))
    return {name: described["sha256"] for name, described in manifest["files"].items()}


@pytest.fixture
def small_pieces(monkeypatch):
    """Let runs and joined pieces be a few postings, so that small indexes take many."""
    monkeypatch.setattr(building, "RUN", 7)
    monkeypatch.setattr(building, "_COPIED", 5)
    monkeypatch.setattr(cells.joined, "__defaults__", (6,))


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=20)
@hypothesis.given(cases(), st.sampled_from(KINDS), st.data())
def test_however_it_is_written_it_is_the_index_built_at_once(small_pieces, case, kind, data):
    count = len(case.names)
    cut = data.draw(st.integers(0, count))
    first, second = case.blocks(3, range(cut)), case.blocks(2, range(cut, count))
    with tempfile.TemporaryDirectory() as parent:
        folders = {name: Path(parent) / name for name in ("once", "grown", "left", "right", "merged", "shrunk")}
        build_index(folders["once"], case.books(), case.blocks(4), signature=kind)
        expected = digests(folders["once"])
        # An image that is removed again leaves no trace.
        odd = case.block([0])._replace(names=["odd"])
        build_index(folders["shrunk"], case.books(), [*first, odd, *second], signature=kind)
        remove_images(folders["shrunk"], ["odd"])
        assert digests(folders["shrunk"]) == expected
        if 0 < cut < count:
            build_index(folders["grown"], case.books(), first, signature=kind)
            append_images(folders["grown"], second)
            assert digests(folders["grown"]) == expected
            build_index(folders["left"], case.books(), first, signature=kind)
            build_index(folders["right"], case.books(), second, signature=kind)
            merge_indexes(folders["merged"], [folders["left"], folders["right"]])
            assert digests(folders["merged"]) == expected


@hypothesis.given(cases(), scorings, st.data())
def test_removed_images_count_for_nothing(case, scoring, data):
    removed = data.draw(st.sets(st.integers(0, len(case.names) - 1), max_size=len(case.names) - 1))
    with tempfile.TemporaryDirectory() as folder:
        build_index(folder, case.books(), case.blocks(5), signature="float32")
        index = remove_images(folder, [case.names[row] for row in removed])
    left = case.without(sorted(removed))
    assert index.names.all() == left.names
    found = search(index, left.queries, 10, scoring, left.query_signatures)
    assert as_lists(found) == slow_search(left, 10, scoring)


def test_arrays_are_mapped_and_have_the_types_they_should(tmp_path):
    index = build_index(tmp_path / "index", [BOOK], [signed(30)], signature="int8")
    types = {"keys": "int64", "offsets": "int64", "postings": "int32"}
    for name, dtype in types.items():
        array = getattr(index.lists, name)
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable
        assert array.dtype == dtype
    assert (index.counts.dtype, index.signatures.values.dtype) == (np.int32, np.int8)
    assert index.names[29] == "photo 29"
    assert index.counts.tolist() == [
        len(set(index.lists.postings[a:b].tolist()))
        for a, b in zip(index.lists.offsets, index.lists.offsets[1:], strict=False)
    ]


def test_blocks_are_taken_one_by_one(tmp_path):
    alive = []

    class Block(list):
        def __del__(self):
            alive.remove(id(self))

    def blocks():
        for start in range(0, 50, 5):
            assert len(alive) <= 1, "an earlier block is still held"
            block = signed(5, start)
            names = Block(block.names)
            alive.append(id(names))
            yield block._replace(names=names)

    assert len(build_index(tmp_path / "index", [BOOK], blocks(), signature="int8")) == 50


def test_an_index_is_replaced_and_old_versions_go(tmp_path):
    folder = tmp_path / "index"
    build_index(folder, [BOOK], [images(5)])
    assert len(build_index(folder, [BOOK], [images(3)])) == 3
    assert len(append_images(folder, [images(4, 3)])) == 7
    assert sorted(path.name for path in folder.iterdir()) == ["3", files.LOCK]


def test_no_objects_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object))
    with pytest.raises(ValueError, match="(?i)python objects"):
        files.mapped(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("blocks", "options", "message"),
    [
        ([], {}, "images: expected at least one for an index, got none"),
        ([images(0)], {}, "expected at least one for an index"),
        ([images(2), images(1)], {}, "expected unique names, got 'photo 0' twice"),
        ([images(2)._replace(names=["a", "a"])], {}, "expected unique names, got 'a' twice"),
        ([images(2)._replace(names=["a", 3])], {}, "names of images: expected text, got int 3"),
        ([images(2)._replace(names=["a", "\ud800"])], {}, "is not valid Unicode"),
        ([images(2)._replace(names=["a"])], {}, r"expected shapes \[\[1, 3, 1\]\]"),
        ([images(2), images(2, 2, patches=4)], {}, r"expected shapes \[\[2, 3, 1\]\].*got \[\[2, 4, 1\]\]"),
        ([images(2, patches=0)], {}, "features of images: expected shapes"),
        ([images(2)._replace(features=[np.zeros((2, 3, 2))])], {}, r"expected shapes \[\[2, 3, 1\]\]"),
        ([images(2)._replace(features=[np.zeros((2, 3))])], {}, "features of images: expected shapes"),
        ([images(2)._replace(features=[])], {}, "one for each codebook, got \\[\\]"),
        ([images(2)._replace(features=[np.full((2, 3, 1), np.nan)])], {}, "features: expected finite numbers"),
        ([images(2)], {"signature": "int8"}, r"expected shape \[2, width\] for each of 1 axes"),
        ([signed(2), images(2, 2, width=5)], {"signature": "int8"}, r"of widths \[4\], got \[\[2, 5\]\]"),
        ([images(2)._replace(signatures=[np.full((2, 4), np.inf)])], {"signature": "int8"}, "signatures of images"),
        ([signed(2)], {"signature": "int9"}, "Did you mean 'int8'"),
        ([signed(2)], {"signature": 8}, "unknown kind of signature '8'"),
        (
            [images(2), signed(2, 2)],
            {},
            r"signatures of images: expected none, .* such as 'float32'; got shapes \[\[2, 4\]\]",
        ),
        ([images(2)._replace(names=["a", ""])], {}, "names of images: expected text that is not empty, .* got ''"),
        ([images(2)._replace(names=None)], {}, "names of images: expected a sequence of names, got the single None"),
        (images(2), {}, "blocks of images: expected a sequence of Images, got a single Images; put it into a list"),
        (None, {}, "blocks of images: expected a sequence of Images, got a single NoneType"),
        ([tuple(images(2))], {}, "blocks of images: expected a sequence of Images, got tuple among them"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, blocks, options, message):
    with pytest.raises(UserError, match=message):
        build_index(tmp_path / "index", [BOOK], blocks, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (signed(2)._replace(names="ab"), "names of images: expected a sequence of names, got the single 'ab'"),
        (signed(2)._replace(features=np.zeros(2)), r"features of images: expected shapes .*got \[\[\], \[\]\]"),
        (signed(2)._replace(features=3), "features of images: expected arrays of numbers, one for each axis, got int"),
        (signed(2)._replace(features=[[[[1], [2]], [[3]]]]), "features of images: expected arrays of numbers.*list"),
        (
            signed(2)._replace(features=[np.full((2, 3, 1), "1")]),
            "features of images: expected real numbers, got .*<U1",
        ),
        (signed(2)._replace(signatures=np.ones((2, 4))), r"signatures of images: .*got \[\[4\], \[4\]\]"),
        (signed(2)._replace(signatures=[np.full((2, 4), 1j)]), "expected real numbers, got an array of complex128"),
        (signed(2)._replace(signatures=[np.full((2, 4), None)]), "expected real numbers, got an array of object"),
    ],
)
def test_what_is_no_array_of_numbers_is_named(tmp_path, block, message):
    build_index(tmp_path / "index", [BOOK], [signed(2, 7)], signature="int8")
    for write in (build_index, append_images):
        arguments = ([BOOK], [block]) if write is build_index else ([block],)
        options = {"signature": "int8"} if write is build_index else {}
        with pytest.raises(UserError, match=message):
            write(tmp_path / "index", *arguments, **options)


def test_a_path_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("somebody's")
    built = {
        "build": lambda path: build_index(path, [BOOK], [images(3)]),
        "append": lambda path: append_images(path, [images(3)]),
        "merge": lambda path: merge_indexes(path, [path]),
        "open": open_index,
    }
    for act in built.values():
        for path in (tmp_path / "file", tmp_path / "file" / "index"):
            with pytest.raises(UserError, match=f"{path}: expected the folder of an index, but {tmp_path}/file is a"):
                act(path)
    assert (tmp_path / "file").read_text() == "somebody's"


def test_one_name_is_not_taken_for_its_letters(tmp_path):
    build_index(tmp_path / "index", [BOOK], [images(3)._replace(names=["p", "1", "p1"])])
    with pytest.raises(UserError, match="images to remove: expected a sequence of names, got the single 'p1'; put it"):
        remove_images(tmp_path / "index", "p1")
    with pytest.raises(UserError, match="images to remove: expected text, got int 1"):
        remove_images(tmp_path / "index", [1])
    assert remove_images(tmp_path / "index", ["p1"]).names.all() == ["p", "1"]


def test_a_single_codebook_or_source_is_not_taken_for_several(tmp_path):
    folder = tmp_path / "index"
    message = "codebooks: expected a sequence of Codebook, got a single Codebook; put it into a list"
    with pytest.raises(UserError, match=message):
        build_index(folder, BOOK, [images(3)])
    with pytest.raises(UserError, match="codebooks: expected a sequence of Codebook, got ndarray among them"):
        build_index(folder, [BOOK.words], [images(3)])
    build_index(folder, [BOOK], [images(3)])
    for source, kind in ((str(folder), "str"), (folder, "PosixPath")):
        with pytest.raises(UserError, match=f"sources: expected a sequence of str or PathLike, got a single {kind}"):
            merge_indexes(tmp_path / "merged", source)
    with pytest.raises(UserError, match="sources: expected a sequence of str or PathLike, got Index among them"):
        merge_indexes(tmp_path / "merged", [open_index(folder)])
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    with pytest.raises(UserError, match="blocks of images: expected a sequence of Images, got a single Images"):
        append_images(folder, images(2, 3))
    with pytest.raises(UserError, match="signatures of images: expected none, since the index keeps none"):
        append_images(folder, [signed(2, 3)])
    assert len(merge_indexes(tmp_path / "merged", (path for path in [str(folder)]))) == 3


def test_what_stands_for_no_image_has_no_name(tmp_path):
    index = build_index(tmp_path / "index", [BOOK], [images(3)])
    for row in (-1, 3):
        with pytest.raises(
            IndexError, match=f"row: expected from 0 to 2, got {row}; in answers, -1 stands for no image"
        ):
            index.names[row]
    assert list(index.names) == index.names.all()
    assert index.names.of(np.array([[2, 0], [1, -1]])).tolist() == [["photo 2", "photo 0"], ["photo 1", ""]]
    with pytest.raises(IndexError, match="got -2"):
        index.names.of([-2])


ABOUT = {"encoder": "alexnet", "layers": ["fc7"], "width": 512}


def test_an_index_knows_what_its_features_are(tmp_path):
    folder = tmp_path / "index"
    assert build_index(folder, [BOOK], [images(3)], about={**ABOUT, "layers": ("fc7",)}).about == ABOUT
    assert open_index(folder, ABOUT).describe()["about"] == ABOUT
    assert append_images(folder, [images(2, 3)], ABOUT).about == ABOUT
    assert remove_images(folder, ["photo 0"]).about == ABOUT
    expected = r"expected an index of features with {'width': 256}, found one with {'width': 512}"
    with pytest.raises(UserError, match=expected):
        open_index(folder, {**ABOUT, "width": 256})
    with pytest.raises(UserError, match=expected):
        append_images(folder, [images(2, 9)], {**ABOUT, "width": 256})
    with pytest.raises(UserError, match=r"with {'layers': None}, found one with {'layers': \['fc7'\]}"):
        open_index(folder, {"encoder": "alexnet", "width": 512})
    assert len(open_index(folder)) == 4
    build_index(tmp_path / "other", [BOOK], [images(3, 50)])
    assert open_index(tmp_path / "other").about == {}
    with pytest.raises(UserError, match="indexes to merge: expected an index of features with {'encoder': 'alexnet'"):
        merge_indexes(tmp_path / "merged", [folder, tmp_path / "other"])


@pytest.mark.parametrize("about", [["fc7"], {"width": {1}}, {"share": float("nan")}])
def test_what_features_are_is_said_in_json(tmp_path, about):
    with pytest.raises(UserError, match="about: expected a mapping of JSON values"):
        build_index(tmp_path / "index", [BOOK], [images(3)], about=about)
    assert list(tmp_path.iterdir()) == []


def test_changes_that_fail_leave_the_index_as_it_was(tmp_path):
    folder = tmp_path / "index"
    build_index(folder, [BOOK], [signed(5)], signature="int8")
    before = digests(folder)
    with pytest.raises(UserError, match="got 'photo 4' twice"):
        append_images(folder, [signed(3, 4)])
    with pytest.raises(UserError, match="image 'nobody' is not in the index; nothing was removed"):
        remove_images(folder, ["photo 1", "nobody"])
    with pytest.raises(UserError, match="expected at least one for an index"):
        remove_images(folder, [f"photo {row}" for row in range(5)])
    assert digests(folder) == before
    assert sorted(path.name for path in folder.iterdir()) == ["1", files.LOCK]


@pytest.mark.parametrize("change", [append_images, remove_images])
def test_a_folder_without_an_index_is_named_and_not_made(tmp_path, change):
    with pytest.raises(UserError, match="found no version in it; build one first"):
        change(tmp_path / "nowhere", [])
    assert list(tmp_path.iterdir()) == []


def test_indexes_that_differ_are_not_merged(tmp_path):
    build_index(tmp_path / "a", [BOOK], [signed(3)], signature="int8")
    others = {
        "the same codebooks": ([Codebook(BOOK.words + 1)], signed(3, 3), "int8"),
        "of signatures": ([BOOK], signed(3, 3), "float16"),
        "expected patches": ([BOOK], signed(3, 3, patches=2), "int8"),
        "expected unique names": ([BOOK], signed(3), "int8"),
    }
    for number, (message, (books, block, kind)) in enumerate(others.items()):
        build_index(tmp_path / str(number), books, [block], signature=kind)
        with pytest.raises(UserError, match=message):
            merge_indexes(tmp_path / "merged", [tmp_path / "a", tmp_path / str(number)])
    with pytest.raises(UserError, match="expected at least one index to merge"):
        merge_indexes(tmp_path / "merged", [])
    assert not (tmp_path / "merged").exists()


def stored(tmp_path, parts):
    """Return the folder of an index, and the paths of the files of its version."""
    block = signed(40) if parts else images(40)
    build_index(tmp_path / "index", [BOOK], [block], signature=parts)
    return tmp_path / "index", sorted((tmp_path / "index" / "1").iterdir())


def test_every_file_that_is_cut_short_flipped_or_missing_is_found(tmp_path):
    folder, paths = stored(tmp_path, "int8")
    assert len(paths) == 10
    for path in paths:
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 4
        for broken in (whole[:-1], whole[: len(whole) // 2], b"", bytes(flipped), whole + b"\0"):
            path.write_bytes(broken)
            with pytest.raises(UserError, match=rf"{path.name}: (damaged|no such file)"):
                open_index(folder)
        path.unlink()
        with pytest.raises(UserError, match=rf"{path.name}: no such file"):
            open_index(folder)
        path.write_bytes(whole)
    assert len(open_index(folder)) == 40


def test_a_manifest_of_another_format_is_refused(tmp_path):
    folder, _ = stored(tmp_path, None)
    path = folder / "1" / files.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}))
    with pytest.raises(UserError, match="of another format than 2"):
        open_index(folder)


def test_an_index_that_is_damaged_is_not_carried_on(tmp_path):
    folder, paths = stored(tmp_path, None)
    path = next(path for path in paths if path.name == "postings.npy")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"postings.npy: damaged"):
        append_images(folder, [images(2, 40)])
    assert sorted(path.name for path in folder.iterdir()) == ["1", files.LOCK]


CHANGES = {
    "build": lambda folder: build_index(folder, [BOOK], [signed(6, 20), signed(6, 30)], signature="int8"),
    "append": lambda folder: append_images(folder, [signed(6, 20), signed(6, 30)]),
    "remove": lambda folder: remove_images(folder, ["photo 1", "photo 4"]),
    "merge": lambda folder: merge_indexes(folder, [folder]),
}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(("change", "is_new"), [("build", True), *((change, False) for change in CHANGES)])
def test_a_full_disk_at_any_write_leaves_what_was_there(tmp_path, monkeypatch, small_pieces, change, is_new, error):
    folder = tmp_path / "index"
    if not is_new:
        build_index(folder, [BOOK], [signed(6)], signature="int8")
        before = digests(folder)
    whole, left = files.write, 0

    def write(file, data):
        nonlocal left
        if not left:
            file.write(data[: len(data) // 2])
            raise OSError(error, os.strerror(error))
        left -= 1
        whole(file, data)

    monkeypatch.setattr(files, "write", write)
    for writes in range(1000):
        left = writes
        try:
            CHANGES[change](folder)
            break
        except UserError as failure:
            assert "no space left on the device; nothing was written" in str(failure)
        if is_new:
            assert list(tmp_path.iterdir()) == []
        else:
            assert digests(folder) == before
            assert sorted(path.name for path in folder.iterdir()) == ["1", files.LOCK]
    assert writes > 20
    open_index(folder)


@pytest.mark.parametrize("failing", ["index", files.LOCK])
def test_a_disk_without_room_for_the_folder_or_its_lock_is_named(tmp_path, monkeypatch, failing):
    def full(kind, path, *arguments):
        if Path(path).name == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return kind(path, *arguments)

    monkeypatch.setattr(os, "mkdir", functools.partial(full, os.mkdir))
    monkeypatch.setattr(files, "open", functools.partial(full, open), raising=False)
    with pytest.raises(UserError, match="no space left on the device; nothing was written"):
        build_index(tmp_path / "index", [BOOK], [images(3)])
    assert list(tmp_path.iterdir()) == []


def test_other_errors_go_through_and_leave_nothing(tmp_path):
    def blocks():
        yield images(3)
        raise PermissionError("a photo cannot be read")

    with pytest.raises(PermissionError, match="a photo cannot be read"):
        build_index(tmp_path / "index", [BOOK], blocks())
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_fails_leaves_what_another_one_published(tmp_path, monkeypatch):
    """Both began when there was no index; the second one got the lock when the first had finished."""
    folder, whole = tmp_path / "index", files._locked

    def locked_late(place):
        monkeypatch.setattr(files, "_locked", whole)
        build_index(folder, [BOOK], [images(4)])
        return whole(place)

    def blocks():
        yield images(3)
        raise PermissionError("a photo cannot be read")

    monkeypatch.setattr(files, "_locked", locked_late)
    with pytest.raises(PermissionError):
        build_index(folder, [BOOK], blocks())
    assert len(open_index(folder)) == 4


def test_an_old_version_that_was_half_removed_is_in_nobodys_way(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    build_index(folder, [BOOK], [images(3)])
    whole = files.shutil.rmtree

    def killed(path, **options):
        if "old-1" in Path(path).name:
            (Path(path) / files.MANIFEST).unlink()
            raise KeyboardInterrupt
        whole(path, **options)

    monkeypatch.setattr(files.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        append_images(folder, [images(2, 3)])
    monkeypatch.undo()
    assert len(open_index(folder)) == 5
    assert len(append_images(folder, [images(2, 5)])) == 7
    assert sorted(path.name for path in folder.iterdir()) == ["3", files.LOCK]


def test_merging_into_a_source_sees_what_was_appended_before_the_lock(tmp_path, monkeypatch):
    folder, other = tmp_path / "index", tmp_path / "other"
    build_index(folder, [BOOK], [images(3)])
    build_index(other, [BOOK], [images(2, 100)])
    whole = files._locked

    def locked_late(place):
        monkeypatch.setattr(files, "_locked", whole)
        append_images(folder, [images(2, 50)])
        return whole(place)

    monkeypatch.setattr(files, "_locked", locked_late)
    assert len(merge_indexes(folder, [folder, other])) == 7


def test_what_cannot_be_brought_to_the_disk_is_taken_back(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    build_index(folder, [BOOK], [images(3)])
    whole = files._sync_folder

    def full(place):
        if place == folder:
            raise OSError(errno.ENOSPC, "no space")
        whole(place)

    monkeypatch.setattr(files, "_sync_folder", full)
    with pytest.raises(UserError, match="nothing was written"):
        append_images(folder, [images(2, 3)])
    monkeypatch.undo()
    assert len(open_index(folder)) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["1", files.LOCK]


def started(script, *arguments):
    """Start a program that imports what these tests do; it says when it is ready."""
    text = "import sys\nfrom tests.inverted_index.test_building import *\n" + textwrap.dedent(script)
    process = subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_killed_build_leaves_no_index_and_is_cleared_by_the_next(tmp_path):
    folder = tmp_path / "index"
    script = """
        def blocks():
            yield signed(50)
            print("ready", flush=True)
            sys.stdin.read()
        build_index(sys.argv[1], [BOOK], blocks(), signature="int8")
    """
    process = started(script, folder)
    with pytest.raises(UserError, match="another process is writing to this index"):
        build_index(folder, [BOOK], [images(2)])
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert [path.name for path in folder.glob(".unfinished-*")]
    with pytest.raises(UserError, match="found no version in it"):
        open_index(folder)
    assert len(build_index(folder, [BOOK], [images(2)])) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["1", files.LOCK]


def test_a_codebook_whose_saving_was_killed_is_in_no_writers_way(tmp_path):
    """Neither is what another one is saving into the folder at the same time, which stays."""
    folder = tmp_path / "index"
    build_index(folder, [BOOK], [images(3)])
    script = """
        def killed_here(source, target):
            print("ready", flush=True)
            sys.stdin.read()
        os.replace = killed_here
        BOOK.save(sys.argv[1])
    """
    process = started(script, folder / "words")
    (half,) = (path for path in folder.iterdir() if "words" in path.name)
    assert len(append_images(folder, [images(2, 3)])) == 5
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert half.is_file()
    assert len(append_images(folder, [images(2, 5)])) == 7
    assert len(remove_images(folder, ["photo 6"])) == 6
    assert len(merge_indexes(folder, [folder])) == 6
    BOOK.save(folder / "words")
    assert len(build_index(folder, [Codebook.load(folder / "words")], [images(2)])) == 2


def test_files_and_links_among_what_is_left_are_cleared_as_folders_are(tmp_path):
    folder, others = tmp_path / "index", tmp_path / "others"
    build_index(folder, [BOOK], [images(3)])
    others.mkdir()
    (others / "photo").write_bytes(b"somebody's")
    (folder / ".unfinished-2").write_bytes(b"half")
    (folder / ".unfinished-old-1").symlink_to(others)
    assert len(append_images(folder, [images(2, 3)])) == 5
    assert sorted(path.name for path in folder.iterdir()) == ["2", files.LOCK]
    assert (others / "photo").read_bytes() == b"somebody's"


def test_a_search_goes_on_with_its_version_while_another_process_appends(tmp_path):
    folder = tmp_path / "index"
    index = build_index(folder, [BOOK], [signed(200)], signature="float16")
    query, scoring = signed(3, 1000), Scoring(3, alpha=2.0)

    def ask(index):
        return as_lists(search(index, query.features, 20, scoring, query.signatures))

    before = ask(index)
    script = """
        print("ready", flush=True)
        for step in range(5):
            append_images(sys.argv[1], [signed(100, 200 + 100 * step)])
    """
    process = started(script, folder)
    lengths = set()
    while process.poll() is None:
        assert ask(index) == before
        lengths.add(len(open_index(folder)))
    assert process.returncode == 0
    assert lengths <= {200, 300, 400, 500, 600, 700}
    assert len(lengths) > 1, "nothing was appended during the searches"
    assert not (folder / "1").exists()
    assert ask(index) == before
    later = open_index(folder)
    assert len(later) == 700
    assert ask(later) != before


def test_a_version_that_vanishes_while_it_is_opened_is_not_an_error(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    build_index(folder, [BOOK], [images(3)])
    opened = []

    def read(version):
        opened.append(version.name)
        if len(opened) == 1:
            append_images(folder, [images(2, 3)])
        return files.read_manifest(version)

    monkeypatch.setattr(indexes, "read_manifest", read)
    assert len(open_index(folder)) == 5
    # The appending process opens the first version and then its own; what it replaced is opened again.
    assert opened == ["1", "1", "2", "2"]


def test_versions_of_something_else_are_not_removed(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"somebody's")
    with pytest.raises(UserError, match="1 in it is no version of an index; choose another folder"):
        build_index(tmp_path, [BOOK], [images(3)])
    assert (tmp_path / "1" / "saved_model.pb").read_bytes() == b"somebody's"
