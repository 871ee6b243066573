"""Work shared among processes."""

from __future__ import annotations

import math
import os
import signal

import pytest

from tfthesis.errors import UserError
from tfthesis.processes import allow_processes, allowed_processes, map_in_processes


def test_one_process_unless_more_are_allowed():
    assert allowed_processes() == 1
    with allow_processes(3):
        assert allowed_processes() == 3
    assert allowed_processes() == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order_and_calls_are_not_taken_ahead(processes):
    taken = []

    def calls():
        for number in range(12):
            taken.append(number)
            yield number, 3

    results = map_in_processes(math.pow, calls(), processes, "")
    assert next(results) == 0.0
    assert len(taken) <= 2 * processes + 1
    assert list(results) == [number**3 for number in range(1, 12)]


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_of_the_function_are_its_own(processes):
    with pytest.raises(ValueError, match="math domain error"):
        list(map_in_processes(math.sqrt, [(4,), (-1,)], processes, ""))


def test_a_killed_process_is_said():
    calls = [(signal.SIGKILL,)] * 3
    with pytest.raises(UserError, match="one of 2 processes was killed; take fewer"):
        list(map_in_processes(signal.raise_signal, calls, 2, "take fewer"))


def test_work_is_done_elsewhere():
    (other,) = map_in_processes(os.getpid, [()], 2, "")
    assert other != os.getpid()
