"""Contract section 7: batching. What was run as one batch, the model itself tells: see `Rows`."""

from __future__ import annotations

import concurrent.futures
import contextlib

import grpc
import numpy as np
import pytest
import tensorflow as tf

from tests.blackbox.client import Code, eventually, refused


def ask(client, model, rows, **more):
    """Return the arrays of an answer."""
    response = client.predict(model, {"x": np.float32(rows)}, **more)
    return {alias: tf.make_ndarray(proto) for alias, proto in response.outputs.items()}


@contextlib.contextmanager
def together():
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        yield pool


def attempts(client, model, *requests):
    """Send requests at the same time; return arrays, or the error, of each."""

    def one(rows):
        try:
            return ask(client, model, rows)
        except grpc.RpcError as error:
            return error

    with together() as pool:
        return list(pool.map(one, requests))


def merged(answers):
    return len({tuple(answer["batch"][0]) for answer in answers}) == 1


def test_waiting_requests_are_one_run_and_get_their_own_rows(batched):
    def try_it():
        answers = attempts(batched, "merged", [[1.0]], [[2.0], [3.0]], [[4.0]])
        assert [answer["y"][:, 0].tolist() for answer in answers] == [[2.0], [4.0, 6.0], [8.0]]
        return merged(answers) and sorted(answers[0]["batch"][0]) == [1.0, 2.0, 3.0, 4.0]

    eventually(try_it)


def test_run_is_not_larger_than_max_batch_size(batched):
    for answer in attempts(batched, "merged", *([[float(number)]] for number in range(10))):
        assert 1 <= answer["batch"].shape[1] <= 4


def test_requests_of_other_output_sets_are_not_merged(batched):
    with together() as pool:
        whole = pool.submit(ask, batched, "merged", [[1.0]])
        part = pool.submit(ask, batched, "merged", [[2.0]], outputs=("batch",))
    assert whole.result()["batch"].tolist() == [[1.0]]
    assert part.result()["batch"].tolist() == [[2.0]]


def test_request_larger_than_max_batch_size(batched):
    with refused(Code.INVALID_ARGUMENT, "5", "4"):
        ask(batched, "merged", np.ones((5, 1)))


def test_max_batch_size_is_1000_by_default(batched):
    assert len(ask(batched, "plain", np.ones((1000, 1)), outputs=("y",))["y"]) == 1000
    with refused(Code.INVALID_ARGUMENT, "1001", "1000"):
        ask(batched, "plain", np.ones((1001, 1)), outputs=("y",))


def test_smaller_batch_is_filled_up_to_the_next_allowed_size(batched):
    answer = ask(batched, "padded", [[5.0], [6.0]])
    assert answer["y"].tolist() == [[10.0], [12.0]]
    assert answer["batch"].tolist() == [[5.0, 6.0, 5.0, 5.0]] * 2


def test_padding_is_the_first_row_of_the_last_task(batched):
    def try_it():
        answers = attempts(batched, "padded", [[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]])
        assert [answer["y"].shape for answer in answers] == [(3, 1), (3, 1)]
        if not merged(answers):
            return False
        batch = answers[0]["batch"][0].tolist()
        assert len(batch) == 8
        assert batch[6:] == [batch[3]] * 2
        return True

    eventually(try_it)


def test_batch_of_an_allowed_size_is_not_padded(batched):
    assert ask(batched, "padded", [[1.0], [2.0], [3.0], [4.0]])["batch"].shape == (4, 4)


def test_variable_lengths_are_filled_up_with_the_first_element(batched):
    def try_it():
        answers = attempts(batched, "variable", [[1.0, 5.0]], [[7.0, 8.0, 9.0]])
        return merged(answers) and [answer["y"].tolist() for answer in answers]

    assert eventually(try_it) == [[[2.0, 10.0, 2.0]], [[14.0, 16.0, 18.0]]]


def test_different_shapes_without_padding_are_refused_or_not_merged(batched):
    for answer, width in zip(attempts(batched, "merged", [[1.0, 5.0]], [[7.0, 8.0, 9.0]]), (2, 3), strict=True):
        if isinstance(answer, grpc.RpcError):
            assert answer.code() is Code.FAILED_PRECONDITION
            assert "have different shapes and padding is turned off" in answer.details()
        else:
            assert answer["y"].shape == (1, width)


