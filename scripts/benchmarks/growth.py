"""How cost grows: the loss with image size and batch, an epoch and the cache with the number of images."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from scripts.benchmarks.loss import compare
from scripts.benchmarks.settings import Settings
from scripts.benchmarks.training import epoch_seconds, train_ours

ROUNDS = 7
SIZES = (16, 32, 64, 128, 256, 512)
SIZES_BATCH = 8
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCHES_SIZE = 64
DATA_SETS = (256, 1024, 4096, 16384)
EPOCHS = 3
EPOCH_BATCH = 128
FILE_SIZE = (178, 218)  # of a CelebA file
DISTINCT_FILES = 64


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Rows that say what ``grows``; prints each."""
    small = settings.small
    rows = []
    for size in SIZES[:2] if small else SIZES:
        rows.append(_loss("image size", size, (SIZES_BATCH, 3, size, size), settings))
    for batch in BATCHES[:2] if small else BATCHES:
        rows.append(_loss("batch", batch, (batch, 3, BATCHES_SIZE, BATCHES_SIZE), settings))
    rows.extend(_epochs(DATA_SETS[:1] if small else DATA_SETS, settings))
    return rows


def _loss(grows: str, to: int, shape: tuple[int, ...], settings: Settings) -> dict[str, Any]:
    row = {
        "grows": grows,
        "to": to,
        "shape": list(shape),
        **compare({}, shape, settings, settings.rounds_or(ROUNDS)),
    }
    print(
        f"{grows:<10} {to:>5}  {1e3 * row['ours_s']:9.3f} ms  authors {1e3 * row['authors_s']:9.3f} ms  "
        f"transform pair {1e3 * row['pair_s']:9.3f} ms",
        flush=True,
    )
    return row


def _epochs(counts: Iterable[int], settings: Settings) -> list[dict[str, Any]]:
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            _write_images(root / "images", count)
            words = ["dataset=folder", "dataset.folder=images", "dataset.test_fraction=0", "dataset.image_size=64"]
            training = train_ours(words, root, root / "cache", settings.device, min(EPOCH_BATCH, count))
            seconds = [spent for spent, _ in epoch_seconds(training, EPOCHS, settings.device)]
            cache_bytes = sum(path.stat().st_size for path in (root / "cache").glob("*.cache"))
        row = {
            "grows": "data set",
            "to": count,
            "first_epoch_s": seconds[0],
            "later_epoch_s": float(np.median(seconds[1:])),
            "cache_bytes": cache_bytes,
        }
        rows.append(row)
        print(
            f"{'data set':<10} {count:>5}  first epoch {row['first_epoch_s']:.2f} s, later ones "
            f"{row['later_epoch_s']:.2f} s, cache {cache_bytes / 2**20:.1f} MiB",
            flush=True,
        )
    return rows


def _write_images(folder: Path, count: int) -> None:
    """JPEG files of random blobs; a few distinct ones under many names, since decoding does not know."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    width, height = FILE_SIZE
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        if number >= DISTINCT_FILES:
            os.link(folder / f"{number % DISTINCT_FILES:06d}.jpg", path)
            continue
        coarse = torch.randint(0, 256, (height // 8, width // 8, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(coarse.numpy()).resize(FILE_SIZE, Image.Resampling.BICUBIC).save(path, quality=92)
