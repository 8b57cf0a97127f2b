"""What a claim can say of numbers: each function here is an operator of claims.yaml and judges any source alike.

The first two arguments of every operator are the claim and the source; the others come from claims.yaml:

    rows       the row that the claim is about, then the rows that it is compared with
    pairs      in place of rows, names of pairs: the row with FFL is compared with the one without
    groups     blocks of columns with the words for each; left out: those of the claim
    metrics    left out: all that the paper prints in the block, of which PSNR and LFD are one (see ``claims.votes``)
    leave_out  comparisons that the claim is not about, as "row group" or "row group metric"
    count      "all", "most", "some" or "none worse" of the comparisons decide
    words      what the claim says, for the summary
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ffl.metrics import METRICS
from ffl.metrics.bands import coherence, power_ratio
from ffl.training.record import Record
from scripts.audits.claims import Claim, Pair, read_pairs, votes
from scripts.audits.evidence import AVERAGE_GAP, RowGroup, Source, is_of
from scripts.audits.verdicts import Count, Finding, Item, Numbers, every_part, fewest, judge, matched, metrics_of
from scripts.tables import read_table

# What "close", "greatly", "to lose" and "negligible" are taken to mean; the head of claims.yaml tells readers.
CLOSE = 0.25
GREATLY = 0.05
LOST = 0.5
NEGLIGIBLE_TIME = 1.05
NEGLIGIBLE_MEMORY = 1.01
LOG_PER_DECIBEL = math.log(10) / 10
HIGH = {"top octave": -2, "corners": -1}  # the high bands: from half the Nyquist frequency on, and beyond it

Names = Sequence[str]
Column = tuple[str, str, str]  # id of a group, metric, words for the group


def judge_claim(claim: Claim, source: Source) -> Finding:
    """The verdict of a source's numbers on a claim."""
    return apply(claim, source, claim.operator, claim.arguments)


def apply(claim: Claim, source: Source, operator: str, arguments: Any) -> Finding:
    """The verdict of one operator; a list of arguments stands for its rows."""
    return OPERATORS[operator](claim, source, **({"rows": arguments} if isinstance(arguments, list) else arguments))


def all_of(claim: Claim, source: Source, **parts: dict[str, Any]) -> Finding:
    """Each part of the claim, by name, holds."""
    return every_part({name: apply(claim, source, *next(iter(part.items()))) for name, part in parts.items()})


# Rows against rows, metric by metric.


def better(
    claim: Claim,
    source: Source,
    *,
    rows: Names = (),
    pairs: Names = (),
    groups: Mapping[str, str] | None = None,
    metrics: Names | None = None,
    leave_out: Names = (),
    count: Count = "all",
    words: str = "better",
    worse: bool = False,
) -> Finding:
    """The first row is better than each of the others, or FFL improves the pairs."""
    items = [item for name in pairs for item in effect(source, read_pairs()[name], metrics, named=True)]
    for column in columns(claim, groups, metrics) if rows else ():
        group, metric, name = column
        for rival in rivals(rows, column, leave_out):
            label = ", ".join(filter(None, (name, f"against {rival}" if len(rows) > 2 else "")))
            a, b = (RowGroup(claim.table, row, group) for row in (rows[0], rival))
            items.append(compare(source, a, b, metric, label, worse))
    return judge(items, words, count=count)


def worse(claim: Claim, source: Source, *, words: str = "worse", **options: Any) -> Finding:
    """The first row is worse than each of the others; options as of ``better``."""
    return better(claim, source, words=words, worse=True, **options)


def order(claim: Claim, source: Source, *, rows: Sequence[str | list[str]]) -> Finding:
    """The rows from best to worst; rows in one inner list are not ranked among themselves."""
    levels = [[level] if isinstance(level, str) else level for level in rows]
    steps = [(a, b) for upper, lower in itertools.pairwise(levels) for a in upper for b in lower]
    return every_part({f"{a} over {b}": better(claim, source, rows=[a, b]) for a, b in steps})


def share(
    claim: Claim,
    source: Source,
    *,
    rows: Names,
    words: str,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    count: Count = "all",
) -> Finding:
    """How much better each row is than the last one, as a share of what FFL changes, is within bounds."""
    items = []
    for row in rows[:-1]:
        found = shares(claim, source, [row, rows[-1]])
        items += [replace(item, label=f"{row} {item.label}") if len(rows) > 2 else item for item in found]
    return judge(items, words, (at_least, at_most), count)


