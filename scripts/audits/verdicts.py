"""Verdicts on claims: numbers are compared one by one, and a quantifier decides over the comparisons."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

Verdict = Literal["holds", "fails", "not tested"]
Quantifier = Literal["all", "most", "some", "none worse"]
Seed = int | None  # None for a printed number


class Absent(Exception):
    """A number that is not there; the message is one line that says why, or the command that makes it."""


@dataclass(frozen=True)
class Gap:
    """A comparison that cannot be made.

    Attributes:
        label: what would have been compared.
        reason: one line.
        group: what it belongs to in a report, such as a data set.
    """

    label: str
    reason: str
    group: str = ""


@dataclass(frozen=True)
class Difference:
    """A difference between two numbers, seed by seed.

    Attributes:
        label: what is compared, such as "PSNR".
        by_seed: the difference for each seed that both numbers have; one entry under None for printed numbers.
        sign: +1 where a positive difference is what the claim says, -1 where a negative one is.
        group: what it belongs to in a report, such as a data set.
    """

    label: str
    by_seed: Mapping[Seed, float]
    sign: int = 1
    group: str = ""

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.by_seed.values())

    @property
    def gain(self) -> float:
        """Mean over seeds, positive where it goes the claim's way."""
        return self.sign * self.mean

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over seeds of the difference; None with fewer than two."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" ± {self.spread:.3f}"
        return f"{self.label} {self.mean:+.3f}{spread}"


@dataclass(frozen=True)
class Measure:
    """A number that a threshold judges.

    Attributes:
        label: what it is of.
        value: the number.
        shown: the number as text, with its unit.
        seeds: how many runs it is the mean of; None for printed numbers.
        group: what it belongs to in a report, such as a data set.
    """

    label: str
    value: float
    shown: str
    seeds: int | None = None
    group: str = ""

    def __str__(self) -> str:
        return f"{self.label} {self.shown}"


Item = TypeVar("Item", Difference | Gap, Measure | Gap)


@dataclass(frozen=True)
class Finding:
    """What the numbers say about a claim.

    Attributes:
        verdict: about the numbers that are there; ``tested`` of ``total`` says how many of the claim's those are.
        summary: one line.
        numbers: what the verdict rests on.
        tested: comparisons made.
        total: comparisons that the claim is about.
        missing: why the others could not be made.
        seeds: fewest seeds behind a comparison; None for printed numbers or none at all.
        spreads: differences that have a spread over seeds.
        within_spread: those of them that are no larger than it.
    """

    verdict: Verdict
    summary: str
    numbers: tuple[str, ...] = ()
    tested: int = 0
    total: int = 0
    missing: tuple[str, ...] = ()
    seeds: int | None = None
    spreads: int = 0
    within_spread: tuple[str, ...] = ()


def difference(
    label: str, a: Mapping[Seed, float], b: Mapping[Seed, float], higher_is_better: bool
) -> Difference | Gap:
    """``a`` minus ``b`` for the seeds that both have, read as "a is better than b"."""
    common = [seed for seed in a if seed in b]
    if not common:
        return Gap(label, "no seed was run on both sides")
    return Difference(label, {seed: a[seed] - b[seed] for seed in common}, 1 if higher_is_better else -1)


def judge(items: Sequence[Difference | Gap], quantifier: Quantifier, what: str = "better") -> Finding:
    """Whether differences go the claim's way.

    Args:
        items: the comparisons.
        quantifier: "all", "most" (more than half) and "some" (at least one) of those that could be made; "none worse":
            most go the claim's way and none goes the other, where a tie is neither.
        what: the claim's way, for the summary.
    """
    found = [item for item in items if isinstance(item, Difference)]
    gaps = [item for item in items if isinstance(item, Gap)]
    if not found:
        return untested(gaps, len(items))
    good = [item for item in found if item.gain > 0]
    bad = [item for item in found if item.gain < 0]
    ties = [item for item in found if item.gain == 0]
    holds = {
        "all": len(good) == len(found),
        "most": 2 * len(good) > len(found),
        "some": bool(good),
        "none worse": not bad and 2 * len(good) > len(found),
    }[quantifier]
    summary = f"{what} in {len(good)} of {len(found)}"
    summary += f", equal in {_names(ties)}" if ties else ""
    summary += f", not in {_names(bad)}" if bad else ""
    return Finding(
        "holds" if holds else "fails",
        summary,
        _by_group(found),
        len(found),
        len(items),
        _reasons(gaps),
        fewest(None if None in item.by_seed else len(item.by_seed) for item in found),
        sum(item.spread is not None for item in found),
        tuple(_name(item) for item in found if item.spread is not None and abs(item.mean) <= item.spread),
    )


