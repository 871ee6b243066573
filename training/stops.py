"""Why training ends before its time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

from tfthesis.errors import UserError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop and has written a checkpoint.

    Attributes:
        signal: number of the signal that asked.
        exit_code: what a shell expects: 130 after SIGINT, 143 after SIGTERM.
    """

    def __init__(self, number: int, where: str):
        super().__init__(
            f"stopped by {signal.Signals(number).name} after {where}; a checkpoint is written. "
            "Run the same command again to resume."
        )
        self.signal = number
        self.exit_code = 128 + number


class NonFiniteLossError(UserError):
    """The loss is not a number again and again; `exit_code` is what the command line returns."""

    exit_code = 3

    def __init__(self, where: str, what: str, items: Sequence[str], reason: str):
        shown = ", ".join(items[:20]) + (f" and {len(items) - 20} more" if len(items) > 20 else "")
        super().__init__(
            f"training stopped at {where}: {what}. {reason} Items of the batch: {shown}. Look at these "
            "items or lower the learning rate; the last checkpoint is from before this step."
        )


class SignalWatch:
    """Holds SIGINT and SIGTERM back until a step is done and a checkpoint is written.

    Called, it returns the number of the signal that came, or 0. A second signal acts at once. When the block
    ends with `Interrupted`, the handler that was there before gets the signal. Outside the main thread, where
    Python takes no signals, it does nothing.
    """

    def __init__(self) -> None:
        self._came = 0
        self._before: dict[int, Any] = {}

    def __call__(self) -> int:
        return self._came

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is threading.main_thread():
            # A handler that was not set from Python reads as None.
            self._before = {number: signal.signal(number, self._take) or signal.SIG_DFL for number in SIGNALS}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
        if isinstance(error, Interrupted) and self._came:
            signal.raise_signal(self._came)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._came:
            self._restore()
            signal.raise_signal(number)
        self._came = number

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
