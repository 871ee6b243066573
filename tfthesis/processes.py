"""Work that is shared among processes, by those who said that they may be started.

A process of `multiprocessing` begins by importing the script that started it. Whether that script bears it is known to
the command that runs, not to the library: without `allow_processes` everything stays in the one that is there.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import contextvars
import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from tfthesis.errors import UserError

Result = TypeVar("Result")

_allowed: contextvars.ContextVar[int] = contextvars.ContextVar("allowed_processes", default=1)


@contextlib.contextmanager
def allow_processes(count: int) -> Iterator[None]:
    """Let the library work with `count` processes inside the block, this one included if it is 1."""
    token = _allowed.set(count)
    try:
        yield
    finally:
        _allowed.reset(token)


def allowed_processes() -> int:
    """Return how many processes may work: 1 unless a caller allowed more."""
    return _allowed.get()


def map_in_processes(
    function: Callable[..., Result], calls: Iterable[tuple[Any, ...]], processes: int, advice: str
) -> Iterator[Result]:
    """Yield `function(*arguments)` of all `calls` in their order, made by so many processes; 1 is this one.

    Calls are taken as they are needed, two a process ahead, so that they need not all fit into memory.

    Args:
        function: of a module, which the processes import.
        calls: the arguments of each, which are sent to the processes as the results are sent back.
        processes: started anew, since one that has loaded TensorFlow must not be copied.
        advice: what to do when one of them is killed, the end of the message.

    Raises:
        UserError: a process was killed; `function`'s own errors are raised as they are.
    """
    if processes == 1:
        yield from itertools.starmap(function, calls)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        waiting: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
        try:
            for arguments in calls:
                waiting.append(pool.submit(function, *arguments))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(f"one of {processes} processes was killed; {advice}") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
