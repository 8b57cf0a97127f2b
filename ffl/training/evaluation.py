"""Runs metrics over real and generated images and turns them into records, a table and metrics.json.

Several processes share the batches without splitting one, so that each image is in the same batch as in a single
process. Metrics add up over the processes.
"""

import json
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor
from torchmetrics import Metric

from ffl.errors import SharedError, UserError
from ffl.files import write_text
from ffl.images import Protocol
from ffl.metrics import (
    CHOOSE_FEATURES,
    METRICS,
    OWN_SCORES,
    FrechetDistance,
    ImageMetric,
    OwnSegmentationScore,
    build_metric,
    task_metrics,
)
from ffl.metrics.bands import SMALLEST, BandPower, band_labels, coherence, power_ratio
from ffl.metrics.features import TwoSampleMetric, check_features
from ffl.metrics.own_segmentation import segmenter_name
from ffl.metrics.reference_cache import ReferenceCache
from ffl.progress import progress_bar
from ffl.ranges import Count
from ffl.training import distributed
from ffl.training.config import Accelerator, Config, Seed, check_section
from ffl.training.model import Task
from ffl.training.provenance import code_version, environment
from ffl.training.record import Record, append_records
from ffl.training.unfinished import SAVE_EVERY, Progress, UnfinishedEvaluation
from ffl.weights import MissingWeights

BANDS = "bands"  # the metric's name in the record of the power by frequency band
POWER_UNIT = "squared grey levels of 0 to 255, mean over channels and images"
PAPER = "https://arxiv.org/abs/2012.12821"


@dataclass(frozen=True)
class EvaluationBatch:
    """Images to be measured.

    Attributes:
        real: uint8 (N, 3, H, W); N = 0 in a batch without real images.
        fake: uint8 (M, 3, H, W); for metrics of pairs M = N and the two belong together.
        names: of the generated images.
        positions: int64 (M,), the place of each generated image in the whole set; None for order of arrival.
        label: int64 (M, H, W), the label maps that ``fake`` was made from, with the ids of the data set's files; None
            for other tasks.
    """

    real: Tensor
    fake: Tensor
    names: list[str]
    positions: Tensor | None = None
    label: Tensor | None = None


def check_keys(
    run: str | None = None,
    real: str | None = None,
    fake: str | None = None,
    out: str | None = None,
    metrics: list[str] | None = None,
    features: str | None = None,
    segmenter: str | None = None,
    task: Task | None = None,
    split: Literal["train", "val", "test"] = "test",
    checkpoint: Literal["last", "best"] = "last",
    protocol: Protocol = "paper",
    num_images: Count | None = None,
    batch_size: Count = 100,
    seed: Seed = 0,
    dataset_options: dict[str, Any] | None = None,
    data_root: str | None = None,
    cache_dir: str = "outputs/cache",
    accelerator: Accelerator = "auto",
    save_images: bool = False,
    verify_weights: bool = True,
) -> None:
    """The keys of configs/evaluate.yaml, with their types and what they exclude."""
    if (run is None) == (real is None and fake is None) or (real is None) != (fake is None):
        raise UserError("give run=DIR (a run directory), or real=DIR fake=DIR (two folders of images)")
    if run is not None and not Path(run).is_dir():
        raise UserError(f"run={run}: no such directory; train.py prints the one it made")
    if segmenter is not None and run is None:
        raise UserError(f"segmenter={segmenter}: judges runs, whose images have label maps; use run=DIR")
    if segmenter is not None and not Path(segmenter).is_dir():
        raise UserError(f"segmenter={segmenter}: no such directory; scripts/train_segmenter.py makes one")
    check_metrics(metrics or [])
    if features is not None:
        check_features(features)


