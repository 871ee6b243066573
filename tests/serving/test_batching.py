"""Merging of waiting requests."""

from __future__ import annotations

import concurrent.futures
import gc
import threading
import time
import weakref

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.batching import Batcher, Batching, read_batching
from serving.errors import ServingError, invalid
from serving.servable import Limits, Servable
from tfthesis.errors import UserError

Code = grpc.StatusCode


class Doubler:
    """Stands for a signature `y = 2 x`; keeps what it was asked, and may be held."""

    def __init__(self):
        self.runs = []
        self.timeouts = []
        self.open = threading.Event()
        self.open.set()

    def run(self, inputs, outputs, timeout=None):
        self.runs.append(inputs["x"].copy())
        self.timeouts.append(timeout)
        assert self.open.wait(20)
        if (inputs["x"] < 0).any():
            raise invalid("negative")
        made = {"y": inputs["x"] * 2, "rows": inputs["x"][:, 0], "sum": np.sum(inputs["x"]), "short": inputs["x"][1:]}
        return [made[alias] for alias in outputs]


def rows(*values, width=2):
    return np.repeat(np.float32(values)[:, None], width, axis=1)


def later(batcher, x, outputs=("y",), timeout=None):
    """Run in a thread of its own; returns a future."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(batcher.run, {"x": x}, outputs, timeout)
    pool.shutdown(wait=False)
    return future


def held(eventually, **batching):
    """Return a batcher whose only thread is inside a run, its signature and the future of that run."""
    signature = Doubler()
    batcher = Batcher(signature, Batching(**{"threads": 1, **batching}))
    signature.open.clear()
    first = later(batcher, rows(100))
    eventually(lambda: signature.runs)
    return batcher, signature, first


def waiting(batcher, eventually, count):
    eventually(lambda: len(batcher._waiting) == count)


def fails(future, code, message):
    error = future.exception(timeout=20)
    assert isinstance(error, ServingError)
    assert error.code is code
    assert message in error.message


def test_lone_request_runs_in_its_own_thread_and_unchanged():
    names = []

    class Here(Doubler):
        def run(self, inputs, outputs, timeout=None):
            names.append(threading.current_thread())
            return super().run(inputs, outputs, timeout)

    signature = Here()
    (y,) = Batcher(signature, Batching()).run({"x": rows(1, 2)}, ("y",), 5.0)
    np.testing.assert_array_equal(y, rows(2, 4))
    assert names == [threading.current_thread()]
    assert 4.0 < signature.timeouts[0] <= 5.0


def test_waiting_requests_are_one_run_and_get_their_own_rows(eventually):
    batcher, signature, first = held(eventually)
    futures = []
    for count, x in enumerate((rows(1), rows(2, 3), rows(4)), 1):
        futures.append(later(batcher, x))
        waiting(batcher, eventually, count)
    signature.open.set()
    assert [future.result(20)[0][:, 0].tolist() for future in futures] == [[2], [4, 6], [8]]
    assert first.result(20)[0][:, 0].tolist() == [200]
    assert [run[:, 0].tolist() for run in signature.runs] == [[100], [1, 2, 3, 4]]


def test_a_bad_request_fails_alone(eventually):
    batcher, signature, _ = held(eventually)
    futures = []
    for count, x in enumerate((rows(1), rows(-1), rows(2)), 1):
        futures.append(later(batcher, x))
        waiting(batcher, eventually, count)
    signature.open.set()
    assert futures[0].result(20)[0][0, 0] == 2
    assert futures[2].result(20)[0][0, 0] == 4
    fails(futures[1], Code.INVALID_ARGUMENT, "negative")


@pytest.mark.parametrize(
    ("second", "outputs"), [(rows(2, width=3), ("y",)), (rows(2), ("rows",)), (rows(2).astype(np.float64), ("y",))]
)
def test_what_does_not_fit_together_is_not_merged(eventually, second, outputs):
    batcher, signature, _ = held(eventually)
    futures = [later(batcher, rows(1))]
    waiting(batcher, eventually, 1)
    futures.append(later(batcher, second, outputs))
    waiting(batcher, eventually, 2)
    signature.open.set()
    assert [future.result(20)[0].ravel()[0] for future in futures] == [2, 2 if outputs == ("rows",) else 4]
    assert [len(run) for run in signature.runs] == [1, 1, 1]


def test_runs_are_not_longer_than_allowed(eventually):
    batcher, signature, _ = held(eventually, max_batch_size=3)
    futures = []
    for count, x in enumerate((rows(1, 2), rows(3, 4), rows(5)), 1):
        futures.append(later(batcher, x))
        waiting(batcher, eventually, count)
    signature.open.set()
    assert [future.result(20)[0][:, 0].tolist() for future in futures] == [[2, 4], [6, 8], [10]]
    assert [run[:, 0].tolist() for run in signature.runs] == [[100], [1, 2, 5], [3, 4]]


def test_batches_are_filled_with_the_first_row_of_the_last_request(eventually):
    batcher, signature, first = held(eventually, max_batch_size=8, allowed_batch_sizes=(2, 6, 8))
    assert signature.runs[0][:, 0].tolist() == [100, 100]
    futures = []
    for count, x in enumerate((rows(1, 2), rows(3, 4)), 1):
        futures.append(later(batcher, x))
        waiting(batcher, eventually, count)
    signature.open.set()
    assert first.result(20)[0][:, 0].tolist() == [200]
    assert [future.result(20)[0][:, 0].tolist() for future in futures] == [[2, 4], [6, 8]]
    assert signature.runs[1][:, 0].tolist() == [1, 2, 3, 4, 3, 3]


def test_empty_requests_stay_empty():
    batcher = Batcher(Doubler(), Batching(max_batch_size=8, allowed_batch_sizes=(2, 8)))
    assert batcher.run({"x": rows()}, ("y",))[0].shape == (0, 2)


def test_empty_requests_take_a_place_in_the_queue(eventually):
    batcher, signature, _ = held(eventually, max_batch_size=2, max_enqueued_batches=1)
    accepted = []
    for count in (1, 2):
        accepted.append(later(batcher, rows()))
        waiting(batcher, eventually, count)
    fails(later(batcher, rows()), Code.UNAVAILABLE, "full")
    signature.open.set()
    assert [future.result(20)[0].shape for future in accepted] == [(0, 2), (0, 2)]


def test_merged_request_does_not_wait_beyond_its_deadline(eventually):
    batcher, signature, first = held(eventually)
    leader = later(batcher, rows(1), timeout=20.0)
    waiting(batcher, eventually, 1)
    hurried = later(batcher, rows(2), timeout=1.0)
    waiting(batcher, eventually, 2)
    # The first run ends, and the second, of both, is held.
    batcher._signature = again = Doubler()
    again.open.clear()
    signature.open.set()
    first.result(20)
    eventually(lambda: again.runs)
    fails(hurried, Code.DEADLINE_EXCEEDED, "run with others")
    again.open.set()
    assert leader.result(20)[0][0, 0] == 2
    assert [run[:, 0].tolist() for run in again.runs] == [[1, 2]]


def test_leader_whose_own_deadline_passed_says_so(eventually):
    batcher, signature, first = held(eventually)
    leader = later(batcher, rows(1), timeout=0.5)
    waiting(batcher, eventually, 1)
    other = later(batcher, rows(2), timeout=20.0)
    waiting(batcher, eventually, 2)
    batcher._signature = again = Doubler()
    again.open.clear()
    signature.open.set()
    first.result(20)
    eventually(lambda: again.runs)
    time.sleep(0.6)
    again.open.set()
    fails(leader, Code.DEADLINE_EXCEEDED, "run with others")
    assert other.result(20)[0][0, 0] == 4


def test_inner_shapes_are_filled_up_with_the_first_element(eventually):
    batcher, signature, _ = held(eventually, pad_variable_length_inputs=True)
    futures = [later(batcher, np.float32([[1, 5]]))]
    waiting(batcher, eventually, 1)
    futures.append(later(batcher, np.float32([[7, 8, 9]])))
    waiting(batcher, eventually, 2)
    signature.open.set()
    assert [future.result(20)[0].tolist() for future in futures] == [[[2, 10, 2]], [[14, 16, 18]]]
    assert signature.runs[1].tolist() == [[1, 5, 1], [7, 8, 9]]


def test_large_requests_are_refused_or_split():
    signature = Doubler()
    with pytest.raises(ServingError, match="Task size 5 is larger than maximum input batch size 4") as caught:
        Batcher(signature, Batching(max_batch_size=4)).run({"x": rows(*range(5))}, ("y",))
    assert caught.value.code is Code.INVALID_ARGUMENT
    splitting = Batching(max_batch_size=4, split_large=True, max_execution_batch_size=2)
    (y,) = Batcher(signature, splitting).run({"x": rows(*range(5))}, ("y",))
    assert y[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert [len(run) for run in signature.runs] == [2, 2, 1]


def test_full_queue(eventually):
    batcher, signature, _ = held(eventually, max_batch_size=2, max_enqueued_batches=1)
    accepted = later(batcher, rows(1, 2))
    waiting(batcher, eventually, 1)
    refused = later(batcher, rows(3))
    fails(refused, Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full")
    signature.open.set()
    assert accepted.result(20)[0][:, 0].tolist() == [2, 4]


def test_deadline_that_passes_while_waiting_takes_nobody_along(eventually):
    batcher, signature, _ = held(eventually)
    hurried = later(batcher, rows(1), timeout=0.1)
    waiting(batcher, eventually, 1)
    patient = later(batcher, rows(2), timeout=20)
    fails(hurried, Code.DEADLINE_EXCEEDED, "waited")
    signature.open.set()
    assert patient.result(20)[0][0, 0] == 4
    assert [run[:, 0].tolist() for run in signature.runs] == [[100], [2]]


def test_merged_run_may_take_as_long_as_its_most_patient_request(eventually):
    batcher, signature, _ = held(eventually)
    futures = []
    for count, timeout in enumerate((5.0, 15.0), 1):
        futures.append(later(batcher, rows(count), timeout=timeout))
        waiting(batcher, eventually, count)
    signature.open.set()
    for future in futures:
        future.result(20)
    assert 5.0 < signature.timeouts[1] <= 15.0


def test_a_batch_that_is_not_full_waits_for_others(eventually):
    signature = Doubler()
    batcher = Batcher(signature, Batching(max_batch_size=2, timeout=20.0, threads=1))
    first = later(batcher, rows(1))
    eventually(lambda: batcher._running == 1)
    second = later(batcher, rows(2))
    assert [future.result(10)[0][0, 0] for future in (first, second)] == [2, 4]
    assert [len(run) for run in signature.runs] == [2]


@pytest.mark.parametrize(
    ("x", "outputs", "message"),
    [
        (np.float32(1), ("y",), "inputs with at least one dimension"),
        (rows(1, 2), ("sum",), "Batched output tensor has 0 dimensions: sum"),
        (rows(1, 2), ("short",), "0th dimension does not equal the sum"),
    ],
)
def test_signatures_that_have_no_rows(x, outputs, message):
    with pytest.raises(ServingError, match=message) as caught:
        Batcher(Doubler(), Batching()).run({"x": x}, outputs)
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_inputs_of_different_rows():
    with pytest.raises(ServingError, match="equal 0th dimension, got {'a': 1, 'b': 2}"):
        Batcher(Doubler(), Batching()).run({"a": rows(1), "b": rows(1, 2)}, ("y",))


def test_an_error_that_nobody_expected_reaches_everybody_and_the_next_request_is_answered(eventually):
    batcher, signature, _ = held(eventually)
    futures = []
    for count in (1, 2):
        futures.append(later(batcher, rows(count)))
        waiting(batcher, eventually, count)
    run, signature.run = signature.run, lambda *arguments: 1 // 0
    signature.open.set()
    assert isinstance(futures[0].exception(20), ZeroDivisionError)
    fails(futures[1], Code.INTERNAL, "ZeroDivisionError")
    signature.run = run
    assert batcher.run({"x": rows(3)}, ("y",))[0][0, 0] == 6


def test_many_threads_get_what_they_would_get_alone():
    generator = np.random.default_rng(0)
    batcher = Batcher(Doubler(), Batching(max_batch_size=16, threads=2, allowed_batch_sizes=(4, 16)))
    questions = [generator.normal(size=(generator.integers(1, 7), 2)).astype(np.float32) ** 2 for _ in range(400)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda x: batcher.run({"x": x}, ("y",), 20.0)[0], questions))
    for question, answer in zip(questions, answers, strict=True):
        np.testing.assert_array_equal(answer, 2 * question)
    assert batcher._running == 0
    assert not batcher._waiting


def test_parameters_of_a_file(tmp_path):
    file = tmp_path / "batching.txt"
    file.write_text(
        "max_batch_size { value: 128 } batch_timeout_micros { value: 2000 } max_enqueued_batches { value: 7 } "
        "num_batch_threads { value: 3 } allowed_batch_sizes: 32 allowed_batch_sizes: 64 "
        "pad_variable_length_inputs: true enable_large_batch_splitting { value: true } "
        "max_execution_batch_size { value: 64 } thread_pool_name { value: 'p' }"
    )
    assert read_batching(file) == Batching(128, 0.002, 7, 3, (32, 64), True, True, 64)
    file.write_text("")
    assert read_batching(file) == Batching()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size: 128", "batching.txt"),
        ("max_batch_size { value: 0 }", "max_batch_size: expected at least 1, got 0"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "end in 8"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 9 allowed_batch_sizes: 8", "rising"),
        ("max_execution_batch_size { value: 8 }", "needs enable_large_batch_splitting"),
    ],
)
def test_parameters_that_contradict_themselves(tmp_path, text, message):
    file = tmp_path / "batching.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        read_batching(file)


def test_server_merges_and_answers_the_same(everything, published, serve, tmp_path):
    published(everything, tmp_path / "everything", 1)
    with serve(tmp_path, batching=Batching()) as stub, concurrent.futures.ThreadPoolExecutor(16) as pool:
        questions = np.random.default_rng(0).normal(size=(100, 1, 3)).astype(np.float32)
        ask = lambda x: stub.predict("everything", {"x": x}, signature="project").outputs["y"].float_val  # noqa: E731
        merged = [list(answer) for answer in pool.map(ask, questions)]
    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_allclose(merged, questions[:, 0] @ weights, rtol=1e-5)


def test_parameters_in_the_folder_of_a_version(constants, published, tmp_path):
    folder = published(constants[1], tmp_path / "constant", 1)
    limits = Limits(2**20, batching=Batching(), model_batching=True)
    zero = {"x": np.float32(0)}
    alone = Servable("constant", 1, folder, limits)
    assert alone.run(alone.signatures["serving_default"], zero, ("y",))[0] == 1
    alone.close()
    (folder / "batching_params.pbtxt").write_text("max_batch_size { value: 1 } num_batch_threads { value: 7 }")
    limits = Limits(2**20, batching=Batching(threads=3, max_batch_size=50), model_batching=True)
    batched = Servable("constant", 1, folder, limits)
    assert batched._batchers["serving_default"]._batching == Batching(threads=3, max_batch_size=1)
    with pytest.raises(ServingError, match="Task size 2"):
        batched.run(batched.signatures["serving_default"], {"x": np.zeros(2, np.float32)}, ("y",))
    batched.close()
    (folder / "batching_params.pbtxt").write_text("nonsense")
    with pytest.raises(ServingError, match="batching_params.pbtxt"):
        Servable("constant", 1, folder, limits)


def test_parameters_need_the_switch(tmp_path, capsys):
    from serving.server import main

    for flag in (["--batching_parameters_file", "f"], ["--enable_per_model_batching_parameters"]):
        with pytest.raises(SystemExit) as caught:
            main(["--model_base_path", str(tmp_path), *flag])
        assert caught.value.code == 2
        assert "needs --enable_batching" in capsys.readouterr().err


def test_empty_strings_are_filled_up_with_strings(eventually):
    class Lengths(Doubler):
        def run(self, inputs, outputs, timeout=None):
            self.runs.append(inputs["x"])
            assert self.open.wait(20)
            return [np.vectorize(len, otypes=[int])(inputs["x"])]

    signature = Lengths()
    batcher = Batcher(signature, Batching(threads=1, pad_variable_length_inputs=True))
    signature.open.clear()
    first = later(batcher, np.array([[b"held"]], object))
    eventually(lambda: signature.runs)
    futures = [later(batcher, np.empty((1, 0), object))]
    waiting(batcher, eventually, 1)
    futures.append(later(batcher, np.array([[b"ab"]], object)))
    waiting(batcher, eventually, 2)
    signature.open.set()
    assert [future.result(20)[0].tolist() for future in (first, *futures)] == [[[4]], [[0]], [[2]]]
    assert len(signature.runs) == 2


def test_nothing_of_a_replaced_version_is_kept(constants, eventually, published, serve, tmp_path):
    published(constants[1], tmp_path / "left", 1)
    with serve(tmp_path, batching=Batching(), poll_seconds=0.05) as stub:
        stub.predict("left", {"x": np.zeros(1, np.float32)})
        (servable,) = (thing for thing in gc.get_objects() if type(thing) is Servable and thing.name == "left")
        kept = [weakref.ref(thing) for thing in (servable, servable._session, *servable._batchers.values())]
        del servable
        published(constants[2], tmp_path / "left", 2)
        eventually(lambda: stub.predict("left", {"x": np.zeros(1, np.float32)}).model_spec.version.value == 2)
        eventually(lambda: gc.collect() >= 0 and all(reference() is None for reference in kept))


def test_strings_are_padded_and_merged(tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def length(text):
        return {"length": tf.strings.length(text)}

    tf.saved_model.save(module, str(tmp_path / "1"), signatures=length)
    servable = Servable("m", 1, tmp_path / "1", Limits(2**20, batching=Batching(4, allowed_batch_sizes=(4,))))
    inputs = {"text": np.array([b"a\0", b"bcd"], object)}
    assert servable.run(servable.signatures["serving_default"], inputs, ("length",))[0].tolist() == [2, 3]
    servable.close()
