"""Crops of the photographs that scikit-image ships: real images on every machine, with nothing to download.

Each photograph is cut into a grid of cells, and each cell belongs to one split; a crop lies within cells of
its own split, so no pixel is in two splits. The cells of a split are spread over the photograph, so that all
splits see sky and ground alike. Crops are taken at several scales and reduced to the wanted size.
"""

import hashlib
import importlib.util
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import numpy as np
import torch
from PIL import Image

from datasets.base import ArrayRows, ImageDataset, Split
from ffl.decoding import decode_rgb
from ffl.errors import UserError
from ffl.ranges import Count, Range
from ffl.training.provenance import content_hash

# Left out of what the wheel holds: drawings and test charts (chessboard_*, color, horse, logo, phantom),
# writing (page, text), the stereo twin of motorcycle_left (motorcycle_right: the same scene would be in two
# splits), pictures without detail (cell, clock_motion) or of few pixels (microaneurysms, lfw_subset).
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
# Side of the source square over side of the crop.
SCALES = (1.0, 1.5, 2.0, 3.0)
# Cell (row, column) has number (column + 3 row) mod 8: 2 of 8 are test, 1 is val, 5 are train. Every grid of
# 2 x 2 cells or more holds all three.
CELL_SPLIT: dict[int, Split] = {0: "test", 4: "val", 5: "test"}
MAX_CELLS = 6
# A cell is at least this many crops wide, so that an isolated one still gives several crops.
CELL_TO_CROP = 1.5
# Crops whose channels all vary less than this (standard deviation in grey levels) show nothing: sky, the
# black frame of the retina.
MIN_STD = 4.0


class Photos(ImageDataset):
    """The embedded data set: deterministic crops, the same on every machine."""

    name = "photos"

    def __init__(
        self,
        split: Split,
        *,
        data_root: Path,
        cache_dir: Path,
        image_size: Count = 64,
        train_images: Count = 4000,
        val_images: Count = 250,
        test_images: Count = 500,
        pairs: bool = False,
        label_levels: Annotated[int, Range(0, 256)] = 0,
        horizontal_flip: bool = False,
    ) -> None:
        """Args:
            split: "train", "val" or "test".
            data_root, cache_dir: unused; every data set takes them.
            image_size: side of the crops in pixels. Photographs too small for it are left out: all 14 serve
                up to 100 pixels, one up to 470.
            train_images, val_images, test_images: number of crops; a smaller number gives the first of them.
                They come from the photographs in turn.
            pairs: give each crop in grey as ``source``, so that translation models have colours to learn.
            label_levels: give each crop's brightness in so many steps as ``label``, so that semantic models have
                maps to start from; 0 for none.
            horizontal_flip: mirror training items at random.
        Raises:
            UserError: the size or the number is more than the photographs hold.
        """
        count = {"train": train_images, "val": val_images, "test": test_images}[split]
        files = {Path(file).stem: read_photograph(file) for file in PHOTOGRAPHS}
        photographs = {stem: decode_rgb(data) for stem, data in files.items()}
        if not any(_cells(photograph, image_size) for photograph in photographs.values()):
            largest = max(int(min(photo.size) / (2 * CELL_TO_CROP)) for photo in photographs.values())
            raise UserError(
                f"dataset photos: image_size={image_size} is more than any photograph can be split for; "
                f"use {largest} or less"
            )
        names, images = _take_in_turn(
            [_crops(stem, photo, split, image_size) for stem, photo in photographs.items()], count
        )
        if len(names) < count:
            raise UserError(
                f"dataset photos: {split}_images={count}, but the photographs hold {len(names)} crops of "
                f"{image_size} pixels for {split}; set {split}_images={len(names)} or less"
            )
        content = {
            "photographs": {stem: hashlib.sha256(data).hexdigest() for stem, data in files.items()},
            "names": names,
            "image_size": image_size,
            "pairs": pairs,
            "label_levels": label_levels,
        }
        arrays = {"image": np.stack(images)}
        brightness = torch.from_numpy(arrays["image"]).float().mean(1, keepdim=True)
        if pairs:
            arrays["source"] = brightness.round().to(torch.uint8).repeat(1, 3, 1, 1).numpy()
        if label_levels:
            arrays["label"] = (brightness[:, 0] * (label_levels / 256)).to(torch.uint8).numpy()
        super().__init__(
            split,
            pixels=ArrayRows(arrays),
            names=names,
            fingerprint=content_hash(content),
            found=len(PHOTOGRAPHS),
            expected=len(PHOTOGRAPHS),
            horizontal_flip=horizontal_flip,
        )

    @classmethod
    def provides(cls, **options: Any) -> frozenset[str]:
        """See ``ImageDataset.provides``."""
        extra = {"source": options.get("pairs"), "label": options.get("label_levels")}
        return frozenset({"image", *(key for key, wanted in extra.items() if wanted)})

    @classmethod
    def num_labels(cls, **options: Any) -> int:
        """See ``ImageDataset.num_labels``."""
        return int(options.get("label_levels", 0))


