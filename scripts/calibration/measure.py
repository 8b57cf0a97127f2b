"""What metrics say of damaged images, of real ones beside other real ones, and of subsets; and which metrics agree.

``quantity`` in a record's protocol says which of these its value is:

damage      damaged images beside the same images undamaged; "none" is the undamaged ones themselves
floor       a random half of the real images beside the other half: mean over draws
spread      as ``damage``, of random halves, for blur of one pixel: mean over draws
bias        real images beside as many other real images: mean over draws
agreement   Spearman's rank correlation with another metric, over damages or over runs
"""

import hashlib
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from ffl.metrics import METRICS, ImageMetric
from ffl.metrics.bands import coherence
from ffl.metrics.base import PairMetric
from ffl.training.record import Record
from scripts.calibration.damage import DAMAGES

NONE = "none"  # the damage of undamaged images
DRAWS = 10  # random halves
SPREAD_OF = "blur", 1  # the damage whose value is taken of random halves
NETWORK_PAIRS = 50  # images that a metric of pairs with a network takes, which are seconds of work
BIAS_COUNTS = (50, 100, 200, 400, 800, 1500)
BIAS_DRAWS = 3
BATCH = 50  # images that a network takes at a time

# A group of runs or damages that can be compared, and the value of each metric for each of them.
Values = dict[str, float]
Groups = list[list[Values]]


def remember_images(metrics: Mapping[str, ImageMetric]) -> None:
    """Have each network see each image, or each pair of images, once, however many sets it is in."""
    extractors: dict[int, Any] = {}
    for metric in metrics.values():
        if isinstance(metric, PairMetric):
            metric.per_image = _remember_rows(metric.per_image)  # type: ignore[method-assign]
        elif extractor := getattr(metric, "extractor", None):
            extractors[id(extractor)] = extractor  # several metrics share one
    for extractor in extractors.values():
        extractor.forward = _remember_rows(extractor.forward)


def _remember_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call ``function`` on images that it has not seen, and take the rows of its tensors of the others from memory."""
    known: dict[bytes, Any] = {}

    def call(*images: Tensor) -> Any:
        items = zip(*(part.numpy() for part in images), strict=True)
        keys = [hashlib.blake2b(b"".join(part.tobytes() for part in item), digest_size=16).digest() for item in items]
        unseen = [index for index, key in enumerate(keys) if key not in known]
        for chunk in (unseen[first : first + BATCH] for first in range(0, len(unseen), BATCH)):
            found = function(*(part[chunk] for part in images))
            for place, index in enumerate(chunk):
                if isinstance(found, dict):
                    known[keys[index]] = {name: value[place] for name, value in found.items()}
                else:
                    known[keys[index]] = found[place]
        rows = [known[key] for key in keys]
        if isinstance(rows[0], dict):
            return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return torch.stack(rows)

    return call


def value_of(metric: ImageMetric, real: Tensor, fake: Tensor) -> float:
    """The metric's value for uint8 (N, 3, H, W) images; those that compare nothing ignore ``real``."""
    metric.reset()
    if metric.inputs == "pairs":
        metric.update(fake, real)
    elif metric.inputs == "sets":
        metric.update(real, real=True)
        metric.update(fake, real=False)
    else:
        metric.update(fake)
    return float(metric.compute())


