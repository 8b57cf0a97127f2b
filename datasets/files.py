"""Data sets of image files: a listing says which, a decoder makes pixels of them, a cache keeps those."""

import functools
import logging
from collections.abc import Sequence
from pathlib import Path

from datasets.base import SPLITS, ImageDataset, NoSplit, Split
from datasets.cache import Item, OnError, describe, open_cache
from datasets.decoding import ResizeCrop
from datasets.listing import Listing, item_names
from ffl.errors import UserError
from ffl.ranges import Count
from ffl.training.provenance import content_hash

log = logging.getLogger(__name__)


class FileImages(ImageDataset):
    """The images of one split of a listing, resized and cropped to a square and cached.

    Attributes:
        source: where the data set comes from, for messages.
        listing: the files of all splits.
        skipped: items left out because they could not be decoded (``on_error="skip"``).
    """

    source: str = ""

    @classmethod
    def list_files(cls, data_root: Path) -> Listing:
        """The files of all splits under ``data_root``, with the default options."""
        raise NotImplementedError

    @classmethod
    def existing(cls, root: Path) -> Path:
        """``root``, or UserError saying where the data set comes from."""
        if not root.is_dir():
            raise UserError(f"dataset {cls.name}: folder {root} is missing; {cls.source}")
        return root

    @classmethod
    def not_empty(cls, listing: Listing) -> Listing:
        """``listing``, or UserError where nothing was found."""
        if not listing.found:
            raise UserError(f"dataset {cls.name}: no images under {listing.root}; {cls.source}")
        return listing

    def __init__(
        self,
        split: Split,
        listing: Listing,
        *,
        cache_dir: Path,
        image_size: int,
        exif_orientation: bool = False,
        horizontal_flip: bool = False,
        on_error: OnError = "fail",
        workers: Count | None = None,
    ) -> None:
        """Args:
            split: "train", "val" or "test".
            listing: the files of the data set.
            cache_dir: folder for the decoded images.
            image_size: H = W in pixels; the shorter side is resized to it, bilinear with antialiasing, then
                the centre is cropped.
            exif_orientation: turn images as their EXIF tag says; the authors' pipeline does not.
            horizontal_flip: mirror training items at random.
            on_error: "fail" or "skip", for images that cannot be decoded.
            workers: decoding processes while the cache is built; None for one per core, 8 at most.
        Raises:
            UserError: no such split, an image that cannot be decoded, a cache that cannot be written.
        """
        if image_size < 1:
            raise UserError(f"dataset {self.name}: image_size={image_size} must be at least 1")
        paths = split_paths(self.name, listing, split)
        say_counts(self.name, listing.root, listing.found, listing.expected, listing.rule)
        decoder = ResizeCrop(image_size, exif_orientation)
        cache = open_cache(
            cache_dir,
            f"{self.name}-{split}-{image_size}",
            listing.root,
            [Item((path,)) for path in paths],
            decoder,
            on_error=on_error,
            workers=workers,
        )
        names = item_names(paths)
        kept: Sequence[int] = cache.rows.tolist()
        self.listing = listing
        self.skipped = len(cache.problems)
        super().__init__(
            split,
            images=cache.arrays["image"],
            rows=cache.rows,
            names=[names[row] for row in kept],
            fingerprint=content_hash(
                {"files": cache.digest, "names": [names[row] for row in kept], "options": describe(decoder)}
            ),
            found=listing.found,
            expected=listing.expected,
            horizontal_flip=horizontal_flip,
        )


@functools.cache
def say_counts(name: str, root: Path, found: int, expected: int | None, rule: str) -> None:
    """Log what was found; once for all splits."""
    if expected is None or found == expected:
        log.info("%s: %d images under %s; %s", name, found, root, rule)
    else:
        log.warning(
            "%s: %d images under %s, the public data set has %d: not comparable with published numbers; %s",
            name,
            found,
            root,
            expected,
            rule,
        )


def split_paths(name: str, listing: Listing, split: Split) -> list[str]:
    """The paths of a split, or UserError where the data set has none of them."""
    if split not in SPLITS:
        raise UserError(f"dataset {name}: no split {split!r}; use one of {', '.join(SPLITS)}")
    if split not in listing.splits:
        hint = "; set val_images to hold some out of train" if split == "val" else ""
        raise NoSplit(f"dataset {name}: no {split} split ({listing.rule}){hint}")
    paths = listing.splits[split]
    if not paths:
        raise UserError(
            f"dataset {name}: the {split} split is empty ({listing.rule}, {listing.found} images found); "
            "give more images, or another share of them to test and val"
        )
    return paths