def read_photograph(file: str) -> bytes:
    """A file of scikit-image's data folder, or UserError saying how to get it."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise UserError("dataset photos: the package scikit-image is not installed; pip install scikit-image")
    path = Path(spec.origin).parent / "data" / file
    try:
        return path.read_bytes()
    except OSError as err:
        raise UserError(
            f"dataset photos: {path} is missing; it ships with scikit-image 0.22 and later: "
            "pip install --force-reinstall scikit-image"
        ) from err


def _cells(photograph: Image.Image, size: int) -> tuple[int, int] | None:
    """(rows, columns) of the grid of cells; None where the photograph is too small for all three splits."""
    rows, columns = (
        min(MAX_CELLS, int(side / (CELL_TO_CROP * size))) for side in (photograph.height, photograph.width)
    )
    return (rows, columns) if rows >= 2 and columns >= 2 else None


def split_mask(photograph: Image.Image, size: int, split: Split) -> np.ndarray | None:
    """Which pixels belong to ``split`` for crops of ``size``: bool (H, W); None for a small photograph."""
    grid = _cells(photograph, size)
    if grid is None:
        return None
    rows, columns = grid
    number = (np.arange(columns)[None, :] + 3 * np.arange(rows)[:, None]) % 8
    mine = np.vectorize(lambda cell: CELL_SPLIT.get(cell, "train") == split)(number)
    row_of = np.arange(photograph.height) * rows // photograph.height
    column_of = np.arange(photograph.width) * columns // photograph.width
    return mine[row_of][:, column_of]


def _crops(stem: str, photograph: Image.Image, split: Split, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """All crops of a photograph in a fixed random order, scales in turn: name, uint8 (3, size, size)."""
    mask = split_mask(photograph, size, split)
    if mask is None:
        return
    # Neighbouring crops are an eighth of a crop apart: closer ones would be near-duplicates.
    step = max(1, size // 8)
    # A square lies wholly in the split if all of its pixels do. How many do, four entries of this table of sums,
    # (H + 1, W + 1), tell for any square without a look at its pixels.
    sums = np.pad(mask.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))
    queues = []
    for scale in SCALES:
        side = round(size * scale)
        inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        positions = np.argwhere(inside[::step, ::step] == side * side) * step
        # The legacy generator's stream is frozen: the same order in every version of numpy.
        queues.append((side, iter(np.random.RandomState(crc32(f"{stem}-{side}".encode())).permutation(positions))))
    while queues:
        for queue in list(queues):
            side, corners = queue
            corner = next(corners, None)
            if corner is None:
                queues.remove(queue)
                continue
            top, left = corner
            # Cut before reducing, so that the filter sees no pixel from outside the cells.
            crop = photograph.crop((left, top, left + side, top + side))
            pixels = np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR))
            if pixels.std(axis=(0, 1)).max() >= MIN_STD:
                yield f"{stem}-{side}-{top}-{left}", pixels.transpose(2, 0, 1)


def _take_in_turn(sources: list[Iterator[tuple[str, np.ndarray]]], count: int) -> tuple[list[str], list[np.ndarray]]:
    """Up to ``count`` items, one from each source in turn until all are exhausted."""
    names: list[str] = []
    images: list[np.ndarray] = []
    waiting = deque(sources)
    while waiting and len(names) < count:
        source = waiting.popleft()
        item = next(source, None)
        if item is not None:
            names.append(item[0])
            images.append(item[1])
            waiting.append(source)
    return names, images
