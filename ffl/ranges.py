"""Ranges of numbers as type hints, such as ``lr: Positive``: programs check their configuration against them.

They bind nobody who calls a class from Python; there they only say what makes sense.
"""

import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``, with or without the ends themselves.

    Attributes:
        low, high: the ends; infinite for no limit.
        low_included, high_included: whether an end belongs to the range.
    """

    low: float = -math.inf
    high: float = math.inf
    low_included: bool = True
    high_included: bool = True

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.low_included else value > self.low
        below = value <= self.high if self.high_included else value < self.high
        return above and below

    def __str__(self) -> str:
        parts = []
        if math.isfinite(self.low):
            parts.append(f"{'at least' if self.low_included else 'above'} {self.low:g}")
        if math.isfinite(self.high):
            parts.append(f"{'at most' if self.high_included else 'below'} {self.high:g}")
        return " and ".join(parts)


Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, low_included=False)]
NonNegative = Annotated[float, Range(0)]
Decay = Annotated[float, Range(0, 1, high_included=False)]  # of a running average, such as Adam's betas
Share = Annotated[float, Range(0, 1, low_included=False, high_included=False)]  # of a whole that others share too
