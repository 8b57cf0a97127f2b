"""What a data set is to the trainer and the evaluator: named items and batches of them.

A batch leaves here as uint8; the trainer moves it to the device and makes floats of it there. Random augmentation is a
function of a seed and of the item alone. So an item looks the same in whichever batch, process or resumed run it is
loaded.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from datasets.decoding import ArraySpec
from ffl.errors import UserError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class NoSplit(UserError):
    """A split that the data set does not have; the message says which it has, or how to make one."""


class Rows(Protocol):
    """Where the pixels of items come from: arrays, or files that are decoded when they are asked for.

    Attributes:
        specs: by name, type and shape (..., h, w) of each array of an item.
    """

    @property
    def specs(self) -> Mapping[str, ArraySpec]: ...

    def crops(self, rows: np.ndarray, size: tuple[int, int], offsets: np.ndarray) -> dict[str, np.ndarray]:
        """A crop of each row, of every array alike.

        Args:
            rows: int (N,).
            size: (H, W) of the crops.
            offsets: int (N, 2), top and left of each crop.
        Returns:
            By name, (N, ..., H, W), copies that the caller may change.
        """
        ...


class ArrayRows:
    """Rows of arrays that hold all pixels, (M, ..., h, w), in memory or memory-mapped."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.specs = {name: ArraySpec(str(array.dtype), array.shape[1:]) for name, array in arrays.items()}

    def crops(self, rows: np.ndarray, size: tuple[int, int], offsets: np.ndarray) -> dict[str, np.ndarray]:
        """See ``Rows.crops``."""
        return {name: gather_crops(array, rows, size, offsets) for name, array in self.arrays.items()}


