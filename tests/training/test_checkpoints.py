"""A checkpoint is whole or absent, and a damaged one is named and passed over."""

from __future__ import annotations

import os
import resource
import time

import numpy as np
import pytest

from tfthesis.errors import UserError
from training.checkpoints import Checkpoints, read_arrays


def groups(value: float, size: int = 1000) -> dict:
    return {"model": {"00000": np.full([size], value, "f4"), "00001": np.int64(value)[None]}, "empty": {}}


def values(folder) -> list[float]:
    """Return what the checkpoints hold, oldest first, after checking that each is whole."""
    checkpoints = Checkpoints(folder)
    opened = [checkpoints.open(path.name) for path in sorted(folder.glob("checkpoint-*"))]
    for checkpoint in opened:
        assert (checkpoint.arrays("model")["00000"] == checkpoint.state["value"]).all()
    return [checkpoint.state["value"] for checkpoint in opened]


@pytest.fixture
def three(tmp_path):
    """A folder after three checkpoints; the last two, and the best weights they need, are kept."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest() is None
    for value in (1, 2, 3):
        checkpoints.save_best(f"best-{value}.npz", groups(value)["model"])
        checkpoints.save({"value": value}, groups(value), f"best-{value}.npz")
    return tmp_path / "checkpoints"


def test_the_last_two_and_their_best_weights_are_kept(three):
    assert values(three) == [2, 3]
    assert sorted(path.name for path in three.glob("best-*")) == ["best-2.npz", "best-3.npz"]
    assert Checkpoints(three).latest().arrays("empty") == {}
    assert Checkpoints(three).read_best("best-3.npz")["00000"][0] == 3


@pytest.mark.parametrize("file", ["model.npz", "state.json", "manifest.json", "../best-3.npz"])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_byte_is_found_wherever_it_is(three, file, place):
    path = three / "checkpoint-000003" / file
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    notes = []
    checkpoints = Checkpoints(three, notes.append)
    assert checkpoints.latest().state == {"value": 2}
    assert "checkpoint-000003 is damaged" in notes[0] and file in notes[0]
    checkpoints.save({"value": 4}, groups(4))
    assert values(three) == [2, 4]


def test_a_missing_file_counts_as_damage(three):
    (three / "checkpoint-000003" / "model.npz").unlink()
    assert Checkpoints(three).latest().state == {"value": 2}


def test_damage_in_the_older_one_is_named_when_the_next_is_saved(three):
    (three / "checkpoint-000003" / "manifest.json").write_text("{}")
    notes = []
    checkpoints = Checkpoints(three, notes.append)
    checkpoints.save({"value": 4}, groups(4))
    assert values(three) == [4] and "checkpoint-000003" in notes[0]


def test_without_a_whole_checkpoint_nothing_starts_anew_in_silence(three):
    for path in three.glob("checkpoint-*/state.json"):
        path.write_text("{}")
    with pytest.raises(UserError, match="no whole checkpoint is left"):
        Checkpoints(three).latest()


def test_a_full_disk_loses_nothing(three):
    """The limit on file sizes makes writes fail as a full disk does, in the middle of a file."""
    checkpoints = Checkpoints(three)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (10, 3000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(UserError, match="could not be written"):
                checkpoints.save({"value": 4}, groups(4))
            with pytest.raises(UserError, match="could not be written"):
                checkpoints.save_best("best-4.npz", groups(4)["model"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert values(three) == [2, 3]
        assert not list(three.glob(".*")) and not list(three.glob("best-4*"))
    checkpoints.save({"value": 4}, groups(4))
    assert values(three) == [3, 4]


@pytest.mark.parametrize("call", range(20))
def test_a_kill_at_any_write_leaves_a_whole_checkpoint(three, monkeypatch, call):
    """Every rename and flush is a place to die; what is half-written then is removed by the next process."""

    class KillError(BaseException):
        pass

    count = 0

    def dying(function):
        def wrapper(*arguments, **keywords):
            nonlocal count
            count += 1
            if count > call:
                raise KillError
            return function(*arguments, **keywords)

        return wrapper

    with monkeypatch.context() as patch:
        for name in ("fsync", "rename", "replace"):
            patch.setattr(os, name, dying(getattr(os, name)))
        try:
            Checkpoints(three).save({"value": 4}, groups(4))
            finished = True
        except KillError:
            finished = False
    checkpoints = Checkpoints(three)
    checkpoints.clean()
    assert checkpoints.latest().state["value"] in ((4,) if finished else (3, 4))
    assert len(values(three)) >= 2 and not list(three.glob(".*"))


def test_objects_are_neither_written_nor_read(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(TypeError, match="expected numbers or strings"):
        checkpoints.save({}, {"model": {"a": np.array([print], object)}})
    np.savez(tmp_path / "hostile.npz", a=np.array([print], object))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        read_arrays(tmp_path / "hostile.npz")


def test_eight_million_weights_are_saved_quickly(tmp_path):
    weights = {f"{i:05d}": np.ones([1024, 1024], "f4") for i in range(8)}
    start = time.monotonic()
    Checkpoints(tmp_path).save({}, {"model": weights, "optimizer": weights})
    assert time.monotonic() - start < 10  # far above the usual half second: disks of test machines differ
