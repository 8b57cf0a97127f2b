"""From numbers to a verdict: each comparison of a claim is one item, and a count over the items decides."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["holds", "fails", "not tested"]
Count = Literal["all", "most", "some", "none worse"]


@dataclass(frozen=True)
class Numbers:
    """One quantity of one row of a table; arithmetic on absent numbers keeps the reason of their absence.

    Attributes:
        by_seed: the value of each run; under None a printed value, or a mean over runs whose single values are lost.
        runs: how many runs are behind it; None for a printed value.
        lost_spread: the spread over runs whose single values are lost.
        missing: why there is no number, in one line, or the command that makes it; None where there is one.
    """

    by_seed: Mapping[int | None, float] = field(default_factory=dict)
    runs: int | None = None
    lost_spread: float | None = None
    missing: str | None = None

    @property
    def mean(self) -> float:
        """Mean over seeds; NaN where there is no number."""
        return statistics.fmean(self.by_seed.values()) if self.by_seed else math.nan

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over seeds; None with fewer than two."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else self.lost_spread

    def __sub__(self, other: "Numbers") -> "Numbers":
        """The difference for each seed that both have, so that what a seed does to both cancels."""
        mine, others = matched(self, other)
        differences = {seed: value - others.by_seed[seed] for seed, value in mine.by_seed.items()}
        return Numbers(differences, mine.runs, missing=mine.missing)

    def __rmul__(self, factor: float) -> "Numbers":
        return Numbers({seed: factor * value for seed, value in self.by_seed.items()}, self.runs, missing=self.missing)


def matched(a: Numbers, b: Numbers) -> tuple[Numbers, Numbers]:
    """Both for the seeds that both have, or their means where single values are lost; why not, if there are none."""
    if missing := a.missing or b.missing:
        return Numbers(missing=missing), Numbers(missing=missing)
    # Means of different runs scatter more than differences seed by seed, but they are all that is left.
    if None in a.by_seed or None in b.by_seed:
        runs = fewest([a.runs, b.runs])
        return Numbers({None: a.mean}, runs), Numbers({None: b.mean}, runs)
    seeds = [seed for seed in a.by_seed if seed in b.by_seed]
    missing = None if seeds else "no seed was run on both sides"
    first, second = ({seed: numbers.by_seed[seed] for seed in seeds} for numbers in (a, b))
    return Numbers(first, len(seeds), missing=missing), Numbers(second, len(seeds), missing=missing)


@dataclass(frozen=True)
class Item:
    """One comparison that a claim is about.

    Attributes:
        label: what is compared, such as "PSNR".
        value: by which the item is judged.
        shown: the number as text.
        runs: fewest runs behind a number; None for printed ones.
        within_spread: whether a difference is no larger than its spread over seeds; None where there is no spread.
        group: what the item belongs to in a report, such as a data set.
        metric: the label of the metric that is compared; "" for other quantities.
        missing: why the comparison cannot be made; None where it can.
    """

    label: str
    value: float
    shown: str
    runs: int | None = None
    within_spread: bool | None = None
    group: str = ""
    missing: str | None = None
    metric: str = ""

    @property
    def name(self) -> str:
        """Group and label."""
        return f"{self.group} {self.label}".strip()


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
        metrics: labels of the metrics that were compared.
        seeds: fewest runs behind a comparison; None for printed numbers or none at all.
        spreads: differences that have a spread over seeds.
        within_spread: those of them that are no larger than it.
    """

    verdict: Verdict
    summary: str
    numbers: tuple[str, ...] = ()
    tested: int = 0
    total: int = 0
    missing: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    seeds: int | None = None
    spreads: int = 0
    within_spread: tuple[str, ...] = ()


def judge(
    items: Sequence[Item], words: str, accept: Callable[[float], bool] | None = None, count: Count = "all"
) -> Finding:
    """Whether the items go the claim's way.

    Args:
        items: the comparisons.
        words: the claim's way, for the summary.
        accept: whether a value goes the claim's way; None: where it is positive, and 0 is a tie.
        count: "all", "most" (more than half) or "some" (at least one) of those that could be made; "none worse": most
            go the claim's way and none goes the other.
    """
    found = [item for item in items if item.missing is None]
    # Each reason is said once, with what it is about where there are several.
    about: dict[str, dict[str, None]] = {}
    for item in items:
        if item.missing is not None:
            about.setdefault(item.missing, {})[item.name] = None
    missing = tuple(reason if len(about) == 1 else f"{', '.join(names)}: {reason}" for reason, names in about.items())
    # Weights that could not be had speak neither for a claim nor against it: only what is there is counted.
    if not found:
        return Finding("not tested", "; ".join(missing), total=len(items), missing=missing)

    ties = [item for item in found if accept is None and item.value == 0]
    good = [item for item in found if (item.value > 0 if accept is None else accept(item.value))]
    bad = [item for item in found if item not in good and item not in ties]
    holds = {
        "all": len(good) == len(found),
        "most": 2 * len(good) > len(found),
        "some": bool(good),
        "none worse": not bad and 2 * len(good) > len(found),
    }[count]
    summary = f"{words} in {len(good)} of {len(found)}"
    summary += f", equal in {', '.join(item.name for item in ties)}" if ties else ""
    summary += f", not in {', '.join(item.name for item in bad)}" if bad else ""
    # The numbers, one line for each data set or task that they are of.
    lines: dict[str, list[str]] = {}
    for item in found:
        lines.setdefault(item.group, []).append(f"{item.label} {item.shown}")
    return Finding(
        "holds" if holds else "fails",
        summary,
        tuple(f"{group}: {', '.join(texts)}" if group else ", ".join(texts) for group, texts in lines.items()),
        len(found),
        len(items),
        missing,
        metrics_of(found),
        fewest(item.runs for item in found),
        sum(item.within_spread is not None for item in found),
        tuple(item.name for item in found if item.within_spread),
    )


def every_part(parts: Mapping[str, Finding]) -> Finding:
    """A claim of several parts holds where all that could be tested hold."""
    tested = {name: part for name, part in parts.items() if part.verdict != "not tested"}
    missing = tuple(dict.fromkeys(reason for part in parts.values() for reason in part.missing))
    total = sum(part.total for part in parts.values())
    if not tested:
        return Finding("not tested", "; ".join(missing), total=total, missing=missing)
    # A part that could not be tested does not break a claim; the report says how many were.
    failing = [f"{name}: {part.summary}" for name, part in tested.items() if part.verdict == "fails"]
    return Finding(
        "fails" if failing else "holds",
        "; ".join([f"{len(tested) - len(failing)} of {len(tested)} parts hold", *failing]),
        tuple(f"{name}: {part.summary}: {'; '.join(part.numbers)}" for name, part in tested.items()),
        sum(part.tested for part in tested.values()),
        total,
        missing,
        tuple(dict.fromkeys(metric for part in tested.values() for metric in part.metrics)),
        fewest(part.seeds for part in tested.values()),
        sum(part.spreads for part in tested.values()),
        tuple(f"{name} {label}" for name, part in tested.items() for label in part.within_spread),
    )


def metrics_of(items: Iterable[Item]) -> tuple[str, ...]:
    """The metrics that items compare, each once."""
    return tuple(dict.fromkeys(item.metric for item in items if item.metric))


def fewest(runs: Iterable[int | None]) -> int | None:
    """The fewest runs behind several numbers; None where one of them is printed."""
    counts = list(runs)
    return None if None in counts else min((count for count in counts if count is not None), default=None)
