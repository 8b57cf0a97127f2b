"""Progress of long work: a bar with the time left on a terminal, a line now and then elsewhere."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

SECONDS_PER_LINE = 30.0  # without a terminal: a log of a night then has a thousand lines


def progress_bar(
    total: int, what: str, unit: str, items: Iterable[Any] | None = None, initial: int = 0, shown: bool = True
) -> "tqdm[Any]":
    """A bar on the standard error stream: a context manager to be updated, or an iterable that does so by itself.

    Without a terminal, as in a log file, the same text is a line every 30 seconds; work that takes less prints nothing.

    Args:
        total: amount of work.
        what: name of the work.
        unit: of the amount, such as "image".
        items: what iterating gives.
        initial: amount that is done already.
        shown: False for a bar that never prints.
    """
    options: dict[str, Any] = {"total": total, "desc": what, "unit": unit, "initial": initial, "disable": not shown}
    options["smoothing"] = 0.05  # work that is reported in portions has no steady speed
    if sys.stderr.isatty():
        return tqdm(items, **options, dynamic_ncols=True, mininterval=0.5)
    every = {"mininterval": SECONDS_PER_LINE, "maxinterval": SECONDS_PER_LINE, "delay": SECONDS_PER_LINE}
    return tqdm(items, **options, **every, file=Lines(sys.stderr))


class Lines:
    """A stream on which what tqdm draws in place, one picture over the other, becomes lines.

    Args:
        stream: where the lines go.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Write a line of what is left of ``text`` without movements of the cursor; nothing of nothing."""
        if line := text.strip("\r\n "):
            self.stream.write(f"{line}\n")

    def flush(self) -> None:
        self.stream.flush()
