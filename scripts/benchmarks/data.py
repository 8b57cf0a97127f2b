"""Images per second from a cache of files and of pixels, beside a DataLoader that decodes with Pillow.

The images are embedded photographs, enlarged and saved as JPEG at each size. All arms have as many threads, or worker
processes, as there are cores, and give batches of uint8 tensors in a random order.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import pil_to_tensor

from datasets.folder import Folder
from datasets.photos import Photos
from ffl.decoding import decode_rgb
from scripts.benchmarks.rows import at_least
from scripts.benchmarks.timing import Action, Conditions, alternate, num_cores

SIZES, SMALL_SIZES = (256, 512, 1024), (32,)
IMAGES, SMALL_IMAGES = 256, 8
BATCH = 16
ROUNDS = 5


class PillowFiles(Dataset[torch.Tensor]):
    """What a PyTorch user writes; the files need no resizing."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return pil_to_tensor(Image.open(self.files[index]).convert("RGB"))


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """One row per size; the files have that size already, so that no arm resizes."""
    count = SMALL_IMAGES if conditions.small else IMAGES
    for size in SMALL_SIZES if conditions.small else SIZES:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "images"
            folder.mkdir()
            crops = Photos("train", data_root=folder, cache_dir=folder, image_size=64, train_images=count)
            pixels = crops.batch(np.arange(count), None)["image"].permute(0, 2, 3, 1).numpy()
            for number, image in enumerate(pixels):
                enlarged = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
                enlarged.save(folder / f"{number:04}.jpg", quality=90)
            yield compare(size, count, Path(place), conditions)


def compare(size: int, count: int, place: Path, conditions: Conditions) -> dict[str, Any]:
    """An epoch of each arm in turn."""
    workers = num_cores()
    order = np.random.default_rng(0).permutation(count)
    batches = [order[first : first + BATCH] for first in range(0, count, BATCH)]

    def opened(cache: Literal["pixels", "files"], decoder: Literal["pillow", "turbo"]) -> Folder:
        options: dict[str, Any] = {"folder": "images", "test_fraction": 0.0, "workers": workers}
        return Folder(
            "train",
            data_root=place,
            cache_dir=place / "cache",
            image_size=size,
            cache=cache,
            decoder=decoder,
            **options,
        )

    def epoch(data: Folder) -> None:
        for batch in batches:
            data.batch(batch, seed=0)

    files, turbo, pixels = opened("files", "pillow"), opened("files", "turbo"), opened("pixels", "pillow")
    peer = DataLoader(
        PillowFiles(sorted((place / "images").iterdir())),
        BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
    )
    actions: dict[str, Action] = {
        "files": partial(epoch, files),
        "files_turbo": partial(epoch, turbo),
        "pixels": partial(epoch, pixels),
        "dataloader": lambda: sum(len(batch) for batch in peer),
    }
    times = alternate(actions, conditions.rounds or ROUNDS, torch.device("cpu"))
    # What the other decoder does to the pixels, in levels of 255.
    data = [path.read_bytes() for path in (place / "images").iterdir()]
    apart = [
        np.abs(np.asarray(decode_rgb(d)).astype(int) - np.asarray(decode_rgb(d, jpeg="turbo"))).max() for d in data
    ]
    return {
        "size": size,
        "images": count,
        "workers": workers,
        "rows_per_second": {name: count / times.seconds(name) for name in actions},
        "turbo_levels_apart": int(max(apart)),
        "targets": [
            at_least("files over DataLoader", times.ratio("dataloader", "files"), 1.0),
            at_least("turbo over DataLoader", times.ratio("dataloader", "files_turbo"), 1.5),
        ],
    }
