"""Comparisons of rows of the paper's tables, on any source of numbers: what claims are made of."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from ffl.metrics import METRICS
from scripts.audits.sources import Place, Source
from scripts.audits.verdicts import (
    Absent,
    Difference,
    Finding,
    Gap,
    Measure,
    difference,
    fewest,
    grouped,
    untested,
)

RECONSTRUCTION = ("psnr", "ssim", "lpips", "fid", "lfd")
SYNTHESIS = ("fid", "is")
CITYSCAPES = ("miou", "accuracy_all", "fid")
ADE20K = ("miou", "accuracy", "fid")

Items = list[Difference | Gap]
Shares = list[Measure | Gap]


class Pair(NamedTuple):
    """Two rows of a table, without and with FFL; their ids are ``prefix_without`` and ``prefix_with``."""

    table: str
    prefix: str
    group: str
    metrics: tuple[str, ...]
    model: str
    data: str

    @property
    def without(self) -> Place:
        return Place(self.table, f"{self.prefix}_without", self.group)

    @property
    def with_ffl(self) -> Place:
        return Place(self.table, f"{self.prefix}_with", self.group)

    @property
    def name(self) -> str:
        return f"{self.model}, {self.data}"


AE_DTD = Pair("table1", "dtd", "reconstruction", RECONSTRUCTION, "vanilla AE", "DTD")
AE_CELEBA = Pair("table1", "celeba", "reconstruction", RECONSTRUCTION, "vanilla AE", "CelebA")
VAE_CELEBA = Pair("table2", "celeba", "reconstruction", RECONSTRUCTION, "VAE", "CelebA")
VAE_CELEBA_HQ = Pair("table2", "celeba_hq", "reconstruction", RECONSTRUCTION, "VAE", "CelebA-HQ")
VAE_CELEBA_SYNTHESIS = Pair("table3", "celeba", "synthesis", SYNTHESIS, "VAE synthesis", "CelebA")
VAE_CELEBA_HQ_SYNTHESIS = Pair("table3", "celeba_hq", "synthesis", SYNTHESIS, "VAE synthesis", "CelebA-HQ")
FACADES = Pair("table4", "facades", "translation", SYNTHESIS, "pix2pix", "CMP Facades")
SHOES = Pair("table4", "edges2shoes", "translation", SYNTHESIS, "pix2pix", "edges → shoes")
SPADE_CITYSCAPES = Pair("table5", "spade", "cityscapes", CITYSCAPES, "SPADE", "Cityscapes")
SPADE_ADE20K = Pair("table5", "spade", "ade20k", ADE20K, "SPADE", "ADE20K")
STYLEGAN2 = Pair("table6", "celeba_hq", "synthesis", SYNTHESIS, "StyleGAN2", "CelebA-HQ")
ANIME = Pair("table11", "danbooru", "reconstruction", RECONSTRUCTION, "vanilla AE", "anime portraits")

PAIRS = (
    AE_DTD,
    AE_CELEBA,
    VAE_CELEBA,
    VAE_CELEBA_HQ,
    VAE_CELEBA_SYNTHESIS,
    VAE_CELEBA_HQ_SYNTHESIS,
    FACADES,
    SHOES,
    SPADE_CITYSCAPES,
    SPADE_ADE20K,
    STYLEGAN2,
    ANIME,
)


def metric_label(metric: str) -> str:
    """A metric's name as tables write it."""
    names = {"miou": "mIoU", "accuracy_all": "accuracy"}
    return names.get(metric, metric.upper() if len(metric) < 6 else metric.replace("_", " "))


def higher_is_better(metric: str) -> bool:
    """Direction of a metric."""
    return bool(METRICS[metric].higher_is_better)


def compare(source: Source, a: Place, b: Place, metrics: Sequence[str], worse: bool = False) -> Items:
    """``a`` minus ``b`` in each metric, where the claim says that ``a`` is better (or worse)."""
    items: Items = []
    for metric in metrics:
        label = metric_label(metric)
        try:
            numbers, others = source.numbers(a, metric), source.numbers(b, metric)
        except Absent as reason:
            items.append(Gap(label, str(reason)))
        else:
            items.append(difference(label, numbers, others, higher_is_better(metric) != worse))
    return items


def effect(source: Source, pair: Pair) -> Items:
    """With FFL minus without it, in the metrics of the paper."""
    return compare(source, pair.with_ffl, pair.without, pair.metrics)


