"""Merging requests that wait for the same signature into one run of the model.

A request that finds nobody running runs at once, in its own thread: alone it loses nothing. Those that come
meanwhile wait, and the one that has waited longest then runs all of them as one batch. Only requests whose
tensors fit together are merged, and when a merged run fails each request is run alone, so that a bad one
fails by itself.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np
from google.protobuf import text_format

from serving.errors import ServingError, invalid
from serving.messages import BatchingParameters
from serving.signature import Signature
from tfthesis.errors import UserError

#: In a version's folder, with --enable_per_model_batching_parameters.
MODEL_FILE = "batching_params.pbtxt"

_FULL = "The batch scheduling queue to which this task was submitted is full"


@dataclasses.dataclass(frozen=True)
class Batching:
    """How requests are merged; a row is an entry of the 0th dimension.

    Attributes:
        max_batch_size: rows of one request, and of one run where `max_execution_batch_size` is None.
        timeout: seconds that a run which is not full waits for more requests.
        max_enqueued_batches: as many runs of `max_batch_size` rows may wait.
        threads: runs of one signature at the same time.
        allowed_batch_sizes: rows that a run may have, rising; it is filled up to the next of them. Empty: any.
        pad_variable_length_inputs: merge tensors of different inner shapes, filled up with their first element.
        split_large: cut a request above `max_batch_size` into several runs instead of refusing it.
        max_execution_batch_size: rows of one run where `split_large`; None for `max_batch_size`.
    """

    max_batch_size: int = 1000
    timeout: float = 0.0
    max_enqueued_batches: int = 10
    threads: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    split_large: bool = False
    max_execution_batch_size: int | None = None

    def __post_init__(self):
        """Check the numbers.

        Raises:
            ValueError: they contradict each other.
        """
        for name, value, least in (
            ("max_batch_size", self.max_batch_size, 1),
            ("batch_timeout_micros", self.timeout, 0),
            ("max_enqueued_batches", self.max_enqueued_batches, 1),
            ("num_batch_threads", self.threads, 1),
            ("max_execution_batch_size", self.run_size, 1),
        ):
            if value < least:
                raise ValueError(f"{name}: expected at least {least}, got {value}")
        sizes = self.allowed_batch_sizes
        if sizes and (sizes[-1] != self.run_size or sizes[0] < 1 or list(sizes) != sorted(set(sizes))):
            raise ValueError(
                f"allowed_batch_sizes: expected rising sizes that end in {self.run_size}, the largest batch, "
                f"got {list(sizes)}"
            )
        if self.max_execution_batch_size is not None and not self.split_large:
            raise ValueError("max_execution_batch_size needs enable_large_batch_splitting")

    @property
    def run_size(self) -> int:
        """The most rows of one run."""
        return self.max_batch_size if self.max_execution_batch_size is None else self.max_execution_batch_size

    def padded(self, rows: int) -> int:
        """Return the rows that a run of `rows` requested ones has; an empty one has none that could be copied."""
        if not rows:
            return 0
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def read_batching(file: Path) -> Batching:
    """Return what a `BatchingParameters` in protobuf text format says.

    Raises:
        UserError: the file cannot be read, or its numbers contradict each other.
    """
    try:
        message = text_format.Parse(file.read_text(encoding="utf-8"), BatchingParameters())
        given = {field.name: value for field, value in message.ListFields()}
        return Batching(
            **{ours: given[theirs].value for theirs, ours in _WRAPPED.items() if theirs in given},
            **({"timeout": given["batch_timeout_micros"].value / 1e6} if "batch_timeout_micros" in given else {}),
            allowed_batch_sizes=tuple(message.allowed_batch_sizes),
            pad_variable_length_inputs=message.pad_variable_length_inputs,
        )
    except (OSError, ValueError, text_format.ParseError) as error:
        raise UserError(f"batching parameters {file}: {error}") from error


_WRAPPED = {
    "max_batch_size": "max_batch_size",
    "max_enqueued_batches": "max_enqueued_batches",
    "num_batch_threads": "threads",
    "enable_large_batch_splitting": "split_large",
    "max_execution_batch_size": "max_execution_batch_size",
}

Arrays = Mapping[str, np.ndarray]


class _Task:
    """A request, or a part of one, that waits to be run."""

    def __init__(self, inputs: Arrays, outputs: Sequence[str], rows: int, deadline: float | None, kind: tuple):
        self.inputs = inputs
        self.outputs = outputs
        self.rows = rows
        self.deadline = deadline
        #: Tasks of one kind can be merged.
        self.kind = kind
        self.result: list[np.ndarray] | ServingError | None = None
        #: The tasks that this one's thread has to run, itself first, once it is its turn.
        self.batch: list[_Task] = []
        # Held until it has been run or leads a run. A bare lock wakes its thread in half the time of an event.
        self._call = threading.Lock()
        self._call.acquire()

    def call(self) -> None:
        """Wake the thread of this task."""
        self._call.release()

    def wait(self) -> bool:
        """Wait until it is called, or its deadline; returns whether it was called."""
        left = self.time_left()
        return self._call.acquire(timeout=-1 if left is None else max(0.0, left))

    def time_left(self) -> float | None:
        """Return the seconds until the deadline, None without one."""
        return None if self.deadline is None else self.deadline - time.monotonic()


class Batcher:
    """Runs one signature for many threads; see the module."""

    def __init__(self, signature: Signature, batching: Batching):
        self._signature = signature
        self._batching = batching
        self._lock = threading.Lock()
        # Told when a task comes, for a leader whose batch is not full and that has time.
        self._came = threading.Condition(self._lock)
        self._waiting: collections.deque[_Task] = collections.deque()
        self._running = 0

    def run(self, inputs: Arrays, outputs: Sequence[str], timeout: float | None = None) -> list[np.ndarray]:
        """Return the arrays of the `outputs` aliases, as `Signature.run`, perhaps computed with other requests.

        Raises:
            ServingError: FAILED_PRECONDITION, an input or output has no 0th dimension, or another one than the
                rest; INVALID_ARGUMENT, there are too many rows; UNAVAILABLE, too many requests wait;
                DEADLINE_EXCEEDED; or what the operation that failed says.
        """
        rows = _rows(inputs)
        deadline = None if timeout is None else time.monotonic() + timeout
        if rows > self._batching.max_batch_size and not self._batching.split_large:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {self._batching.max_batch_size}")
        if rows <= self._batching.run_size:
            return self._run_task(inputs, outputs, rows, deadline)
        step = self._batching.run_size
        parts = [
            self._run_task(
                {alias: array[start : start + step] for alias, array in inputs.items()},
                outputs,
                min(step, rows - start),
                deadline,
            )
            for start in range(0, rows, step)
        ]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _run_task(self, inputs: Arrays, outputs: Sequence[str], rows: int, deadline: float | None) -> list[np.ndarray]:
        with self._lock:
            is_free = self._running < self._batching.threads and not self._waiting
            self._running += is_free
        if is_free and not self._batching.timeout:
            # The common case on an idle server, where every microsecond shows: nobody is there to be merged with.
            try:
                return self._run_alone(inputs, outputs, rows, deadline)
            finally:
                self._call_next()
        task = _Task(inputs, outputs, rows, deadline, self._kind(inputs, outputs, rows))
        if is_free:
            task.batch = [task]
        else:
            self._wait_in_line(task)
        if task.batch:
            try:
                self._fill(task)
                self._execute(task.batch)
            finally:
                self._call_next()
        if isinstance(task.result, ServingError):
            raise task.result
        left = task.time_left()
        if left is not None and left < 0:
            raise _late("the deadline passed while the request was run with others")
        return task.result

    def _kind(self, inputs: Arrays, outputs: Sequence[str], rows: int) -> tuple:
        """Return what has to be equal of two tasks that are merged."""
        pads = self._batching.pad_variable_length_inputs
        # The signature always gives its inputs in one order.
        shapes = [(array.dtype, array.ndim if pads else array.shape[1:]) for array in inputs.values()]
        # An empty request tells nothing about the rows that it would be merged with.
        return (tuple(outputs), tuple(shapes), rows == 0)

    def _wait_in_line(self, task: _Task) -> None:
        """Return when the task was run by another thread or leads a run of its own, or its deadline has passed."""
        with self._lock:
            # Somebody may have ended since it was found that nobody was free.
            if self._running < self._batching.threads and not self._waiting:
                self._running += 1
                task.batch = [task]
                return
            self._enqueue(task)
        self._await(task)

    def _enqueue(self, task: _Task) -> None:
        room = self._batching.max_enqueued_batches * self._batching.max_batch_size
        # Empty requests take a place too, or there could be any number of them.
        if sum(max(1, waiting.rows) for waiting in self._waiting) + max(1, task.rows) > room:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, _FULL)
        self._waiting.append(task)
        if self._batching.timeout:
            self._came.notify_all()

    def _await(self, task: _Task) -> None:
        """Wait until the task was run by another thread, it is this thread's turn, or the deadline has passed.

        A run that another thread has taken it into may last as long as the most patient request in it.
        """
        if task.wait():
            return
        with self._lock:
            if task in self._waiting:
                self._waiting.remove(task)
                raise _late("the deadline passed while the request waited for others to be run")

    def _fill(self, leader: _Task) -> None:
        """Take waiting tasks of the leader's kind into its batch, for as long as it may wait for them."""
        end = time.monotonic() + self._batching.timeout
        with self._lock:
            while True:
                rows = sum(task.rows for task in leader.batch)
                for task in list(self._waiting):
                    if task.kind == leader.kind and rows + task.rows <= self._batching.run_size:
                        self._waiting.remove(task)
                        leader.batch.append(task)
                        rows += task.rows
                left = end - time.monotonic()
                if left <= 0 or rows >= self._batching.run_size or not self._came.wait(left):
                    return

    def _call_next(self) -> None:
        """Let the task that has waited longest lead the next run."""
        with self._lock:
            if self._waiting:
                leader = self._waiting.popleft()
                leader.batch = [leader]
                leader.call()
            else:
                self._running -= 1

    def _execute(self, batch: Sequence[_Task]) -> None:
        try:
            if len(batch) == 1:
                self._execute_alone(batch[0])
                return
            try:
                arrays = self._merge(batch)
            except ServingError:
                # Which of them is to blame shows when each runs alone.
                for task in batch:
                    self._execute_alone(task)
                return
            first = 0
            for task in batch:
                last = first + task.rows
                task.result = [array[first:last] for array in arrays]
                first = last
        except Exception as error:
            for task in batch:
                task.result = task.result or ServingError(grpc.StatusCode.INTERNAL, f"internal error: {error!r}")
            raise
        finally:
            for task in batch[1:]:
                task.call()

    def _execute_alone(self, task: _Task) -> None:
        try:
            task.result = self._run_alone(task.inputs, task.outputs, task.rows, task.deadline)
        except ServingError as error:
            task.result = error

    def _run_alone(self, inputs: Arrays, outputs: Sequence[str], rows: int, deadline: float | None) -> list[np.ndarray]:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise _late("the deadline passed before the request was run")
        padded = self._batching.padded(rows)
        if padded > rows:
            inputs = _fill_up(inputs, inputs, padded)
        arrays = self._signature.run(inputs, outputs, left)
        _check_outputs(outputs, arrays, padded)
        return [array[:rows] for array in arrays] if padded > rows else arrays

    def _merge(self, batch: Sequence[_Task]) -> list[np.ndarray]:
        rows = sum(task.rows for task in batch)
        inputs = {}
        for alias in batch[0].inputs:
            arrays = [task.inputs[alias] for task in batch]
            if self._batching.pad_variable_length_inputs:
                arrays = _pad(arrays)
            inputs[alias] = np.concatenate(arrays)
        # The copies are of the last task's first row, as TensorFlow Serving has it.
        last = {alias: array[rows - batch[-1].rows :] for alias, array in inputs.items()}
        padded = self._batching.padded(rows)
        lefts = [task.time_left() for task in batch]
        timeout = None if None in lefts else max(*lefts, 1e-3)
        outputs = batch[0].outputs
        arrays = self._signature.run(_fill_up(inputs, last, padded), outputs, timeout)
        _check_outputs(outputs, arrays, padded)
        return arrays