def check_evaluation(config: Config) -> None:
    """Find every mistake in the configuration of an evaluation that shows before its run is opened.

    Args:
        config: composed from configs/evaluate.yaml.
    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    check_section("", config, check_keys, provided=set())
    check_keys(**config)


def check_metrics(names: list[str]) -> None:
    """Raise UserError for a metric that does not exist, or is named twice."""
    for name in names:
        if name not in METRICS:
            raise UserError(f"metrics: unknown metric {name}; expected some of {', '.join(METRICS)}")
        if names.count(name) > 1:
            raise UserError(f"metrics: {name} is named {names.count(name)} times; name it once")


def choose_metrics(
    requested: list[str] | None, task: Task, dataset: str | None, num_images: int, num_real: int, side: int
) -> list[str]:
    """The metrics to measure: the requested ones, or else those of the task that the images allow.

    Args:
        requested: names of metrics; None for those of the task.
        task: of the model; for folders of images, reconstruction.
        dataset: name of the data set; None for folders of images.
        num_images: number of generated images.
        num_real: number of real images to compare with; 0 where there are none.
        side: the smallest height or width of the images, in pixels.
    Raises:
        UserError: if a requested metric cannot be measured on these images.
    """
    # A default metric that does not fit is left out in silence; a requested one must not be.
    chosen = []
    for name in task_metrics(task) if requested is None else requested:
        inputs, fewest, reason = METRICS[name].inputs, METRICS[name].min_images, None
        count = min(num_images, num_real) if inputs in ("pairs", "sets") else num_images
        largest = max(num_images, num_real) if inputs == "sets" else num_images
        if inputs == "labels" and dataset is None:
            reason = "compares with label maps, which folders of images have not; use run=DIR"
        elif inputs != "labels" and task == "segmentation":
            reason = f"judges generated images, and a segmenter makes none; choose among {', '.join(OWN_SCORES)}"
        elif inputs == "labels" and dataset not in METRICS[name].label_sets:
            known = " and ".join(METRICS[name].label_sets)
            reason = f"there is no segmentation network for {dataset}, only for {known}"
        elif inputs == "pairs" and task == "synthesis":
            fitting = ", ".join(other for other in METRICS if METRICS[other].inputs in ("sets", "fakes"))
            reason = f"compares pairs, and a synthesised image has none; choose among {fitting}"
        elif inputs in ("pairs", "sets") and num_real == 0:
            reason = "compares with real images, and the data set gives none; leave it out of metrics"
        elif count < fewest:
            reason = f"needs at least {fewest} images, got {count}; evaluate more, or leave it out of metrics"
        elif (most := METRICS[name].max_images) is not None and largest > most:
            reason = (
                f"keeps what a network saw in every image, and takes {most} images at most, got {largest}; "
                "evaluate fewer, or leave it out of metrics"
            )
        elif side < METRICS[name].min_size:
            least = METRICS[name].min_size
            reason = f"takes images of at least {least}x{least} pixels, got a side of {side}; leave it out of metrics"
        if reason is None:
            chosen.append(name)
        elif requested is not None:
            raise UserError(f"{name}: {reason}")
    return chosen


def metric_options(
    names: list[str],
    dataset: str | None,
    features: str | None = None,
    *,
    height: int | None = None,
    runs: Path | None = None,
    segmenter: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Arguments of metrics by name: what judges the images, and the label set of their data set.

    Args:
        names: of metrics.
        dataset: that the images are of; None for folders of images.
        features: network of distances; None for that of each metric.
        height: of the images of a data set.
        runs: folder of the run that made them, where a segmenter of our own is looked for.
        segmenter: run directory of the segmenter, in the place of the one in ``runs``.
    Raises:
        UserError: if a network is named that none of the metrics takes.
    """
    for key, value, taking in (("features", features, CHOOSE_FEATURES), ("segmenter", segmenter, OWN_SCORES)):
        if value is not None and not set(names) & set(taking):
            raise UserError(f"{key}={value}: no metric takes it; ask for some of {' '.join(taking)} in metrics=[...]")
    options: dict[str, dict[str, Any]] = {}
    for name in names:
        if METRICS[name].inputs == "labels":
            options[name] = {"label_set": dataset}
        elif name in CHOOSE_FEATURES and features is not None:
            options[name] = {"features": features}
        if name in OWN_SCORES:
            assert dataset is not None  # see choose_metrics
            assert height is not None
            assert runs is not None
            options[name] |= {"height": height, "run": segmenter or str(runs / segmenter_name(dataset, height))}
    return options