def effects(source: Source, pairs: Sequence[Pair]) -> Items:
    """Effects of several pairs, grouped by model and data set."""
    return [item for pair in pairs for item in grouped(effect(source, pair), pair.name)]


def larger_effect(source: Source, greater: Pair, smaller: Pair) -> Items:
    """How much more FFL improves one pair than another, in each metric; positive is more, whatever the metric."""
    items: Items = []
    for more, less in zip(effect(source, greater), effect(source, smaller), strict=True):
        if isinstance(more, Gap) or isinstance(less, Gap):
            items.append(more if isinstance(more, Gap) else less)
            continue
        gained, gained_less = (
            {seed: item.sign * value for seed, value in item.by_seed.items()} for item in (more, less)
        )
        items.append(difference(more.label, gained, gained_less, higher_is_better=True))
    return items


def shares(source: Source, better: Place, worse: Place, unit: tuple[Place, Place], metrics: Sequence[str]) -> Shares:
    """How much better one row is than another, as a share of the difference that FFL makes to the metric.

    Args:
        source: of the numbers.
        better: the share is positive where this row is the better one.
        worse: the other row.
        unit: rows without and with FFL.
        metrics: one share each.
    """
    without, with_ffl = unit
    found: Shares = []
    for metric in metrics:
        (item,) = compare(source, better, worse, [metric])
        (full,) = compare(source, with_ffl, without, [metric])
        if isinstance(item, Gap):
            found.append(item)
        elif isinstance(full, Gap):
            found.append(full)
        elif full.gain == 0:
            found.append(Gap(item.label, "FFL makes no difference to measure by"))
        else:
            share = item.gain / abs(full.gain)
            found.append(Measure(item.label, share, f"{share:+.0%}", None if source.printed else len(item.by_seed)))
    return found


def largest_loss(items: Shares, metric: str) -> Finding:
    """Whether the share of one metric is the largest of all."""
    label = metric_label(metric)
    ordered = sorted((item for item in items if isinstance(item, Measure)), key=lambda item: item.value, reverse=True)
    if label not in [item.label for item in ordered]:
        return untested([item for item in items if isinstance(item, Gap) and item.label == label], 1)
    return Finding(
        "holds" if ordered[0].label == label else "fails",
        f"largest loss in {ordered[0].label}",
        (", ".join(map(str, ordered)),),
        1,
        1,
        seeds=fewest(item.seeds for item in ordered),
    )


def winners(source: Source, rows: Sequence[Place], metrics: Sequence[str]) -> tuple[dict[str, Place], list[Gap]]:
    """The best of several rows in each metric that at least two have, and what is missing; ties go to the first."""
    best: dict[str, Place] = {}
    gaps: list[Gap] = []
    for metric in metrics:
        means: dict[Place, float] = {}
        for row in rows:
            try:
                means[row] = statistics.fmean(source.numbers(row, metric).values())
            except Absent as reason:
                gaps.append(Gap(f"{metric_label(metric)} of {row.row}", str(reason)))
        if len(means) > 1:
            best[metric] = (max if higher_is_better(metric) else min)(means, key=lambda row: means[row])
    return best, gaps


def judge_winners(
    source: Source, row: Place, others: Sequence[Place], metrics: Sequence[str], beaten_somewhere: bool = False
) -> Finding:
    """Whether a row is the best in more metrics than any other; or whether another one is the best in some metric."""
    best, gaps = winners(source, [row, *others], metrics)
    if not best:
        return untested(gaps, len(metrics))
    wins = [place.row for place in best.values()]
    own = wins.count(row.row)
    holds = own < len(wins) if beaten_somewhere else own > max(wins.count(other.row) for other in others)
    return Finding(
        "holds" if holds else "fails",
        f"{row.row} is the best in {own} of {len(best)}",
        (", ".join(f"{metric_label(metric)} {place.row}" for metric, place in best.items()),),
        len(best),
        len(metrics),
        untested(gaps).missing,
        None if source.printed else fewest(len(source.numbers(place, metric)) for metric, place in best.items()),
    )


def means(source: Source, place: Place, metrics: Sequence[str]) -> tuple[dict[str, float], str]:
    """Means over seeds by metric, and one line on the first that is missing."""
    found: dict[str, float] = {}
    reason = ""
    for metric in metrics:
        try:
            found[metric] = statistics.fmean(source.numbers(place, metric).values())
        except Absent as absent:
            reason = reason or str(absent)
    return found, reason
