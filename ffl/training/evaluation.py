"""Runs metrics over pairs of real and generated images and turns them into records, a table and metrics.json.

Several processes deal the batches out among them, whole ones, so that each image is measured in the same company as by
one process; metrics add up what all have seen.
"""

import json
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ffl.decoding import decode_rgb
from ffl.errors import UserError
from ffl.files import write_text
from ffl.metrics import FID, METRICS, ImageMetric, build_metric
from ffl.metrics.reference_cache import ReferenceCache
from ffl.training import distributed
from ffl.training.provenance import code_version, environment
from ffl.training.record import Record, append_records
from ffl.weights import MissingWeights

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}

# What the paper's tables report for each task, and the spectrum distance that its claims are about.
TASK_METRICS = {
    "reconstruction": ["psnr", "ssim", "lpips", "fid", "lfd", "spectrum_distance", "spectrum_distance_top"],
    "synthesis": ["fid", "is", "kid", "spectrum_distance", "spectrum_distance_top"],
    "translation": ["fid", "is", "spectrum_distance", "spectrum_distance_top"],
    "semantic": ["miou", "accuracy", "accuracy_all", "fid", "spectrum_distance", "spectrum_distance_top"],
}


@dataclass(frozen=True)
class Images:
    """A batch to be measured.

    Attributes:
        real: uint8 (N, 3, H, W); N = 0 where there are none.
        fake: uint8 (M, 3, H, W); for metrics of pairs M = N and the two belong together.
        label: int64 (M, H, W) ids as in the data set's files, what ``fake`` was made from; None where there is none.
        positions: int64 (M,), the place of each generated image among all; None for order of arrival.
    """

    real: Tensor
    fake: Tensor
    label: Tensor | None = None
    positions: Tensor | None = None


@dataclass(frozen=True)
class Reference:
    """The real images of an evaluation, whose Inception statistics are kept for the next one.

    Attributes:
        batches: uint8 (N, 3, H, W); iterated more than once.
        cache: folder of the statistics, see ``ReferenceCache``.
    """

    batches: Iterable[Tensor]
    cache: Path


def check_metrics(names: list[str]) -> None:
    """Raise UserError for a metric that does not exist, or is named twice."""
    for name in names:
        if name not in METRICS:
            raise UserError(f"metrics: unknown metric {name}; expected some of {', '.join(METRICS)}")
        if names.count(name) > 1:
            raise UserError(f"metrics: {name} is named {names.count(name)} times; name it once")