def close(claim: Claim, source: Source, *, rows: Names) -> Finding:
    """Two rows differ, either way, by at most a quarter of what FFL changes."""
    return share(claim, source, rows=rows, at_least=-CLOSE, at_most=CLOSE, words="close")


def loses_most(claim: Claim, source: Source, *, metric: str, rows: Names) -> Finding:
    """The first row loses more against the second in one metric than in every other, as shares of what FFL changes."""
    # A loss of the first row is a gain of the second, so that the rows change places.
    losses = {column[1]: item for column, item in zip(columns(claim), shares(claim, source, rows[::-1]), strict=True)}
    own = losses.pop(metric)
    if own.missing:  # whatever the others lose, this is about that metric
        return judge([own], "")
    items = []
    for other in losses.values():
        # The two are of the same runs: the interval of their difference is no wider than both intervals together.
        width = None if own.half_width is None or other.half_width is None else own.half_width + other.half_width
        label, shown = f"{own.label} over {other.label}", f"{own.shown} to {other.shown}"
        more = own.value - other.value
        items.append(replace(other, label=label, value=more, shown=shown, half_width=width, metric=other.label))
    finding = judge(items, "more is lost")
    return replace(finding, metrics=(own.label, *finding.metrics))


def most(claim: Claim, source: Source, *, rows: Names) -> Finding:
    """No other row is the best in more metrics than the first."""
    wins: list[Item] = []  # the value of each is the number of its row
    is_open: list[bool] = []
    absent: list[Item] = []
    for group, official, _ in columns(claim):
        places = {row: RowGroup(claim.table, row, group) for row in rows}
        metric = source.judged_metric(official, places.values())
        label = METRICS[metric].label
        numbers = {row: source.numbers(place, metric) for row, place in places.items()}
        for row in [row for row in rows if numbers[row].missing]:
            absent.append(Item(f"{label} of {row}", 0, "", missing=numbers.pop(row).missing))
        if len(numbers) < 2:  # the best of one row says nothing
            continue
        # Of equal rows the first counts. A best row that is not surely ahead of the next may be the best by chance.
        best, second, *_ = sorted(numbers, key=lambda row: -direction(metric) * numbers[row].mean)
        ahead = difference(label, numbers[best] - numbers[second])
        wins.append(Item(label, rows.index(best), best, numbers[best].runs, metric=label))
        is_open.append(ahead.runs is not None and (ahead.half_width is None or abs(ahead.value) <= ahead.half_width))
    nothing = judge(absent, "")
    if not wins:
        return replace(nothing, total=len(columns(claim)))
    counts = [sum(item.value == index for item in wins) for index in range(len(rows))]
    holds = counts[0] >= max(counts[1:])
    # At worst every open win goes to another row; at best to the first.
    surely = [sum(item.value == n and not o for item, o in zip(wins, is_open, strict=True)) for n in range(len(rows))]
    at_worst, at_best = surely[0] >= max(surely[1:]) + sum(is_open), surely[0] + sum(is_open) >= max(surely[1:])
    open_items = [item for item, o in zip(wins, is_open, strict=True) if o]
    return Finding(
        "holds" if holds else "fails",
        f"{rows[0]} is the best in {counts[0]} of {len(wins)}",
        (", ".join(f"{item.label} {item.shown}" for item in wins),),
        len(wins),
        len(columns(claim)),
        nothing.missing,
        metrics_of(wins),
        fewest(item.runs for item in wins),
        None if wins[0].runs is None else at_worst == at_best,
        tuple(item.label for item in open_items if item.runs != 1),
        tuple(item.label for item in open_items if item.runs == 1),
    )


def gains_more(claim: Claim, source: Source, *, pair: str, than: str) -> Finding:
    """FFL improves one pair by more than another, in every metric."""
    items, pairs = [], (read_pairs()[pair], read_pairs()[than])
    for official in votes(pairs[0].metrics):
        metric = source.judged_metric(official, [place for item in pairs for place in (item.with_ffl, item.without)])
        more, less = (
            direction(metric) * (source.numbers(item.with_ffl, metric) - source.numbers(item.without, metric))
            for item in pairs
        )
        items.append(replace(difference(METRICS[metric].label, more - less), metric=METRICS[metric].label))
    return judge(items, "more")


def every_pair_better(claim: Claim, source: Source, *, count: Count) -> Finding:
    """FFL improves every pair, each in all, most or some of its metrics."""
    parts = {f"{pair.model} on {pair.data}": effect(source, pair) for pair in read_pairs().values()}
    return every_part({name: judge(items, "better", count=count) for name, items in parts.items()})