def measure_set(
    name: str, images: Tensor, more: Tensor, metrics: Mapping[str, ImageMetric], seed: int
) -> Iterator[Record]:
    """Yield all records of one set of real images.

    Args:
        name: of its data set.
        images: uint8 (N, 3, H, W), which are damaged.
        more: further real images (M, 3, H, W), for the bias alone.
        metrics: by name; their networks remember images.
        seed: of noise and draws.
    """

    def record(metric: str, quantity: str, num_images: int, values: list[float], **of: Any) -> Record:
        spread = {"values": values, "sd": statistics.stdev(values)} if len(values) > 1 else None
        protocol = {"quantity": quantity, "reference": f"{name} test", "size": list(images.shape[-2:])}
        provenance = {"dataset": name, "seed": seed, **of}
        return Record(metric, statistics.fmean(values), num_images, protocol, provenance, details=spread)

    # Networks that compare pairs are slow, and a mean over pairs has no bias that more of them would take away.
    slow = {key for key, metric in metrics.items() if isinstance(metric, PairMetric) and hasattr(metric, "network")}
    counts = {key: min(len(images), NETWORK_PAIRS) if key in slow else len(images) for key in metrics}

    # The ladder. Undamaged images come first: their value is what a metric says of perfect copies.
    ladder = [(NONE, 0.0, images)]
    damaged = {}
    for kind, (damage, _, levels) in DAMAGES.items():
        for level in levels:
            damaged[kind, level] = damage(images, level, seed)
            ladder.append((kind, level, damaged[kind, level]))
    for kind, level, fake in ladder:
        for key, metric in metrics.items():
            value = value_of(metric, images[: counts[key]], fake[: counts[key]])
            yield record(key, "damage", counts[key], [value], damage=kind, level=level)

    # Random halves: how far two sets of real images are apart, and how much a value depends on which images there are.
    fake = damaged[SPREAD_OF]
    of = dict(zip(("damage", "level"), SPREAD_OF, strict=True))
    for key, metric in metrics.items():
        half, generator = counts[key] // 2, torch.Generator().manual_seed(seed)
        orders = [torch.randperm(counts[key], generator=generator) for _ in range(DRAWS)]
        if metric.inputs != "pairs":
            values = [value_of(metric, images[order[:half]], images[order[half : 2 * half]]) for order in orders]
            yield record(key, "floor", half, values)
        values = [value_of(metric, images[order[:half]], fake[order[:half]]) for order in orders]
        yield record(key, "spread", half, values, **of)

    # The same distance between sets that are alike, at every size: what it is above nothing is bias.
    everything = torch.cat([images, more])
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(everything), generator=generator) for _ in range(BIAS_DRAWS)]
    for count in (count for count in BIAS_COUNTS if 2 * count <= len(everything)):
        for key, metric in metrics.items():
            if metric.inputs != "pairs" and count >= metric.min_images:
                sets = [(everything[order[:count]], everything[order[count : 2 * count]]) for order in orders]
                yield record(key, "bias", count, [value_of(metric, real, fake) for real, fake in sets])


def agreement(names: Sequence[str], groups: Groups, over: str) -> Iterator[Record]:
    """Yield Spearman's rank correlation of each two metrics, positive where they agree on what is better.

    Ranks are taken within each group, so that a data set that is hard for every metric does not make metrics agree,
    and scaled to one width, so that each item counts alike.

    Args:
        names: of metrics.
        groups: items that can be compared, such as runs on one data set; each item has the values of its metrics.
        over: what the items are, for the record.
    """
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            ranks: list[np.ndarray] = []
            for group in groups:
                both = np.array([[item[one], item[other]] for item in group if one in item and other in item])
                if len(both) > 1:
                    ranks.append((rankdata(both, axis=0) - (len(both) + 1) / 2) / (len(both) - 1))
            pooled = np.concatenate(ranks) if ranks else np.empty((0, 2))
            if len(pooled) < 4 or not pooled.std(0).all():  # fewer say nothing
                continue
            sign = 1 if METRICS[one].higher_is_better == METRICS[other].higher_is_better else -1
            value = sign * float(np.corrcoef(pooled.T)[0, 1])
            details = {"with": other, "over": over, "items": len(pooled)}
            protocol = {"quantity": "agreement", "ranks": "within a task and a data set"}
            yield Record(one, value, 0, protocol, details=details)


def damage_groups(records: Sequence[Record]) -> Groups:
    """The damages of each data set."""
    groups: dict[str, dict[tuple[str, float], Values]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        of = record.provenance
        if record.protocol["quantity"] == "damage" and of["damage"] != NONE and record.value is not None:
            groups[of["dataset"]][of["damage"], of["level"]][record.metric] = record.value
    return [list(group.values()) for group in groups.values()]


def run_groups(records: Sequence[Record]) -> Groups:
    """The runs of each task and data set, from the records of tables; a run that serves several tables counts once."""
    groups: dict[tuple[Any, ...], dict[tuple[Any, ...], Values]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        if record.metric not in METRICS and record.metric != "bands":
            continue
        protocol, of = record.protocol, record.provenance
        group = protocol["task"], protocol["reference"], *protocol["size"]
        values = groups[group][of["run"], of["seed"], of.get("step")]
        if record.value is not None:
            values[record.metric] = record.value
        # Evaluations of older versions have the bands that it follows from, and not the metric.
        elif record.details is not None and record.details.get("error"):
            values.setdefault("coherence_top", coherence(record.details)[-2])
    return [list(group.values()) for group in groups.values()]
