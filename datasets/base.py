"""What a data set is to the trainer and the evaluator: named items and batches of them.

A batch leaves here as uint8; the trainer moves it to the device and makes floats of it there. Random
augmentation is a function of a seed and of the item alone, so that neither the batch an item falls into, nor
the rank or worker that loads it, nor where a run was cut, changes what the item looks like.
"""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ffl.errors import UserError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class NoSplit(UserError):
    """A split that the data set does not have; the message says which it has, or how to make one."""


class ImageDataset:
    """Images of one split, all of one size, in memory or memory-mapped.

    Attributes:
        name: the data set's name in the registry.
        split: "train", "val" or "test".
        image_size: (H, W).
        names: one unique name per item, fit for a file name.
        fingerprint: hex SHA-256 of what the items are: the bytes of their files and the options they were
            made with. Equal on every machine that holds the same files.
        found: images of the whole data set, over all splits, that were found.
        expected: images of the whole public data set; None where there is no such number.
    """

    name: str = ""

    def __init__(
        self,
        split: Split,
        *,
        images: np.ndarray,
        names: list[str],
        fingerprint: str,
        found: int,
        expected: int | None = None,
        rows: np.ndarray | None = None,
        horizontal_flip: bool = False,
    ) -> None:
        """Make the data set of images that lie ready.

        Args:
            split: which split the items are.
            images: uint8 (M, 3, H, W); may be memory-mapped.
            names: N unique names.
            fingerprint, found, expected: see the attributes.
            rows: int (N,), the row of each item in ``images``; None for all of them in order.
            horizontal_flip: mirror each item with probability 1/2 where a batch is asked for with a seed.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 (M, 3, H, W), got {images.dtype} {images.shape}")
        rows = np.arange(len(images)) if rows is None else rows
        if len(names) != len(rows) or len(set(names)) != len(names):
            raise ValueError(f"{len(rows)} items need as many unique names, got {len(set(names))}")
        self.split = split
        self.image_size: tuple[int, int] = (images.shape[2], images.shape[3])
        self.names = names
        self.fingerprint = fingerprint
        self.found = found
        self.expected = expected
        self.horizontal_flip = horizontal_flip
        self._images = images
        self._rows = rows

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

    def batch(self, indices: np.ndarray, seed: int | None) -> dict[str, Tensor | list[str]]:
        """Gather items.

        Args:
            indices: int (N,), each in [0, len).
            seed: None for the items as they are (evaluation); an integer draws the augmentation, item by
                item, from (seed, index). Pass another seed in each epoch for another draw.
        Returns:
            ``image`` uint8 (N, 3, H, W) and ``index`` int64 (N,).
        """
        indices = check_indices(indices, len(self))
        images = np.take(self._images, self._rows[indices], axis=0)
        if seed is not None and self.horizontal_flip:
            flipped = item_uniforms(seed, indices, 1)[:, 0] < 0.5
            images[flipped] = images[flipped][..., ::-1]
        return {"image": torch.from_numpy(np.asarray(images)), "index": torch.from_numpy(indices)}


def check_indices(indices: np.ndarray, length: int) -> np.ndarray:
    """``indices`` as int64 (N,), or IndexError where one lies outside [0, length)."""
    indices = np.array(indices, dtype=np.int64)
    if indices.ndim != 1:
        raise ValueError(f"indices must be one-dimensional, got shape {indices.shape}")
    if indices.size and (indices.min() < 0 or indices.max() >= length):
        raise IndexError(f"index {indices.min()}..{indices.max()} outside the {length} items of the data set")
    return indices


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
    """The output function of SplitMix64: a bijection of uint64 whose bits all depend on all."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
