"""Stopping on a signal: a cluster sends SIGTERM or SIGUSR1 before it takes a machine back, and the run saves itself.

A handler only notes its signal. The training loop asks after each step, in all processes together, whether one came, so
that all of them stop after the same step.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from ffl.errors import Preempted
from ffl.training import distributed

# SIGUSR2 only where somebody handles it already, as the submitit launcher does, which then puts the job back in line.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class StopSignals:
    """Notes signals inside its block, and forwards them to former handlers when the loop has saved."""

    def __init__(self) -> None:
        self.former: dict[signal.Signals, Any] = {}
        self.noted: set[signal.Signals] = set()

    def __enter__(self) -> "StopSignals":
        # Python lets no other thread set handlers, and a library that trains in one needs none.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler) or (handler == signal.SIG_DFL and number != signal.SIGUSR2):
                    self.former[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # torchrun ends the rest of a broken run with SIGTERM. Their handlers stay, so that they can say what is wrong.
        if error is not None and distributed.world_size() > 1:
            return
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # It may interrupt any line, an update of the weights included, and so does no more than this.
        self.noted.add(signal.Signals(number))

    def asked(self) -> list[signal.Signals]:
        """The signals that any process of the run was sent since the last time; all processes must ask together."""
        # Only some of the processes may have been sent the signal, but all have to leave the loop.
        flags = distributed.all_reduce_any([number in self.noted for number in SIGNALS])
        numbers = [number for number, flag in zip(SIGNALS, flags, strict=True) if flag]
        self.noted.difference_update(numbers)
        return numbers

    def forward(self, numbers: list[signal.Signals], message: str) -> None:
        """Call the handlers that signals had before, such as that of a launcher that puts the job back in line.

        A handler that returns wants the run to go on, and so does this method.

        Raises:
            Preempted: with ``message``, if a signal had no handler.
        """
        handlers = [self.former.get(number) for number in numbers]
        for number, handler in zip(numbers, handlers, strict=True):
            if callable(handler):
                handler(number, None)
        if not all(callable(handler) for handler in handlers):
            raise Preempted(message)
