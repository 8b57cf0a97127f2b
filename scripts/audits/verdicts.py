"""From numbers to a verdict: each comparison of a claim is one item, and a count over the items decides.

Numbers scatter from seed to seed, and a verdict is beyond chance if it would stay the same whichever way the
comparisons went whose sign the seeds leave open: those with a single seed, and those whose t interval reaches across
the limit.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from scipy.special import stdtrit

Verdict = Literal["holds", "fails", "not tested"]
Count = Literal["all", "most", "some", "none worse"]
CONFIDENCE = 0.95  # of the t intervals, two-sided


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
    def half_width(self) -> float | None:
        """Half of the t interval of the mean: t · s / √n, s the sample standard deviation over n seeds.

        None with fewer than two seeds: one value tells nothing of its scatter.
        """
        spread = statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else self.lost_spread
        runs = max(len(self.by_seed), self.runs or 0)
        if spread is None or runs < 2:
            return None
        return float(stdtrit(runs - 1, (1 + CONFIDENCE) / 2)) * spread / math.sqrt(runs)

    def __sub__(self, other: "Numbers") -> "Numbers":
        """The difference for each seed that both have, so that what a seed does to both cancels."""
        mine, others = matched(self, other)
        differences = {seed: value - others.by_seed[seed] for seed, value in mine.by_seed.items()}
        return Numbers(differences, mine.runs, missing=mine.missing)

    def __rmul__(self, factor: float) -> "Numbers":
        spread = None if self.lost_spread is None else abs(factor) * self.lost_spread
        return Numbers({seed: factor * value for seed, value in self.by_seed.items()}, self.runs, spread, self.missing)


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
        half_width: of the t interval around ``value``; None for printed numbers and for one seed.
        group: what the item belongs to in a report, such as a data set.
        metric: the label of the metric that is compared; "" for other quantities.
        missing: why the comparison cannot be made; None where it can.
    """

    label: str
    value: float
    shown: str
    runs: int | None = None
    half_width: float | None = None
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
        beyond_chance: whether the verdict does not rest on comparisons that seeds leave open; None without seeds.
        within_chance: the comparisons whose t interval reaches across the limit.
        one_seed: the comparisons that rest on a single seed, which can never be beyond chance.
    """

    verdict: Verdict
    summary: str
    numbers: tuple[str, ...] = ()
    tested: int = 0
    total: int = 0
    missing: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    seeds: int | None = None
    beyond_chance: bool | None = None
    within_chance: tuple[str, ...] = ()
    one_seed: tuple[str, ...] = ()


def decide(ways: Sequence[int], count: Count) -> bool:
    """Whether a claim holds whose comparisons go its way (1), the other way (-1) or neither (0)."""
    good = ways.count(1)
    return {
        "all": good == len(ways),
        "most": 2 * good > len(ways),
        "some": good > 0,
        "none worse": -1 not in ways and 2 * good > len(ways),
    }[count]


def judge(
    items: Sequence[Item], words: str, limits: tuple[float, float] | None = None, count: Count = "all"
) -> Finding:
    """Whether the items go the claim's way.

    Args:
        items: the comparisons.
        words: the claim's way, for the summary.
        limits: between which a value goes the claim's way; None: where it is positive, and 0 is a tie.
        count: "all", "most" (more than half) or "some" (at least one) of those that could be made; "none worse": most
            go the claim's way and none goes the other.
    Returns:
        The verdict. A claim about several groups (tasks, data sets, rivals) is not tested as long as one that has no
        number at all could turn it; nor does a claim about some of them fail before all are measured.
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

    def way(value: float) -> int:
        if limits is None:
            return (value > 0) - (value < 0)
        return 1 if limits[0] <= value <= limits[1] else -1

    def is_open(item: Item) -> bool:
        if item.half_width is None:
            return item.runs is not None  # a single seed; printed numbers are taken as they are
        low, high = item.value - item.half_width, item.value + item.half_width
        bounds = (0.0, 0.0) if limits is None else limits
        # Decided is an interval that no bound cuts, and that is not so wide as to hold both bounds.
        return any(low <= bound <= high for bound in bounds)

    ways = [way(item.value) for item in found]
    # A group that nobody measured could have gone either way, and so could any number of which one is enough. Where
    # that matters, the claim is not tested.
    measured = {item.group for item in found}
    absent = sum(item.group not in measured or (count == "some" and item.missing is not None) for item in items)
    at_worst, at_best = (decide([*ways, *[sign] * absent], count) for sign in (-1, 1))
    verdict: Verdict = "not tested" if at_worst != at_best else "holds" if at_best else "fails"
    # The same question decides whether chance could have made the verdict.
    open_items = [item for item in found if is_open(item)]
    sure = [sign for sign, item in zip(ways, found, strict=True) if item not in open_items]
    outcomes = {decide([*sure, *[turned] * (len(open_items) + absent)], count) for turned in (-1, 1)}
    has_seeds = any(item.runs is not None for item in found)

    named = {sign: [item.name for item, went in zip(found, ways, strict=True) if went == sign] for sign in (0, -1)}
    summary = f"{words} in {ways.count(1)} of {len(found)}"
    summary += f", equal in {', '.join(named[0])}" if named[0] else ""
    summary += f", not in {', '.join(named[-1])}" if named[-1] else ""
    if verdict == "not tested":
        unknown = [item for item in items if item.missing is not None]
        groups = dict.fromkeys(item.group for item in unknown if item.group not in measured)
        summary += f", no number of {', '.join(groups or dict.fromkeys(item.name for item in unknown))}"
    # The numbers, one line for each data set or task that they are of.
    lines: dict[str, list[str]] = {}
    for item in found:
        lines.setdefault(item.group, []).append(f"{item.label} {item.shown}")
    return Finding(
        verdict,
        summary,
        tuple(f"{group}: {', '.join(texts)}" if group else ", ".join(texts) for group, texts in lines.items()),
        len(found),
        len(items),
        missing,
        metrics_of(found),
        fewest(item.runs for item in found),
        len(outcomes) == 1 if has_seeds and verdict != "not tested" else None,
        tuple(item.name for item in open_items if item.half_width is not None),
        tuple(item.name for item in open_items if item.half_width is None),
    )