def measure(
    names: list[str],
    batches: Callable[[int], Iterable[EvaluationBatch]],
    num_images: int,
    protocol: dict[str, Any],
    provenance: dict[str, Any],
    device: torch.device,
    verify_weights: bool = True,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    reference: ReferenceCache | None = None,
    bands: BandPower | None = None,
    unfinished: UnfinishedEvaluation | None = None,
) -> list[Record]:
    """Compute metrics, and the power by frequency band, in one pass.

    Args:
        names: metrics, in the order of the result.
        batches: of real and generated images, this process's share of them without the first so many.
        num_images: number of generated images over all processes, for the progress bar and the check against each
            metric's minimum.
        protocol: what holds for all values; each metric adds its own part.
        provenance: of the generated images.
        device: where to compute.
        verify_weights: whether pretrained weights must have their published SHA-256.
        options: further arguments of metrics, by name.
        reference: all real images again, for metrics that keep what a network saw in them; None keeps nothing.
        bands: for the size of the images, see ``band_power_of``; None records no bands.
        unfinished: what an evaluation that was cut has left, to go on from and to save to; None does neither.
    Returns:
        One record per name, and one of the bands; a metric whose weights are absent has no value and says how to get
        them.
    Raises:
        UserError: if there are too few images for a metric, or it cannot take them.
    """
    began = time.perf_counter()

    # Refuse before a single image is generated what could only fail after all of them.
    metrics: dict[str, ImageMetric] = {}
    missing: dict[str, str] = {}
    with distributed.share_errors():
        for name in names:
            try:
                metrics[name] = build_metric(name, verify_weights=verify_weights, **(options or {}).get(name, {}))
                metrics[name].to(device)
            except MissingWeights as error:
                missing[name] = str(error)
                continue
            if num_images < metrics[name].min_images:
                raise UserError(f"{name}: needs at least {metrics[name].min_images} images, got {num_images}")

    # Networks take most of the time of an evaluation, and the real images are those of the evaluation before: what was
    # seen in them is kept. All processes look at them where it is not; process 0 alone holds what was seen.
    referenced: set[str] = set()
    for name, metric in metrics.items():
        if reference is None:
            break
        if isinstance(metric, FrechetDistance) or (isinstance(metric, TwoSampleMetric) and reference.keeps_rows):
            if (seen := reference.features(metric.extractor, metric.output)) is not None:
                metric.set_reference(seen)
            referenced.add(name)

    # Go on where the same evaluation was cut, by the same code and on the same kind of machine.
    code = {**provenance, **code_version(), "environment": environment()}
    states: dict[str, Metric] = {**metrics, **({} if bands is None else {BANDS: bands})}
    done = Progress()
    if unfinished is not None:
        means = {name: metric.protocol() for name, metric in metrics.items()}
        done = unfinished.resume(states, {"protocol": protocol, "of": code, "metrics": means, "images": num_images})
        if done.batches and distributed.rank() == 0:
            print(f"going on after {done.images} images of an evaluation that was cut")

    def seconds() -> float:
        """What this evaluation took, over all sessions."""
        return done.seconds + time.perf_counter() - began

    # One pass over the images gives each metric what it takes, so that none is generated or kept twice. In synthesis,
    # which has no pairs, one of the two sets may end before the other: its batches are then empty.
    total, images = -(-num_images // distributed.world_size()), done.images
    with progress_bar(total, "evaluating", "image", initial=done.images, shown=distributed.rank() == 0) as bar:
        for number, batch in enumerate(batches(done.batches), done.batches + 1):
            real, fake = batch.real.to(device), batch.fake.to(device)
            for name, metric in metrics.items():
                try:
                    if metric.inputs == "pairs":
                        metric.update(fake, real)
                    elif metric.inputs == "sets":
                        if len(real) and name not in referenced:
                            metric.update(real, real=True)
                        if len(fake):
                            metric.update(fake, real=False)
                    elif metric.inputs == "fakes":
                        if len(fake):
                            metric.update(fake, batch.positions)
                    else:
                        assert batch.label is not None  # see choose_metrics
                        metric.update(fake, batch.label.to(device))
                        if isinstance(metric, OwnSegmentationScore) and len(real):
                            metric.update_real(real, batch.label.to(device))
                except ValueError as error:
                    raise UserError(f"{name}: {error}; leave it out of metrics=[...]") from None
            if bands is not None:
                bands.update(real, fake)
            bar.update(len(fake))
            images += len(fake)
            if unfinished is not None and number % SAVE_EVERY == 0:
                unfinished.save(states, Progress(number, images, seconds()))

    # Metrics add up over the processes before they compute, so that what one of them refuses all of them refuse.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The ``compute`` method of metric")  # of a process that got no batch
        try:
            values = {name: float(metric.compute()) for name, metric in metrics.items()}
            floors = {name: metric.floor() for name, metric in metrics.items()}
            ceilings = {name: metric.ceiling() for name, metric in metrics.items()}
        except UserError as error:
            raise SharedError(str(error)) from None
        details = None if bands is None else bands.compute()

    # A record for each metric, with or without a value, and one for the bands.
    common: dict[str, Any] = {
        "num_images": num_images,
        "provenance": code,
        "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(seconds(), 2),
    }
    records = [
        Record(
            metric=name,
            value=values.get(name),
            protocol={**protocol, **metrics[name].protocol()} if name in metrics else protocol,
            missing=missing.get(name),
            floor=floors.get(name),
            ceiling=ceilings.get(name),
            warning=metrics[name].warning if name in metrics else None,
            **common,
        )
        for name in names
    ]
    if details is not None:
        records.append(Record(BANDS, None, protocol={**protocol, "unit": POWER_UNIT}, details=details, **common))
    return records


def band_power_of(sizes: set[tuple[int, int]], paired: bool, device: torch.device) -> BandPower | None:
    """A ``BandPower`` for images of these sizes; None for images of several sizes, or too small for bands.

    Args:
        sizes: the (H, W) that occur.
        paired: whether generated images belong to real ones.
        device: where to compute.
    """
    if len(sizes) != 1 or min(min(size) for size in sizes) < SMALLEST:
        return None
    ((height, width),) = sizes
    power: BandPower = BandPower(height, width, paired).to(device)
    return power


def results_table(records: list[Record]) -> str:
    """Markdown table of values with the direction of improvement, the floor of what compares sets, and ceilings.

    Lines below it say what is missing, what to beware of, and the power by band.
    """
    with_ceiling = any(record.ceiling is not None for record in records)
    lines = [f"| metric | value | floor |{' ceiling |' * with_ceiling} images |"]
    lines.append("| --- " * (4 + with_ceiling) + "|")
    notes = []
    for record in records:
        if record.metric == BANDS:
            assert record.details is not None
            shown = {"power of generated over real images": power_ratio(record.details)}
            if record.details["error"] is not None:
                shown["coherence of generated with real images"] = coherence(record.details)
            for title, values in shown.items():
                by_band = zip(band_labels(record.details["edges"]), values, strict=True)
                notes.append(f"{title} by cycles per image: {', '.join(f'{band}: {x:.3f}' for band, x in by_band)}")
            continue
        arrow = "↑" if METRICS[record.metric].higher_is_better else "↓"
        value = "missing" if record.value is None else f"{record.value:.4f}"
        bounds = [record.floor, record.ceiling][: 1 + with_ceiling]
        texts = [value, *("" if bound is None else f"{bound:.4f}" for bound in bounds), str(record.num_images)]
        lines.append(f"| {record.metric} {arrow} | {' | '.join(texts)} |")
        if record.missing:
            notes.append(f"{record.metric} is missing: {record.missing}")
        if record.warning:
            notes.append(f"{record.metric}: {record.warning}")
    if with_ceiling:
        notes.insert(0, "ceiling: the score of the real images, by the same segmenter of our own")
    if any(record.floor is not None for record in records):
        notes.insert(0, "floor: the same between two halves of the real images, each of half as many images")
    return "\n".join([*lines, *([""] if notes else []), *notes])


def write_metrics(path: Path, records: list[Record]) -> None:
    """Write ``metrics.json``, append to ``metrics.jsonl`` beside it, and write the ``eval_results.yaml`` of a run.

    The first holds values by name at the top level, null where missing, and full records, those of bands too, under
    "records"; the last those values in the form that model cards take, see ``eval_results``.

    Args:
        path: of ``metrics.json``; ``metrics_TASK.json`` goes with ``eval_results_TASK.yaml``.
        records: of one evaluation.
    """
    values = {record.metric: record.to_json()["value"] for record in records if record.details is None}
    content = {**values, "records": [record.to_json() for record in records]}
    write_text(path, json.dumps(content, indent=2) + "\n")
    append_records(path.with_name("metrics.jsonl"), records)
    if any("dataset" in record.provenance for record in records):  # two folders of images are no model's
        write_text(path.with_name(f"{path.stem.replace('metrics', 'eval_results')}.yaml"), eval_results(records))


def eval_results(records: Iterable[Record]) -> str:
    """Measured values of a run as YAML, in the form of the Hugging Face Hub's ``.eval_results/*.yaml``.

    It is a list with an entry for each finite value: ``dataset`` (``id``, and the metric as its ``task_id``),
    ``value``, ``date``, ``source`` (``url``, ``name``) and ``notes``, which hold the protocol in one line. The Hub
    ranks values of its registered benchmarks; these are none and are for readers.

    Args:
        records: with the provenance of a run; what has no single value is left out.
    """
    entries = []
    for record in records:
        if record.value is None or record.details is not None or not math.isfinite(record.value):
            continue
        of, means = record.provenance, record.protocol
        protocol = ", ".join(
            f"{key.replace('_', ' ')} {value}" for key, value in means.items() if key != "reference_fingerprint"
        )
        notes = f"{record.num_images} images; {protocol}; step {of['step']}, code at commit {of['commit']}"
        entries.append(
            {
                "dataset": {"id": of["dataset"], "task_id": record.metric},
                "value": record.value,
                "date": record.utc,
                "source": {"url": PAPER, "name": "The paper of the method; the value is our own measurement"},
                "notes": notes if record.warning is None else f"{notes}; {record.warning}",
            }
        )
    text: str = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=math.inf)
    return text
