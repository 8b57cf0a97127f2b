"""Items of several pixel-aligned arrays, such as two halves of a pair, or a photograph and its label map.

A training split is cached at ``load_size`` and augmented when a batch is gathered: one random crop and one mirroring
for all arrays of an item. Other splits are cached at the size they are used at.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.base import Split, check_indices, item_uniforms
from datasets.cache import Decoder, Item, OnError, describe, open_cache
from datasets.files import FileImages, say_counts
from datasets.listing import Listing, item_names
from ffl.errors import UserError
from ffl.ranges import Count
from ffl.training.provenance import content_hash


class AlignedImages(FileImages):
    """Cached aligned arrays of one split; see the module docstring.

    Attributes:
        image_size: (H, W) of what a batch holds.
        listing, skipped: see ``FileImages``.
    """

    def __init__(
        self,
        split: Split,
        listing: Listing,
        items: Sequence[Item],
        decoder: Decoder,
        *,
        names: Sequence[str],
        cache_dir: Path,
        image_size: tuple[int, int],
        horizontal_flip: bool = False,
        on_error: OnError = "fail",
        workers: Count | None = None,
    ) -> None:
        """Open the cache, building it first where need be.

        Args:
            split: "train", "val" or "test".
            listing: the files of the data set.
            items: the files of this split's items.
            decoder: makes arrays (..., h, w) of one height and width, not less than ``image_size``.
            names: of the items; made unique here.
            cache_dir: folder for the decoded arrays.
            image_size: (H, W) of the crop.
            horizontal_flip: mirror items with probability 1/2 where a batch is asked for with a seed.
            on_error, workers: see ``FileImages``.
        Raises:
            UserError: an item cannot be decoded, or the cache cannot be written.
        """
        say_counts(self.name, listing.root, listing.found, listing.expected, listing.rule)
        height, width = next(iter(decoder.arrays.values())).shape[-2:]
        cache = open_cache(
            cache_dir,
            f"{self.name}-{split}-{width}x{height}",
            listing.root,
            items,
            decoder,
            on_error=on_error,
            workers=workers,
        )
        unique = item_names(names)
        self.split = split
        self.listing = listing
        self.skipped = len(cache.problems)
        self.image_size = image_size
        self.names = [unique[row] for row in cache.rows.tolist()]
        self.found, self.expected = listing.found, listing.expected
        self.horizontal_flip = horizontal_flip
        options = {**describe(decoder), "image_size": image_size}
        self.fingerprint = content_hash({"files": cache.digest, "names": self.names, "options": options})
        self._arrays = cache.arrays
        self._rows = cache.rows
        self._margin = (height - image_size[0], width - image_size[1])

    def batch(self, indices: np.ndarray, seed: int | None) -> dict[str, Tensor | list[str]]:
        """Gather items.

        Args:
            indices: int (N,), each in [0, len).
            seed: None for the central crop, not mirrored; an integer draws crop and mirroring of each item from
                (seed, index).
        Returns:
            ``index`` int64 (N,), and an array (N, ..., H, W) for each that the decoder makes.
        """
        indices = check_indices(indices, len(self))
        offsets = np.tile(np.array(self._margin) // 2, (len(indices), 1))
        flips = np.zeros(len(indices), dtype=bool)
        if seed is not None:
            draws = item_uniforms(seed, indices, 3)
            # Every offset, both ends included, is equally likely, as in the official transforms.
            offsets = (draws[:, :2] * (np.array(self._margin) + 1)).astype(np.int64)
            flips = (draws[:, 2] < 0.5) & self.horizontal_flip
        arrays = gather_crops(self._arrays, self._rows[indices], self.image_size, offsets, flips)
        return {"index": torch.from_numpy(indices), **self._tensors(arrays, flips)}

    def _tensors(self, arrays: dict[str, np.ndarray], flips: np.ndarray) -> dict[str, Tensor]:
        """The gathered arrays as they leave ``batch``; ``flips`` says which items were mirrored."""
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def gather_crops(
    arrays: Mapping[str, np.ndarray],
    rows: np.ndarray,
    size: tuple[int, int],
    offsets: np.ndarray,
    flips: np.ndarray,
) -> dict[str, np.ndarray]:
    """Copy one crop of each row, the same from every array.

    Args:
        arrays: (M, ..., h, w).
        rows: int (N,).
        size: (H, W) of the crops.
        offsets: int (N, 2), top and left of each crop.
        flips: bool (N,), which crops are mirrored left to right.
    Returns:
        By name, (N, ..., H, W).
    """
    height, width = size
    crops = {
        name: np.empty((len(rows), *array.shape[1:-2], height, width), array.dtype) for name, array in arrays.items()
    }
    for number, (row, (top, left), flip) in enumerate(zip(rows, offsets, flips, strict=True)):
        for name, array in arrays.items():
            crop = array[row, ..., top : top + height, left : left + width]
            crops[name][number] = crop[..., ::-1] if flip else crop
    return crops


def training_size(name: str, image_size: int, load_size: int | None) -> int:
    """The side that training items are cached at: ``load_size``, or ``image_size`` where there is no random crop.

    Raises:
        UserError: ``image_size`` is not positive, or larger than ``load_size``.
    """
    if image_size < 1:
        raise UserError(f"dataset {name}: image_size={image_size} must be at least 1")
    load_size = image_size if load_size is None else load_size
    if load_size < image_size:
        raise UserError(
            f"dataset {name}: load_size={load_size} must not be less than image_size={image_size}, "
            "which is cropped from it"
        )
    return load_size
