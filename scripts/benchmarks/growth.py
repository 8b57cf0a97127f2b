"""How cost grows: the loss with image size and batch, an epoch and the cache with the number of images."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from scripts.benchmarks.loss import compare
from scripts.benchmarks.steps import epoch_seconds, train_epochs
from scripts.benchmarks.timing import Conditions

ROUNDS = 7
SIZES = (16, 32, 64, 128, 256, 512)
SIZES_BATCH = 8
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCHES_SIZE = 64
DATA_SETS = (256, 1024, 4096, 16384)
EPOCHS = 3
EPOCH_BATCH = 128
FILE_SIZE = (178, 218)  # width and height of a CelebA file
DISTINCT_FILES = 64


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """Rows that say what ``grows``."""
    # The loss beside the authors', with larger images and with more of them.
    sizes, batch_sizes = (SIZES[:2], BATCHES[:2]) if conditions.small else (SIZES, BATCHES)
    shapes = [("image size", size, (SIZES_BATCH, 3, size, size)) for size in sizes]
    shapes += [("batch", batch, (batch, 3, BATCHES_SIZE, BATCHES_SIZE)) for batch in batch_sizes]
    for grows, to, shape in shapes:
        yield {"grows": grows, "to": to, "shape": list(shape), **compare(shape, conditions, ROUNDS)}

    # The autoencoder's epochs and its cache, with more files.
    words = ["dataset=folder", "dataset.folder=images", "dataset.test_fraction=0", "dataset.image_size=64"]
    for count in DATA_SETS[:1] if conditions.small else DATA_SETS:
        with tempfile.TemporaryDirectory() as folder:
            root, cache = Path(folder), Path(folder) / "cache"
            write_images(root / "images", count)
            training = train_epochs(words, root, cache, conditions.device, min(EPOCH_BATCH, count))
            seconds = [spent for spent, _ in epoch_seconds(training, EPOCHS, conditions.device)]
            cache_bytes = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        yield {
            "grows": "data set",
            "to": count,
            "first_epoch_s": seconds[0],
            "later_epoch_s": float(np.median(seconds[1:])),
            "cache_bytes": cache_bytes,
        }


def write_images(folder: Path, count: int) -> None:
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
