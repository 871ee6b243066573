"""The restricted reader: equal to PyTorch on honest files, inert on hostile ones."""

from __future__ import annotations

import importlib.util
import pickle
import struct
import subprocess
import sys
import textwrap
import time
import zipfile

import numpy as np
import pytest

from tests.encoders import torch_files
from tests.encoders.torch_files import Call, Global, Persistent, Raw, emit, program, storage, tensor
from tfthesis.encoders.torch_archive import read_torch_weights
from tfthesis.errors import UserError

NUMBERS = np.arange(12, dtype=np.float32)
ORDERED_DICT = Global("collections", "OrderedDict")


def refuse(path, message):
    with pytest.raises(UserError, match=message) as caught:
        read_torch_weights(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_reads_shapes_strides_and_offsets(tmp_path, layout):
    state = {
        "whole": tensor((3, 4), (4, 1)),
        "transposed": tensor((4, 3), (1, 4)),
        "row": tensor((4,), (1,), offset=8),
        "scalar": tensor((), (), offset=5),
        "empty": tensor((0, 4), (4, 1)),
    }
    data = NUMBERS.tobytes()
    path = tmp_path / "weights.pth"
    torch_files.write_zip(path, state, {"0": data}) if layout == "zip" else torch_files.write_legacy(
        path, state, {"0": (12, data)}
    )
    arrays = read_torch_weights(path)
    grid = NUMBERS.reshape(3, 4)
    expected = {"whole": grid, "transposed": grid.T, "row": grid[2], "scalar": NUMBERS[5], "empty": grid[:0]}
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].shape == array.shape


def test_reads_a_checkpoint_that_keeps_its_weights_under_state_dict(tmp_path):
    state = {"epoch": 3, "state_dict": {"a": tensor((12,), (1,))}}
    path = torch_files.write_zip(tmp_path / "w.pth", state, {"0": NUMBERS.tobytes()})
    np.testing.assert_array_equal(read_torch_weights(path)["a"], NUMBERS)


def test_reads_what_python_2_and_an_early_pytorch_wrote(tmp_path):
    def short(text):
        return Raw(b"U" + struct.pack("<B", len(text)) + text.encode())

    where = Persistent((short("storage"), Global("torch", "FloatStorage"), short("7"), short("cuda:0"), 12, None))
    arguments = emit((where, 4, (2, 3), (3, 1)))
    rebuilt = emit(Global("torch._utils", "_rebuild_tensor")) + arguments + b"R"
    name = b"T" + struct.pack("<i", 14) + b"lstm.weight_l0"
    # An ordered dict was called with the list of its pairs, here one.
    state = emit(ORDERED_DICT) + b"](](" + name + rebuilt + b"ee\x85R"
    path = torch_files.write_legacy(tmp_path / "w.pkl", program(Raw(state)), {"7": (12, NUMBERS.tobytes())})
    np.testing.assert_array_equal(read_torch_weights(path)["lstm.weight_l0"], NUMBERS[4:10].reshape(2, 3))


def test_reads_a_state_dict_with_attributes(tmp_path):
    """PyTorch gives it `_metadata`, an ordered dict of versions by layer."""
    items = b"(" + emit("a") + emit(tensor((12,), (1,))) + b"u"
    versions = emit(ORDERED_DICT) + b")R(" + emit("") + emit({"version": 1}) + b"u"
    state = Raw(emit(ORDERED_DICT) + b")R" + items + b"}" + emit("_metadata") + versions + b"sb")
    path = torch_files.write_zip(tmp_path / "w.pth", state, {"0": NUMBERS.tobytes()})
    np.testing.assert_array_equal(read_torch_weights(path)["a"], NUMBERS)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("zipped", [True, False])