def every_part(parts: Mapping[str, Finding]) -> Finding:
    """A claim of several parts: fails with any of them, holds with all of them, and is else not tested."""
    total = sum(part.total for part in parts.values())
    missing = tuple(dict.fromkeys(reason for part in parts.values() for reason in part.missing))
    by_verdict: dict[Verdict, dict[str, Finding]] = {"holds": {}, "fails": {}, "not tested": {}}
    for name, part in parts.items():
        by_verdict[part.verdict][name] = part
    holding, failing, untested = by_verdict.values()
    measured = {name: part for name, part in parts.items() if part.tested}
    if not measured:
        return Finding("not tested", "; ".join(missing), total=total, missing=missing)

    summary = [f"{len(holding)} of {len(parts)} parts hold"]
    summary += [f"{name}: {part.summary}" for name, part in failing.items()]
    summary += [f"not tested: {', '.join(untested)}"] if untested else []
    verdict: Verdict = "fails" if failing else "not tested" if untested else "holds"
    # One part that surely fails settles a failure; for the whole to hold surely, every part must.
    sure = [part.beyond_chance for part in (failing or measured).values()]
    return Finding(
        verdict,
        "; ".join(summary),
        tuple(f"{name}: {part.summary}: {'; '.join(part.numbers)}" for name, part in measured.items()),
        sum(part.tested for part in measured.values()),
        total,
        missing,
        tuple(dict.fromkeys(metric for part in measured.values() for metric in part.metrics)),
        fewest(part.seeds for part in measured.values()),
        None if None in sure or verdict == "not tested" else any(sure) if failing else all(sure),
        tuple(f"{name} {label}" for name, part in measured.items() for label in part.within_chance),
        tuple(f"{name} {label}" for name, part in measured.items() for label in part.one_seed),
    )


def metrics_of(items: Iterable[Item]) -> tuple[str, ...]:
    """The metrics that items compare, each once."""
    return tuple(dict.fromkeys(item.metric for item in items if item.metric))


def fewest(runs: Iterable[int | None]) -> int | None:
    """The fewest runs behind several numbers; None where one of them is printed."""
    counts = list(runs)
    return None if None in counts else min((count for count in counts if count is not None), default=None)
