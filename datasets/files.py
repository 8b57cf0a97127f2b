"""Data sets of image files: a listing says which files there are, a decoder makes pixels of them, a cache keeps those.

A data set is a subclass of one of the kinds: ``SquareImages`` here, ``PairedImages``, ``SemanticImages``. It states
where its images come from and writes one function, ``list_files``, from its folder to the listing. Its options are the
image options, stated once in ``FileImages``, those of its kind (the keywords of ``prepare``) and of ``list_files``.
"""

import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from datasets.base import ImageDataset, NoSplit, Split
from datasets.cache import Decoder, Item, OnError, describe, open_cache
from datasets.decoding import ResizeCrop
from datasets.listing import Listing, hold_out_val, item_names
from ffl.errors import UserError
from ffl.ranges import Count, Whole
from ffl.training.provenance import content_hash

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preparation:
    """What a kind of data set makes of the paths of a split.

    Attributes:
        items: the files of each item.
        names: of the items; made unique later.
        decoder: from the files of an item to its arrays.
    """

    items: Sequence[Item]
    names: Sequence[str]
    decoder: Decoder


def _options(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a function by name."""
    parameters = inspect.signature(function).parameters
    return {name: item for name, item in parameters.items() if item.kind is item.KEYWORD_ONLY}


class FileImages(ImageDataset):
    """One split of a data set of files, decoded and cached.

    Attributes:
        public_images: images of the whole public data set; None where there is no such number.
        aspect: width of a batch over its height.
        mirrored_ids: label ids that trade places when an item is mirrored: left and right eye, for example.
        listing: the files of all splits.
        skipped: items left out because they could not be decoded (``on_error="skip"``).

    Args:
        split: "train", "val" or "test".
        data_root: folder that holds one folder per data set.
        cache_dir: folder for the decoded images.
        image_size: height of a batch in pixels.
        horizontal_flip: mirror training items at random.
        val_images: images held out of train for val; without effect where the data set itself has a val split.
        on_error: "fail" or "skip", for images that cannot be decoded.
        workers: decoding processes while the cache is built; None for one per core, 8 at most.
        options: of ``prepare`` and of ``list_files``.
    Raises:
        UserError: files are missing, there is no such split, an image cannot be decoded or the cache not written.
    """

    public_images: ClassVar[int | None] = None
    aspect: ClassVar[int] = 1
    mirrored_ids: ClassVar[Mapping[int, int]] = {}

    def __init_subclass__(cls) -> None:
        # The signature of a data set is the schema of its section in the configuration.
        parameters = {"split": inspect.Parameter("split", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Split)}
        for function in (FileImages.__init__, cls.prepare, cls.list_files):
            for name, parameter in _options(function).items():
                parameters[name] = parameter.replace(default=cls.defaults.get(name, parameter.default))
        cls.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]

    def __init__(
        self,
        split: Split,
        *,
        data_root: Path,
        cache_dir: Path,
        image_size: Count = 64,
        horizontal_flip: bool = False,
        val_images: Whole = 0,
        on_error: OnError = "fail",
        workers: Count | None = None,
        **options: Any,
    ) -> None:
        # The files of this split.
        listing = self.find_files(data_root, val_images=val_images, **options)
        paths = split_paths(self.name, listing, split)
        say_counts(self.name, listing.root, listing.found, listing.expected, listing.rule)
        # Their pixels.
        size = (image_size, image_size * self.aspect)
        of_kind = {key: options[key] for key in _options(self.prepare) if key in options}
        prepared = self.prepare(split, listing, paths, size, **of_kind)
        height, width = next(iter(prepared.decoder.arrays.values())).shape[-2:]
        cache = open_cache(
            cache_dir,
            f"{self.name}-{split}-{width}x{height}",
            listing.root,
            prepared.items,
            prepared.decoder,
            on_error=on_error,
            workers=workers,
        )
        # What is left of them where some were skipped.
        unique = item_names(prepared.names)
        names = [unique[row] for row in cache.rows.tolist()]
        made_with = {**describe(prepared.decoder), "image_size": size}
        self.listing = listing
        self.skipped = len(cache.problems)
        super().__init__(
            split,
            arrays=cache.arrays,
            rows=cache.rows,
            names=names,
            fingerprint=content_hash({"files": cache.digest, "names": names, "options": made_with}),
            found=listing.found,
            expected=listing.expected,
            image_size=size,
            horizontal_flip=horizontal_flip,
            mirrored_ids=self.mirrored_ids,
        )

    @classmethod
    def list_files(cls, data_root: Path, *args: Any, **options: Any) -> Listing:
        """The files of all splits, before any are held out for val: what a data set writes.

        Raises:
            UserError: a folder or a list is missing.
        """
        raise NotImplementedError

    @classmethod
    def prepare(
        cls, split: Split, listing: Listing, paths: list[str], size: tuple[int, int], *args: Any, **options: Any
    ) -> Preparation:
        """The items of a split and their decoder, for batches of ``size`` (H, W): what a kind of data set writes."""
        raise NotImplementedError

    @classmethod
    def find_files(cls, data_root: Path, *, val_images: int = 0, **options: Any) -> Listing:
        """The files of all splits; nothing is decoded.

        Args:
            data_root: folder that holds one folder per data set.
            val_images: images held out of train for val.
            options: of the data set; those that do not concern its files are ignored.
        Raises:
            UserError: a folder or a list is missing, or there are no images.
        """
        chosen = {**cls.defaults, **options}
        listing = cls.list_files(data_root, **{key: chosen[key] for key in _options(cls.list_files) if key in chosen})
        if not listing.found:
            raise UserError(f"dataset {cls.name}: no images under {listing.root}; {cls.source}")
        return Listing(listing.root, hold_out_val(listing.splits, val_images), listing.rule, cls.public_images)

    @classmethod
    def existing(cls, folder: Path) -> Path:
        """``folder``, or UserError saying where the data set comes from."""
        if not folder.is_dir():
            raise UserError(f"dataset {cls.name}: folder {folder} is missing; {cls.source}")
        return folder


class SquareImages(FileImages):
    """Images resized and cropped to a square: the shorter side to ``image_size``, then the centre."""

    @classmethod
    def prepare(
        cls,
        split: Split,
        listing: Listing,
        paths: list[str],
        size: tuple[int, int],
        *,
        exif_orientation: bool = False,
    ) -> Preparation:
        """See ``FileImages``.

        Args:
            split, listing, paths, size: see ``FileImages``.
            exif_orientation: turn images as their EXIF tag says; the authors' pipeline does not.
        """
        return Preparation([(path,) for path in paths], paths, ResizeCrop(size[0], exif_orientation))


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


def training_size(name: str, split: Split, size: tuple[int, int], load_size: int | None) -> tuple[int, int]:
    """The (h, w) that items are cached at: in training ``load_size``, where there is one to crop from, else ``size``.

    Raises:
        UserError: ``size`` is larger than ``load_size``.
    """
    if load_size is None:
        return size
    if load_size < max(size):
        raise UserError(
            f"dataset {name}: load_size={load_size} must not be less than image_size={size[0]}, the crop from it"
        )
    return (load_size, load_size) if split == "train" else size