def ahead(claim: Claim, source: Source, *, rows: Names, leave_out: Names = ()) -> Finding:
    """The first row is ahead of the best other row by at least 5 % of that row's value."""
    items = []
    for column in columns(claim):
        group, official, name = column
        places = [RowGroup(claim.table, row, group) for row in [rows[0], *rivals(rows, column, leave_out)]]
        metric = source.judged_metric(official, places)
        own, *others = (source.numbers(place, metric) for place in places)
        # The best of the others counts, whichever method it is. One that is not there could have been the best, so that
        # its column is left out.
        best = max(others, key=lambda numbers: direction(metric) * numbers.mean)
        margin = direction(metric) / best.mean * (own - best)
        missing = next((numbers.missing for numbers in (own, *others) if numbers.missing), None)
        label, shown = METRICS[metric].label, f"{margin.mean:+.1%}"
        items.append(Item(label, margin.mean, shown, margin.runs, margin.half_width, name, missing, label))
    return judge(items, "ahead by 5 %", (GREATLY, math.inf))


# Bands of frequency, training curves and cost.


def narrower(
    claim: Claim,
    source: Source,
    *,
    quantity: str,
    words: str,
    pair: str = "",
    rows: Names = (),
    by: float = 0.0,
    names: Names = ("with FFL", "without"),
) -> Finding:
    """A quantity is smaller with FFL than without, by at least a share ``by`` of the latter.

    Args:
        claim: the claim.
        source: of the numbers.
        quantity: as in ``measures``.
        words: what a quantity that shrinks enough is called in the summary.
        pair: name of a pair; or
        rows: two rows, of which the first is to have the smaller quantity.
        by: 0 for any difference.
        names: words for the two sides, the smaller first.
    """
    items = []
    for label in measures(quantity):
        after, before, change = compare_quantity(claim, source, quantity, label, pair, rows)
        shown = f"{before.mean:.3g} {names[1]}, {after.mean:.3g} {names[0]}"
        shown += f" ({after.mean / before.mean - 1:+.0%})" if before.mean else ""
        shown += "" if change.half_width is None else f", difference {change.mean:.3g} ± {change.half_width:.3g}"
        # How far it shrinks beyond the share that is asked for, seed by seed.
        margin = (1 - by) * before - after if by else -1 * change
        items.append(replace(difference(label, margin), shown=shown))
    numbers = tuple(f"{item.label} {item.shown}" for item in items if item.missing is None)
    return replace(judge(items, words, (0.0, math.inf) if by else None), numbers=numbers)


def power_lost(claim: Claim, source: Source, *, pair: str) -> Finding:
    """Without FFL less than half of the real power is left at high frequencies."""
    items = []
    for label, (metric, of) in measures("energy_ratio").items():
        left = source.numbers(read_pairs()[pair].without, metric, of)
        items.append(Item(label, left.mean, f"{left.mean:.1%}", left.runs, left.half_width, missing=left.missing))
    return judge(items, "less than half is left", (-math.inf, LOST))


def similar_gap(claim: Claim, source: Source, *, rows: Names) -> Finding:
    """The gap at high frequencies of the first row is within a quarter of that of the second."""
    items = []
    for label in measures("log_gap"):
        after, before, change = compare_quantity(claim, source, "log_gap", label, rows=rows)
        shown = f"{before.mean:.3f} to {after.mean:.3f}"
        relative, width = after.mean / before.mean - 1, change.half_width
        width = None if width is None else width / before.mean
        items.append(Item(label, relative, shown, after.runs, width, missing=after.missing))
    return judge(items, "within a quarter", (-CLOSE, CLOSE))


def pattern(
    claim: Claim, source: Source, *, quantity: str, rows: Names, at_least: float, either_way: bool = False
) -> Finding:
    """Generated images exceed real ones in a measure of Figure 1, in some of the rows; or differ, either way."""
    items = []
    for row in rows:
        excess = source.numbers(RowGroup(claim.table, row, next(iter(claim.groups))), quantity)
        value = abs(excess.mean) if either_way else excess.mean
        items.append(Item(row, value, f"{excess.mean:+.3f}", excess.runs, excess.half_width, missing=excess.missing))
    return judge(items, "found", (at_least, math.inf), "some")