def test_agrees_with_torch(tmp_path, zipped):
    script = f"""
        import numpy, torch
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        state = network.state_dict()
        state["transposed"] = torch.arange(12.0).reshape(3, 4).T
        state["view"] = state["transposed"][1:]
        state["half"], state["bool"] = torch.ones(3, dtype=torch.float16), torch.tensor([True, False])
        torch.save(state, "state.pth", _use_new_zipfile_serialization={zipped})
        numpy.savez("state.npz", **{{name: value.numpy() for name, value in state.items()}})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, check=True)
    arrays = read_torch_weights(tmp_path / "state.pth")
    with np.load(tmp_path / "state.npz") as expected:
        assert sorted(arrays) == sorted(expected.files)
        for name in expected.files:
            np.testing.assert_array_equal(arrays[name], expected[name])
            assert arrays[name].dtype == expected[name].dtype


PAIR, ITEM = b"](U\x01aNe", b"U\x01aN"


def again_and_again(argument, operations, times):
    """Return a pickle that makes ordered dicts, each from the same object, and ends with a list."""
    start = b"\x80\x02" + argument + b"q\x010" + emit(ORDERED_DICT) + b"q\x02"
    if operations == b"b":
        return start + b")R" + (b"h\x01b") * times + b"0]."
    return start + b"0" + (b"h\x02h\x01" + operations + b"0") * times + b"]."


def distinct_attributes(count):
    return b"}(" + b"".join(b"U\x05" + b"%05d" % number + b"N" for number in range(count)) + b"u"


def colliding_keys(count):
    """Yield keys that all have the hash zero, each with a value."""
    for number in range(1, count):
        yield b"\x8a\x0b" + (number * ((1 << 61) - 1)).to_bytes(11, "little") + b"N"


def hostile_states():
    """Yield name, object to pickle (or raw bytes), and what the refusal says."""
    touch = "touch executed"
    good = tensor((12,), (1,))
    yield "os.system", Call(Global("os", "system"), (touch,)), "os.system"
    yield "posix.system in a shape", {"a": tensor((Call(Global("posix", "system"), (touch,)),), (1,))}, "posix"
    yield "builtins.eval", Call(Global("builtins", "eval"), ("open('executed', 'w')",)), "builtins.eval"
    yield "builtins.exec by getattr", Call(Global("builtins", "getattr"), ("a", "b")), "builtins.getattr"
    yield "subprocess in a value", {"a": good, "b": Call(Global("subprocess", "call"), ((touch,),))}, "subprocess.call"
    yield "hidden by a storage reference", {"a": Persistent((Call(Global("os", "system"), (touch,)),))}, "os.system"
    yield "a dotted name", Call(Global("collections", "OrderedDict.__init__.__globals__"), ()), "OrderedDict.__init__"
    yield "torch's own loader", Call(Global("torch", "load"), ("other.pth",)), "torch.load"
    yield "numpy's object arrays", Call(Global("numpy.core.multiarray", "_reconstruct"), ()), "numpy.core"
    nested = pickle.dumps(sys.exit, 2)
    yield "a pickle in a pickle", Call(Global("pickle", "loads"), (nested.decode("latin1"),)), "pickle.loads"
    yield "INST", b"\x80\x02(X\x05\x00\x00\x00touchios\nsystem\n.", "INST"
    yield "OBJ", b"\x80\x02(" + emit(ORDERED_DICT) + b"o.", "OBJ"
    yield "NEWOBJ", b"\x80\x02" + emit(ORDERED_DICT) + b")\x81.", "NEWOBJ"
    yield "the extension registry", b"\x80\x02\x82\x01.", "EXT1"
    stack_global = emit("os") + emit("system") + b"\x93" + emit((touch,)) + b"R"
    yield "STACK_GLOBAL", b"\x80\x04" + stack_global + b".", "os.system"
    # BUILD on what the reader itself puts on the stack.
    state = emit({"__call__": 1, "dtype": "O"})
    for target in (Global("torch._utils", "_rebuild_tensor_v2"), Global("torch", "FloatStorage"), ORDERED_DICT):
        slots = emit((None, {"dtype": "O"}))
        yield f"altering {target.name}", Raw(emit(target) + state + b"b"), "AttributeError|TypeError"
        yield f"setting on {target.name}", Raw(emit(target) + slots + b"b"), "AttributeError|TypeError"
    yield "calling a storage type", Call(Global("torch", "FloatStorage"), (12,)), "not callable"
    yield "a tensor of something else", {"a": tensor((1,), (1,), of="x")}, "needs a storage"
    yield "an entry that is no tensor", {"a": good, "b": "text"}, "'b'"
    yield "no dict", good, "expected a dict"
    yield "larger than its storage", {"a": tensor((13,), (1,))}, "does not fit"
    yield "offset behind its storage", {"a": tensor((4,), (1,), offset=9)}, "does not fit"
    yield "strides behind its storage", {"a": tensor((4, 3), (4, 1))}, "does not fit"
    yield "expanded by a stride of zero", {"a": tensor((1_000_000,), (0,))}, "does not fit"
    yield "negative offset", {"a": tensor((4,), (1,), offset=-4)}, "non-negative"
    yield "negative stride", {"a": tensor((4,), (-1,), offset=8)}, "non-negative"
    yield "shape that is no number", {"a": tensor(("4",), (1,))}, "non-negative"
    yield "too many axes", {"a": tensor((1,) * 40, (1,) * 40)}, "axes"
    yield "storage longer than stored", {"a": tensor((13,), (1,), length=13)}, "storage"
    yield "storage of terabytes", {"a": tensor((1,), (1,), length=1 << 40)}, "larger|storage"
    yield "storage key that is a path", {"a": tensor((1,), (1,), of=storage(12, key="../../../etc/passwd"))}, "storage"
    yield "storage key that is absolute", {"a": tensor((1,), (1,), of=storage(12, key="/etc/passwd"))}, "storage"
    yield (
        "storage that is absent",
        {"a": tensor((1,), (1,), of=storage(12, key="7"))},
        r"archive/data/7|KeyError: .[07].",
    )
    yield "one storage of two lengths", {"a": good, "b": tensor((2,), (1,), offset=40, length=100)}, "storage"
    yield "a memo of gigabytes", b"\x80\x02}r\xff\xff\xff\x7f.", "numbers an object"
    doubling = b")q\x00" + b"h\x00h\x00\x86q\x00" * 40
    yield "tuples that double", b"\x80\x02}(" + doubling + b"Nu.", "keys that are neither"
    yield "tuples that double, one at a time", b"\x80\x02}" + doubling + b"Ns.", "keys that are neither"
    yield "a tuple too deep to hash", b"\x80\x02}(" + b")" + b"\x85" * 300_000 + b"Nu.", "keys that are neither"
    yield "keys of one hash", b"\x80\x02}(" + b"".join(colliding_keys(50_000)) + b"u.", "too many long numbers"
    yield "a list copied again and again", again_and_again(b"](" + PAIR * 20_000 + b"e", b"\x85R", 50_000), "got list"
    yield "a dict copied again and again", again_and_again(b"}(" + ITEM * 20_000 + b"u", b"\x85R", 50_000), "pairs"
    yield "attributes again and again", again_and_again(distinct_attributes(20_000), b"b", 50_000), "got list"
    tuples = b"](" + b"](" + b"(" + b"N" * 100_000 + b"tNeq\x01" + b"h\x01" * 100_000 + b"e"
    yield "a tuple hashed again and again", emit(ORDERED_DICT).join([b"\x80\x02", tuples + b"\x85R."]), "no text"
    yield "text of gigabytes", b"\x80\x02X\xff\xff\xff\x7fshort.", "bytes"
    yield "bytes of gigabytes", b"\x80\x02T\xff\xff\xff\x7fshort.", "bytes"
    yield "nothing", b"", "not a plain"
    yield "cut off", program({"a": good})[:-10], "not a plain"


HOSTILE = list(hostile_states())


@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.parametrize(("state", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_state_is_refused_and_runs_nothing(tmp_path, monkeypatch, layout, state, message):
    monkeypatch.chdir(tmp_path)
    data = NUMBERS.tobytes()
    path = tmp_path / "weights.pth"
    torch_files.write_zip(path, state, {"0": data}) if layout == "zip" else torch_files.write_legacy(
        path, state, {"0": (12, data)}
    )
    started = time.process_time()
    refuse(path, message)
    assert time.process_time() - started < 8
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pth"]
    # A later, honest file is still read: nothing of the reader was altered.
    honest = torch_files.write_zip(tmp_path / "honest.pth", {"a": tensor((12,), (1,))}, {"0": data})
    np.testing.assert_array_equal(read_torch_weights(honest)["a"], NUMBERS)


def test_the_attack_would_work_on_pickle_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(program(Call(Global("os", "system"), ("touch executed",))))  # noqa: S301
    assert (tmp_path / "executed").exists()


def test_reading_hostile_files_starts_no_process_and_opens_nothing_else(tmp_path):
    """An audit hook sees every call of the interpreter; it cannot be removed, hence a process of its own."""
    for number, (_, state, _) in enumerate(HOSTILE):
        torch_files.write_zip(tmp_path / f"{number}.pth", state, {"0": NUMBERS.tobytes()})
    script = f"""
        import pathlib, sys
        from tfthesis.encoders.torch_archive import read_torch_weights
        from tfthesis.errors import UserError
        files, seen = sorted(pathlib.Path({str(tmp_path)!r}).iterdir()), []
        def hook(event, arguments):
            foreign = event == "open" and pathlib.Path(str(arguments[0])) not in files
            if foreign or event.startswith(("os.", "subprocess.", "exec", "compile", "import", "socket.", "ctypes.")):
                seen.append((event, arguments))
        for file in [*files, *files]:
            if file == files[-1]:
                sys.addaudithook(hook)
            try:
                read_torch_weights(file)
                print("accepted", file)
            except UserError:
                pass
        print(seen)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_hostile_archives(tmp_path):
    state, data = {"a": tensor((12,), (1,))}, NUMBERS.tobytes()
    zeros = tensor((1 << 20,), (1,), length=1 << 20)
    bomb = torch_files.write_zip(
        tmp_path / "bomb.pth", {"a": zeros}, {"0": bytes(4 << 20)}, compression=zipfile.ZIP_DEFLATED
    )
    refuse(bomb, "compressed")
    two = torch_files.write_zip(tmp_path / "two.pth", state, {"0": data})
    with zipfile.ZipFile(two, "a") as archive:
        archive.writestr("other/data.pkl", program(state))
    refuse(two, "one data.pkl, got 2")
    refuse(torch_files.write_zip(tmp_path / "outside.pth", state, {"0": data}, root="../.."), "one data.pkl, got 0")
    big_endian = torch_files.write_zip(tmp_path / "big.pth", state, {"0": data})
    with zipfile.ZipFile(big_endian, "a") as archive:
        archive.writestr("archive/byteorder", b"big")
    refuse(big_endian, "little-endian")
    short = torch_files.write_zip(tmp_path / "short.pth", state, {"0": data})
    short.write_bytes(short.read_bytes()[:-30])
    refuse(short, "not a plain PyTorch archive")