class ImageDataset:
    """Items of one split: images, and arrays of the same height and width beside them.

    Attributes:
        name: the data set's name in the registry.
        source: where it comes from, for messages.
        aspect: width of a batch over its height.
        split: "train", "val" or "test".
        image_size: (H, W) of a batch.
        names: one unique name per item, fit for a file name.
        fingerprint: hex SHA-256 of what the items are: the bytes of their files and the options they were
            made with. Equal on every machine that holds the same files.
        found: images of the whole data set, over all splits, that were found.
        expected: images of the whole public data set; None where there is no such number.

    Args:
        split: which split the items are.
        pixels: ``image`` and ``source`` uint8 (3, h, w), ``label`` and ``instance`` (h, w), as far as the data set has
            them, of M rows.
        names: N unique names.
        fingerprint, found, expected: see the attributes.
        rows: int (N,), the row of each item in ``pixels``; None for the first N in order.
        image_size: (H, W) of the crops that a batch holds; None for (h, w).
        horizontal_flip: mirror each item with probability 1/2 where a batch is asked for with a seed.
        mirrored_ids: label ids that trade places when an item is mirrored, such as left and right eye.
    """

    name: str = ""
    source: str = ""
    aspect: ClassVar[int] = 1

    def __init__(
        self,
        split: Split,
        *,
        pixels: Rows,
        names: Sequence[str],
        fingerprint: str,
        found: int,
        expected: int | None = None,
        rows: np.ndarray | None = None,
        image_size: tuple[int, int] | None = None,
        horizontal_flip: bool = False,
        mirrored_ids: Mapping[int, int] | None = None,
    ) -> None:
        height, width = next(iter(pixels.specs.values())).shape[-2:]
        for name, spec in pixels.specs.items():
            if name in ("image", "source") and (spec.dtype, spec.shape[:-2]) != ("uint8", (3,)):
                raise ValueError(f"{name} must be uint8 (3, H, W), got {spec.dtype} {spec.shape}")
        rows = np.arange(len(names)) if rows is None else rows
        if len(names) != len(rows) or len(set(names)) != len(names):
            raise ValueError(f"{len(rows)} items need as many unique names, got {len(set(names))}")
        self.split = split
        self.image_size = (height, width) if image_size is None else image_size
        self.names = list(names)
        self.fingerprint = fingerprint
        self.found = found
        self.expected = expected
        self.horizontal_flip = horizontal_flip
        self._pixels = pixels
        self._rows = rows
        self._margin = np.array([height - self.image_size[0], width - self.image_size[1]])
        # As a table of all ids, since a label map is translated by one look-up a pixel.
        self._mirrored_ids = np.arange(256, dtype=np.uint8)
        for label, other in (mirrored_ids or {}).items():
            self._mirrored_ids[label] = other

    @classmethod
    def provides(cls, **options: Any) -> frozenset[str]:
        """What its batches hold under these options besides ``index``: "image", "source", "label", "instance"."""
        return frozenset({"image"})

    @classmethod
    def num_labels(cls, **options: Any) -> int:
        """How many ids its label maps hold under these options: 0 to one less; 0 where there are no label maps."""
        return 0

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: np.ndarray, seed: int | None) -> dict[str, Tensor]:
        """Gather items.

        Args:
            indices: int (N,), each in [0, len).
            seed: None for the central crop, not mirrored (evaluation); an integer draws crop and mirroring, item by
                item, from (seed, index). Pass another seed in each epoch for another draw.
        Returns:
            ``index`` int64 (N,); ``image`` and ``source`` uint8 (N, 3, H, W), ``label`` and ``instance`` int64
            (N, H, W), as far as the data set has them.
        """
        indices = check_indices(indices, len(self))
        offsets = np.tile(self._margin // 2, (len(indices), 1))
        flips = np.zeros(len(indices), dtype=bool)
        # Three numbers for each item are drawn whatever is used, so that an option turned off moves no other draw.
        if seed is not None:
            draws = item_uniforms(seed, indices, 3)
            # Every offset, both ends included, is equally likely, as in the official transforms.
            offsets = (draws[:, :2] * (self._margin + 1)).astype(np.int64)
            flips = (draws[:, 2] < 0.5) & self.horizontal_flip
        batch = {"index": torch.from_numpy(indices)}
        for name, crops in self._pixels.crops(self._rows[indices], self.image_size, offsets).items():
            crops[flips] = crops[flips][..., ::-1]
            if name == "label":
                crops[flips] = self._mirrored_ids[crops[flips]]
            batch[name] = torch.from_numpy(crops if name in ("image", "source") else crops.astype(np.int64))
        return batch


def check_indices(indices: np.ndarray, length: int) -> np.ndarray:
    """``indices`` as int64 (N,), or IndexError where one lies outside [0, length)."""
    indices = np.array(indices, dtype=np.int64)
    if indices.ndim != 1:
        raise ValueError(f"indices must be one-dimensional, got shape {indices.shape}")
    if indices.size and (indices.min() < 0 or indices.max() >= length):
        raise IndexError(f"index {indices.min()}..{indices.max()} outside the {length} items of the data set")
    return indices


def gather_crops(array: np.ndarray, rows: np.ndarray, size: tuple[int, int], offsets: np.ndarray) -> np.ndarray:
    """Copy one crop of each row.

    Args:
        array: (M, ..., h, w).
        rows: int (N,).
        size: (H, W) of the crops.
        offsets: int (N, 2), top and left of each crop.
    Returns:
        (N, ..., H, W).
    """
    height, width = size
    # ``take`` copies even whole rows: what a caller does to its batch must not reach the cache.
    if array.shape[-2:] == size:
        return np.asarray(np.take(array, rows, axis=0))
    crops = np.empty((len(rows), *array.shape[1:-2], height, width), array.dtype)
    for number, (row, (top, left)) in enumerate(zip(rows, offsets, strict=True)):
        crops[number] = array[row, ..., top : top + height, left : left + width]
    return crops


def item_uniforms(seed: int, indices: np.ndarray, draws: int) -> np.ndarray:
    """Random numbers that belong to items: a function of seed and index, whatever else is in the batch.

    SplitMix64 (Steele, Lea and Flood, 2014) used as a counter-based generator: the state is hashed from the
    seed and the index, its successive outputs are the draws.

    Args:
        seed: any integer; its lowest 64 bits count.
        indices: int (N,), not negative.
        draws: numbers per item.
    Returns:
        float64 (N, draws), uniform in [0, 1).
    """
    increment = np.uint64(0x9E3779B97F4A7C15)
    start = _mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64) + increment)
    state = _mix(np.asarray(indices).astype(np.uint64) * increment + start)
    steps = np.arange(1, draws + 1, dtype=np.uint64) * increment
    return (_mix(state[:, None] + steps[None, :]) >> np.uint64(11)) * 2.0**-53


def _mix(values: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64: a bijection of uint64 in which every output bit depends on every input bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