def negligible_cost(claim: Claim, source: Source, *, model: str) -> Finding:
    """FFL adds at most 5 % to the time of a training step and 1 % to its memory."""
    costs = source.overhead(model)
    if costs[0].missing:
        return judge(costs, "")
    # Time scatters from run to run and memory does not, hence two limits.
    limits = {"memory": NEGLIGIBLE_MEMORY, "time": NEGLIGIBLE_TIME}
    more = [cost.label for cost in costs if cost.value > limits[cost.label.split()[0]]]
    return Finding(
        "fails" if more else "holds",
        f"more: {', '.join(more)}" if more else "no more than that",
        (", ".join(f"{cost.label} {cost.shown}" for cost in costs),),
        len(costs),
        len(costs),
    )


def lfd_follows_from_psnr(claim: Claim, source: Source) -> Finding:
    """LFD = ln(H·W·255²) − PSNR·ln(10)/10 in every row that has both, to within the rounding of the two.

    Both are means over images of logarithms of one error, so that the means obey it as each image does. Rows that
    break it are named.
    """
    broken, largest, rows = [], 0.0, 0
    for table in source.tables():
        scores: dict[tuple[str, str, int | None], dict[str, Record]] = {}
        for record in source.records(table):
            if record.metric in ("psnr", "lfd") and record.value is not None and math.isfinite(record.value):
                run = record.provenance
                scores.setdefault((run["row"], run["group"], run.get("seed")), {})[record.metric] = record
        # Rows without one of the two, and printed ones of a size that the paper does not tell, have nothing to obey.
        for (row, _, seed), found in scores.items():
            if len(found) < 2 or found["psnr"].protocol["size"] is None:
                continue
            psnr, lfd = (found[metric].value or 0.0 for metric in ("psnr", "lfd"))
            protocol = found["psnr"].protocol
            # Ours are not rounded; the +1 inside the logarithm of Eq. 11 stays below 1e-5 up to 40 dB.
            half_unit = 0.5 * 10.0 ** -protocol["decimals"] if "decimals" in protocol else 1e-5
            at_zero = math.log(math.prod(protocol["size"]) * 255.0**2)
            expected = at_zero - psnr * LOG_PER_DECIBEL
            rows += 1
            if abs(lfd - expected) <= half_unit * (1 + LOG_PER_DECIBEL):
                largest = max(largest, abs(lfd - expected))
                continue
            where = f"{table} {row}" if seed is None else f"{table} {row} (seed {seed})"
            broken.append(
                f"broken by {where}: LFD {lfd:.3f}, but {expected:.3f} goes with PSNR {psnr:.3f}, and PSNR "
                f"{(at_zero - lfd) / LOG_PER_DECIBEL:.3f} with that LFD"
            )
    if not rows:
        nothing = "no table of ours has both; python scripts/reproduce.py table=all"
        return judge([Item("LFD and PSNR", 0, "", missing=nothing)], "")
    return Finding(
        "fails" if broken else "holds",
        f"obeyed in {rows - len(broken)} of {rows} rows",
        (*broken, f"largest deviation of the others {largest:.2g}"),
        rows,
        rows,
    )


# What operators share.


def direction(metric: str) -> int:
    """1 where a higher value is better, else -1."""
    return 1 if METRICS[metric].higher_is_better else -1


def columns(claim: Claim, groups: Mapping[str, str] | None = None, metrics: Names | None = None) -> list[Column]:
    """The columns that a claim is about."""
    return [
        (group, metric, name)
        for group, name in (groups or claim.groups).items()
        for metric in metrics or votes(read_table(claim.table).groups[group].metrics)
    ]


def rivals(rows: Names, column: Column, leave_out: Names) -> list[str]:
    """All rows but the first, without those that are left out of a column."""
    group, metric, _ = column
    return [row for row in rows[1:] if not {f"{row} {group}", f"{row} {group} {metric}"} & set(leave_out)]


def difference(label: str, change: Numbers, sign: int = 1, group: str = "") -> Item:
    """A difference as an item, positive where ``sign`` says that it goes the claim's way."""
    width = change.half_width
    shown = f"{change.mean:+.3f}" if width is None else f"{change.mean:+.3f} ± {width:.3f}"
    return Item(label, sign * change.mean, shown, change.runs, width, group, change.missing)


def compare(source: Source, a: RowGroup, b: RowGroup, metric: str, group: str = "", worse: bool = False) -> Item:
    """``a`` minus ``b``, where the claim says that ``a`` is better (or worse)."""
    metric = source.judged_metric(metric, (a, b))
    label, sign = METRICS[metric].label, -direction(metric) if worse else direction(metric)
    return replace(difference(label, source.numbers(a, metric) - source.numbers(b, metric), sign, group), metric=label)