def test_different_shapes_are_not_merged(ours, batched):
    answers = attempts(batched, "merged", [[1.0, 5.0]], [[7.0, 8.0, 9.0]])
    assert [answer["y"].tolist() for answer in answers] == [[[2.0, 10.0]], [[14.0, 16.0, 18.0]]]


def test_large_request_is_split(batched):
    answer = ask(batched, "split", np.arange(8)[:, None])
    assert answer["y"][:, 0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert answer["batch"].tolist() == [[0, 1, 2, 3]] * 4 + [[4, 5, 6, 7]] * 4


def test_full_queue(batched, folder):
    path = folder.marks / "full"
    held = batched.hold("full", path, in_rows=True)
    with together() as pool:
        requests = [pool.submit(batched.predict, "full", {"path": [str(path)]}, "hold") for _ in range(4)]
        eventually(lambda: any(request.done() for request in requests))
        held.release()
    errors = [request.exception() for request in requests if request.exception()]
    assert errors
    for error in errors:
        assert error.code() is Code.UNAVAILABLE
        assert "The batch scheduling queue to which this task was submitted is full" in error.details()


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        pytest.param("total", {"x": [1.0, 2.0]}, id="scalar output"),
        pytest.param("shorter", {"x": [1.0, 2.0]}, id="output of another 0th dimension"),
    ],
)
def test_outputs_without_the_rows_of_the_inputs(batched, signature, inputs):
    with refused(Code.FAILED_PRECONDITION):
        batched.predict("merged", inputs, signature)


@pytest.mark.parametrize("a", [[1.0, 2.0], np.float32(1)], ids=["different 0th dimensions", "rank 0"])
def test_inputs_without_common_rows(batched, a):
    with pytest.raises(grpc.RpcError) as caught:
        batched.predict("merged", {"a": a, "b": [1.0]}, "first")
    # The stock server says INVALID_ARGUMENT of inputs, and FAILED_PRECONDITION of outputs.
    assert caught.value.code() in (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION)


def test_the_same_is_answered_where_a_model_is_not_batched(batched):
    assert tf.make_ndarray(batched.predict("unbatched", {"x": [1.0, 2.0]}, "total").outputs["total"]) == 3.0


def test_bad_request_of_a_batch_fails_alone(ours, batched):
    good, bad, other = attempts(batched, "merged", [[1.0]], [[-1.0]], [[2.0]])
    assert good["y"].tolist() == [[2.0]]
    assert other["y"].tolist() == [[4.0]]
    assert bad.code() is Code.INVALID_ARGUMENT
    assert "a negative number" in bad.details()


def test_bad_request_alone(batched):
    with refused(Code.INVALID_ARGUMENT, "a negative number"):
        ask(batched, "merged", [[-1.0]])


def test_parameters_of_the_server(encrypted):
    with refused(Code.INVALID_ARGUMENT, "5", "4"):
        ask(encrypted, "rows", np.ones((5, 1)))
    with refused(Code.FAILED_PRECONDITION):
        encrypted.predict("rows", {"x": [1.0, 2.0]}, "total")


def test_only_the_threads_of_the_server_count_for_models_with_their_own_parameters(batched):
    assert ask(batched, "padded", np.ones((8, 1)))["y"].shape == (8, 1)


def test_parameters_without_batching_stop_the_start(run, folder):
    process = run(
        f"--model_config_file={folder.path / 'rows.config'}",
        f"--batching_parameters_file={folder.path / 'batching.config'}",
    )
    assert process.process.wait(60) != 0
    assert "batching" in process.log


def test_over_rest(batched):
    answer = batched.rest("POST", "/v1/models/padded:predict", {"instances": [[1.0], [2.0]]})
    assert [row["y"] for row in answer.value["predictions"]] == [[2.0], [4.0]]
    answer = batched.rest("POST", "/v1/models/merged:predict", {"instances": [[1.0]] * 5})
    assert answer.status == 400