def test_files_that_are_no_archives(tmp_path):
    with pytest.raises(UserError, match="no file"):
        read_torch_weights(tmp_path / "absent.pth")
    for number, data in enumerate([b"", b"text", b"PK\x03\x04", pickle.dumps({"a": 1}, 2)]):
        path = tmp_path / f"{number}.pth"
        path.write_bytes(data)
        refuse(path, "not a plain PyTorch archive")


def test_legacy_storage_lengths_must_agree(tmp_path):
    state = {"a": tensor((12,), (1,))}
    refuse(
        torch_files.write_legacy(tmp_path / "a.pth", state, {"0": (11, NUMBERS.tobytes())}),
        "expected 12 numbers, got 11",
    )
    refuse(torch_files.write_legacy(tmp_path / "b.pth", state, {"0": (12, NUMBERS.tobytes()[:20])}), "20 bytes")
    refuse(torch_files.write_legacy(tmp_path / "c.pth", state, {}), r"KeyError: _Storage\(key='0'")


def test_oversize_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tfthesis.encoders.torch_archive.MAX_FILE_BYTES", 100)
    path = torch_files.write_zip(tmp_path / "w.pth", {"a": tensor((12,), (1,))}, {"0": NUMBERS.tobytes()})
    refuse(path, "at most 100 are read")