def _rows(inputs: Arrays) -> int:
    """Return the 0th dimension that all inputs share."""
    if not inputs or any(array.ndim == 0 for array in inputs.values()):
        raise _unfit("Batching needs inputs with at least one dimension, their rows")
    sizes = {alias: len(array) for alias, array in inputs.items()}
    if len(set(sizes.values())) > 1:
        raise _unfit(f"Batching needs inputs of equal 0th dimension, got {sizes}")
    return next(iter(sizes.values()))


def _check_outputs(outputs: Sequence[str], arrays: Sequence[np.ndarray], rows: int) -> None:
    for alias, array in zip(outputs, arrays, strict=True):
        if array.ndim == 0:
            raise _unfit(f"Batched output tensor has 0 dimensions: {alias}")
        if len(array) != rows:
            raise _unfit(
                f"Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                f"input tensors: {alias} has {len(array)}, the inputs {rows}"
            )


def _fill_up(inputs: Arrays, source: Arrays, rows: int) -> dict[str, np.ndarray]:
    """Return `inputs` with copies of the first row of `source` behind, so that there are `rows`."""
    filled = {}
    for alias, array in inputs.items():
        copies = np.repeat(source[alias][:1], rows - len(array), axis=0)
        filled[alias] = np.concatenate([array, copies]) if len(copies) else array
    return filled


def _pad(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return arrays of one inner shape, each filled up with its own first element."""
    inner = np.max([array.shape[1:] for array in arrays], axis=0)
    padded = []
    for array in arrays:
        shape = (len(array), *(int(side) for side in inner))
        if array.shape == shape:
            padded.append(array)
            continue
        nothing = b"" if array.dtype == object else np.zeros((), array.dtype)[()]
        fill = array.flat[0] if array.size else nothing
        full = np.full(shape, fill, array.dtype)
        full[tuple(slice(0, side) for side in array.shape)] = array
        padded.append(full)
    return padded


def _late(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, message)


def _unfit(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)