def effect(source: Source, pair: Pair, metrics: Names | None = None, named: bool = False) -> list[Item]:
    """With FFL minus without it, in each metric; ``named``: as part of the pair's group."""
    group = pair.name if named else ""
    return [compare(source, pair.with_ffl, pair.without, metric, group) for metric in metrics or votes(pair.metrics)]


def shares(claim: Claim, source: Source, rows: Names) -> list[Item]:
    """How much better the first row is than the second, as a share of the difference that FFL makes to the metric."""
    items = []
    for group, official, name in columns(claim):
        places = [RowGroup(claim.table, row, group) for row in (*rows, *claim.ffl)]
        metric = source.judged_metric(official, places)
        label = METRICS[metric].label
        a, b, without, with_ffl = (source.numbers(place, metric) for place in places)
        gain, full = a - b, with_ffl - without
        missing = gain.missing or full.missing or (None if full.mean else "FFL makes no difference to measure by")
        # The interval is that of the difference; FFL's own, the unit, is taken as it is.
        part = gain if missing else direction(metric) / abs(full.mean) * gain
        items.append(Item(label, part.mean, f"{part.mean:+.0%}", part.runs, part.half_width, name, missing, label))
    return items


def measures(quantity: str) -> dict[str, tuple[str, Callable[[Record], float | None] | None]]:
    """How to read a quantity from records: by label, which metric's records hold it, and what it is in one of them.

    "spectrum_distance" is the metric of that name, "spatial_loss" the mean squared error at the end of training,
    "average_gap" that of Figure 9; every other quantity is one of ``in_band``, once for each of the high bands.
    """
    if quantity == "spectrum_distance":
        return {METRICS[quantity].label: (quantity, None)}
    if quantity == "average_gap":
        return {"mean gap in dB": (AVERAGE_GAP, None)}
    if quantity == "spatial_loss":
        return {"MSE": ("training", lambda record: (record.details or {}).get("spatial_loss"))}
    return {label: ("bands", partial(in_band, quantity, band)) for label, band in HIGH.items()}


def in_band(quantity: str, band: int, record: Record) -> float | None:
    """A quantity in one band of a record of bands; None where there is nothing to measure by.

    "energy_ratio" is the power of generated over real images, "log_gap" |ln energy_ratio|, 0 where there is no gap,
    "error" the band's part of the mean squared error, and "coherence" that of real and generated images.
    """
    bands = record.details or {}
    if quantity in ("error", "coherence"):
        if bands["error"] is None:
            return None
        return float(bands["error"][band] if quantity == "error" else coherence(bands)[band])
    ratio = power_ratio(bands)[band]
    if math.isnan(ratio):
        return None
    if quantity == "energy_ratio":
        return ratio
    return abs(math.log(ratio)) if ratio > 0 else math.inf


def compare_quantity(
    claim: Claim, source: Source, quantity: str, label: str, pair: str = "", rows: Names = ()
) -> tuple[Numbers, Numbers, Numbers]:
    """A quantity of ``measures`` in the two rows of a pair, or in two rows of the claim's table.

    Returns:
        The quantity with FFL, or in the first row; without FFL, or in the second; and the first minus the second. All
        are of the seeds that both rows have.
    """
    if pair:
        first, second = read_pairs()[pair].with_ffl, read_pairs()[pair].without
    else:
        first, second = (RowGroup(claim.table, row, next(iter(claim.groups))) for row in rows)
    # A comparison that was published once stands in for runs whose own numbers are gone.
    for record in source.records(first.table):
        if record.metric == "comparison" and is_of(record, first):
            details, runs = record.details or {}, len(record.provenance["seeds"])
            of_this = (second.row, quantity, label if label in HIGH else None)
            if (details["minus"], details["quantity"], details["band"]) == of_this:
                after, before = (Numbers({None: details[key]}, runs) for key in ("mean", "mean_of_minus"))
                change: dict[int | None, float] = {} if record.value is None else {None: record.value}
                return after, before, Numbers(change, runs, details["spread"])
    # Every other comparison is of runs of the same seed, which start from the same weights and see the same batches.
    metric, of = measures(quantity)[label]
    after, before = matched(source.numbers(first, metric, of), source.numbers(second, metric, of))
    return after, before, after - before


OPERATORS: dict[str, Callable[..., Finding]] = {
    function.__name__: function
    for function in (
        *(all_of, better, worse, order, share, close, loses_most, most, gains_more, every_pair_better, ahead),
        *(narrower, power_lost, similar_gap, pattern, negligible_cost, lfd_follows_from_psnr),
    )
}