def judge_measures(items: Sequence[Measure | Gap], accept: Callable[[float], bool], what: str) -> Finding:
    """Whether all numbers satisfy a threshold.

    Args:
        items: the numbers.
        accept: the threshold.
        what: what an accepted number is, for the summary.
    """
    found = [item for item in items if isinstance(item, Measure)]
    gaps = [item for item in items if isinstance(item, Gap)]
    if not found:
        return untested(gaps, len(items))
    outside = [item for item in found if not accept(item.value)]
    return Finding(
        "fails" if outside else "holds",
        f"{what} in {len(found) - len(outside)} of {len(found)}" + (f", not in {_names(outside)}" if outside else ""),
        _by_group(found),
        len(found),
        len(items),
        _reasons(gaps),
        fewest(item.seeds for item in found),
    )


def every_part(parts: Mapping[str, Finding]) -> Finding:
    """A claim of several parts holds where all that could be tested hold."""
    tested = {name: part for name, part in parts.items() if part.verdict != "not tested"}
    missing = tuple(dict.fromkeys(reason for part in parts.values() for reason in part.missing))
    total = sum(part.total for part in parts.values())
    if not tested:
        return Finding("not tested", "; ".join(missing), total=total, missing=missing)
    failing = [f"{name}: {part.summary}" for name, part in tested.items() if part.verdict == "fails"]
    summary = f"{len(tested) - len(failing)} of {len(tested)} parts hold"
    return Finding(
        "fails" if failing else "holds",
        "; ".join([summary, *failing]),
        tuple(f"{name}: {part.summary}: {'; '.join(part.numbers)}" for name, part in tested.items()),
        sum(part.tested for part in tested.values()),
        total,
        missing,
        fewest(part.seeds for part in tested.values()),
        sum(part.spreads for part in tested.values()),
        tuple(f"{name} {label}" for name, part in tested.items() for label in part.within_spread),
    )


def untested(gaps: Sequence[Gap], total: int = 0) -> Finding:
    """The finding where no number is there."""
    reasons = _reasons(gaps)
    return Finding("not tested", "; ".join(reasons), total=total, missing=reasons)


def unless_absent(label: str, find: Callable[[], Finding]) -> Finding:
    """What ``find`` finds, or that its one number is not there."""
    try:
        return find()
    except Absent as reason:
        return untested([Gap(label, str(reason))], 1)


def fewest(seeds: Iterable[int | None]) -> int | None:
    """The fewest seeds behind several numbers; None where one of them is printed."""
    counts = list(seeds)
    return None if None in counts else min((count for count in counts if count is not None), default=None)


def grouped(items: Sequence[Item], group: str) -> list[Item]:
    """The same comparisons, as part of a group."""
    return [replace(item, group=group) for item in items]


def _name(item: Difference | Gap | Measure) -> str:
    return f"{item.group} {item.label}" if item.group else item.label


def _names(items: Sequence[Difference | Measure]) -> str:
    return ", ".join(_name(item) for item in items)


def _by_group(items: Sequence[Difference | Measure]) -> tuple[str, ...]:
    """Numbers as text, one line for each group."""
    lines: dict[str, list[str]] = {}
    for item in items:
        lines.setdefault(item.group, []).append(str(item))
    return tuple(f"{group}: {', '.join(texts)}" if group else ", ".join(texts) for group, texts in lines.items())


def _reasons(gaps: Sequence[Gap]) -> tuple[str, ...]:
    """Each reason once, with what it is about where it does not hold for all."""
    by_reason: dict[str, list[str]] = {}
    for gap in gaps:
        by_reason.setdefault(gap.reason, []).append(_name(gap))
    return tuple(
        reason if len(by_reason) == 1 else f"{', '.join(dict.fromkeys(names))}: {reason}"
        for reason, names in by_reason.items()
    )