def measure(
    names: list[str],
    batches: Iterable[Images],
    num_images: int,
    protocol: dict[str, Any],
    provenance: dict[str, Any],
    device: torch.device,
    verify_weights: bool = True,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    reference: Reference | None = None,
) -> list[Record]:
    """Compute metrics in one pass.

    Args:
        names: metrics, in the order of the result.
        batches: real and generated images, those that this process is to see.
        num_images: generated images in all, for the progress bar and the check against each metric's minimum.
        protocol: what all values have in common; each metric adds its own part.
        provenance: of the generated images.
        device: where to compute.
        verify_weights: whether pretrained weights must have their published SHA-256.
        options: further arguments of metrics, by name.
        reference: all real images once more, for metrics that keep their statistics.
    Returns:
        One record per name; a metric whose weights are absent has no value and says how to get them.
    Raises:
        UserError: if there are too few images for a metric.
    """
    began = time.perf_counter()
    metrics: dict[str, ImageMetric] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            metrics[name] = build_metric(name, verify_weights=verify_weights, **(options or {}).get(name, {}))
            metrics[name].to(device)
        except MissingWeights as error:
            missing[name] = str(error)
            continue
        if num_images < metrics[name].min_images:
            raise UserError(f"{name}: needs at least {metrics[name].min_images} images, got {num_images}")
    referenced: set[str] = set()
    for name, metric in metrics.items():
        if isinstance(metric, FID) and reference is not None:
            if distributed.rank() == 0:  # what ranks hold adds up
                cache = ReferenceCache(reference.cache)
                metric.set_reference(cache.statistics(reference.batches, metric.extractor, metric.feature))
            referenced.add(name)
    total, others = -(-num_images // distributed.world_size()), distributed.rank() != 0
    with tqdm(total=total, desc="evaluating", unit="image", dynamic_ncols=True, disable=others) as bar:
        for images in batches:
            for name, metric in metrics.items():
                update(metric, images, with_real=name not in referenced)
            bar.update(len(images.fake))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The ``compute`` method of metric")  # of a process that got no batch
        values = {name: float(metric.compute()) for name, metric in metrics.items()}
    seconds = round(time.perf_counter() - began, 2)
    return [
        Record(
            metric=name,
            value=values.get(name),
            num_images=num_images,
            protocol={**protocol, **metrics[name].protocol()} if name in metrics else protocol,
            provenance={**provenance, **code_version(), "environment": environment()},
            utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            seconds=seconds,
            missing=missing.get(name),
        )
        for name in names
    ]


def update(metric: ImageMetric, images: Images, with_real: bool = True) -> None:
    """Give one batch to a metric in the form that it takes.

    In synthesis, which has no pairs, one of the two sets may end before the other: its batches are then empty.

    Args:
        metric: to update.
        images: the batch.
        with_real: False for a metric of sets that knows the real one already.
    Raises:
        UserError: if the metric cannot take these images, or needs label maps and there are none.
    """
    real, fake = images.real.to(metric.device), images.fake.to(metric.device)
    try:
        if metric.inputs == "pairs":
            metric.update(fake, real)
        elif metric.inputs == "sets":
            if with_real and len(real):
                metric.update(real, real=True)
            if len(fake):
                metric.update(fake, real=False)
        elif metric.inputs == "fakes":
            if len(fake):
                metric.update(fake, images.positions)
        elif images.label is None:
            raise UserError(f"{metric.name}: compares with label maps, and these images have none")
        else:
            metric.update(fake, images.label.to(metric.device))
    except ValueError as error:
        raise UserError(f"{metric.name}: {error}; leave it out of metrics=[...]") from None


def table(records: list[Record]) -> str:
    """Markdown table of values with the direction of improvement, and a line for each missing metric."""
    lines = ["| metric | value | images |", "| --- | --- | --- |"]
    for record in records:
        arrow = "↑" if METRICS[record.metric].higher_is_better else "↓"
        value = "missing" if record.value is None else f"{record.value:.4f}"
        lines.append(f"| {record.metric} {arrow} | {value} | {record.num_images} |")
    notes = [f"{record.metric} is missing: {record.missing}" for record in records if record.missing]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def write_metrics(path: Path, records: list[Record]) -> None:
    """Write ``metrics.json``: values by name at the top level, null where missing; full records under "records"."""
    values = {record.metric: record.to_json()["value"] for record in records}
    content = {**values, "records": [record.to_json() for record in records]}
    write_text(path, json.dumps(content, indent=2) + "\n")
    append_records(path.with_name("metrics.jsonl"), records)


def paired_files(real: Path, fake: Path) -> list[tuple[Path, Path]]:
    """Images of two folders, paired by name without suffix (``a.png`` with ``a.jpg``).

    Raises:
        UserError: if a folder is missing or empty, or an image has no partner.
    """
    real_files, fake_files = _images_by_name(real), _images_by_name(fake)
    if alone := sorted(real_files.keys() ^ fake_files.keys()):
        where = real if alone[0] in real_files else fake
        raise UserError(
            f"{len(alone)} of {len(real_files | fake_files)} images have no partner of the same name, "
            f"such as {alone[0]} in {where}; real and fake must hold the same names"
        )
    return [(real_files[name], fake_files[name]) for name in sorted(real_files)]


def _images_by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of images; give one with real=DIR fake=DIR")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
            if not path.is_file():
                raise UserError(f"{path}: a broken link, a pipe or a device; remove it, or put an image there")
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise UserError(f"{folder}: {found[name].name} and {path.name} have the same name; keep one of them")
            found[name] = path
    if not found:
        raise UserError(f"{folder}: no images in it; put some there ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def read_pairs(files: list[tuple[Path, Path]], batch_size: int) -> Iterator[Images]:
    """Batches of (real, fake) uint8 (N, 3, H, W), this process's share; neighbours of equal size share a batch."""
    for positions in distributed.share(_neighbours(files, batch_size)):
        pairs = [_read_pair(*files[position]) for position in positions]
        real, fake = (torch.stack(images) for images in zip(*pairs, strict=True))
        yield Images(real, fake, positions=torch.tensor(positions))


def _neighbours(files: list[tuple[Path, Path]], batch_size: int) -> list[list[int]]:
    """Positions of the files of each batch, from the sizes of the real images."""
    batches: list[list[int]] = []
    before: tuple[int, int] | None = None
    for position, (real, _) in enumerate(files):
        size = _image_size(real)
        if size != before or len(batches[-1]) == batch_size:
            batches.append([])
        batches[-1].append(position)
        before = size
    return batches


def _image_size(path: Path) -> tuple[int, int]:
    """Width and height as the file says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.size
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from None


def _read_pair(real_file: Path, fake_file: Path) -> tuple[Tensor, Tensor]:
    real, fake = _read_image(real_file), _read_image(fake_file)
    if real.shape != fake.shape:
        sizes = f"{real.shape[2]}x{real.shape[1]} and {fake.shape[2]}x{fake.shape[1]}"
        raise UserError(f"{real_file} and {fake_file} differ in size ({sizes}); resize one of them")
    return real, fake


def _read_image(path: Path) -> Tensor:
    """uint8 (3, H, W), decoded as for training."""
    try:
        return torch.from_numpy(np.array(decode_rgb(path.read_bytes()))).permute(2, 0, 1).contiguous()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = "not an image that Pillow can read" if isinstance(error, Image.UnidentifiedImageError) else str(error)
    return UserError(f"{path}: not a readable image ({reason}); replace or remove it")
