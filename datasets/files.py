"""Data sets of image files: a listing names the files, a decoder turns them into pixels, a cache keeps these.

To add a data set, subclass one of the kinds (``SquareImages`` here, ``PairedImages``, ``SemanticImages``), state where
its images come from, write one function, ``list_files``, from its folder to the listing, and enter the class in
``datasets.DATASETS``. Its options are the keyword arguments of three functions together: the image options of
``FileImages.__init__``, those of its kind in ``prepare``, and its own in ``list_files``.
"""

import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datasets.base import SPLITS, ImageDataset, NoSplit, Rows, Split
from datasets.cache import Form, OnError, describe, open_cache
from datasets.decoding import Decoder, Item, ResizeCrop
from datasets.listing import Listing, hold_out_val, item_names
from datasets.shards import ShardListing, ShardRows, open_shards
from ffl.decoding import JPEGDecoder
from ffl.errors import UserError
from ffl.ranges import Count, Whole
from ffl.training.provenance import content_hash

log = logging.getLogger(__name__)

# Sides of images, in pixels, from which decoded ones take far more room than their files: 94 GB for CelebA-HQ at 1024.
PACKED_FROM = 512


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


def options_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a function by name."""
    # Annotations are evaluated: under ``from __future__ import annotations`` they are strings, which no value matches.
    parameters = inspect.signature(function, eval_str=True).parameters
    return {name: item for name, item in parameters.items() if item.kind is item.KEYWORD_ONLY}


class FileImages(ImageDataset):
    """One split of a data set of files, decoded and cached.

    Attributes:
        public_images: images of the whole public data set; None where there is no such number.
        defaults: of options, where those of the data set differ from what the three functions say.
        mirrored_ids: label ids that trade places when an item is mirrored: left and right eye, for example.

    Args:
        split: "train", "val" or "test".
        data_root: folder that holds one folder per data set.
        cache_dir: folder for the decoded images.
        image_size: height of a batch in pixels.
        horizontal_flip: mirror training items at random.
        val_images: images held out of train for val; without effect where the data set itself has a val split.
        on_error: "fail" or "skip", for images that cannot be decoded.
        workers: decoding processes while the cache is built; None for one per core, 8 at most.
        cache: "pixels" decodes every image once and keeps its pixels; "files" packs the files and decodes them for each
            batch, on several threads. None takes files where images have ``PACKED_FROM`` pixels or more on a side.
        decoder: "pillow", as in the paper, or "turbo", torchvision's for JPEG files, which takes half the time; see
            ``ffl.decoding``.
        shards: folder of shards, see ``datasets.shards``, that the files are read from for each batch, on several
            threads. Neither ``data_root`` nor ``cache_dir`` is then used.
        options: of ``prepare`` and of ``list_files``.
    Raises:
        UserError: files are missing, there is no such split, an image cannot be decoded or the cache not written.
    """

    public_images: ClassVar[int | None] = None
    defaults: ClassVar[Mapping[str, Any]] = {}
    mirrored_ids: ClassVar[Mapping[int, int]] = {}

    def __init_subclass__(cls) -> None:
        # The configuration is checked against the signature of a data set, as against that of any other class.
        parameters = {"split": inspect.Parameter("split", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Split)}
        for function in (FileImages.__init__, cls.prepare, cls.list_files):
            for name, parameter in options_of(function).items():
                parameters[name] = parameter.replace(default=cls.defaults.get(name, parameter.default))
        cls.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        # And a call without an option does what the signature says.
        cls.__init__ = functools.partialmethod(FileImages.__init__, **cls.defaults)  # type: ignore[assignment]

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
        cache: Form | None = None,
        decoder: JPEGDecoder = "pillow",
        shards: str | None = None,
        **options: Any,
    ) -> None:
        # A misspelt option is an error here too, for callers whose options no configuration has checked.
        of_kind, of_listing = options_of(self.prepare), options_of(self.list_files)
        if unknown := options.keys() - of_kind.keys() - of_listing.keys():
            raise TypeError(f"{type(self).__name__} takes no {', '.join(sorted(unknown))}")
        # The files of this split.
        listing = self.find_files(data_root, val_images=val_images, shards=shards, **options)
        paths = split_paths(self.name, listing, split)
        log_counts(self.name, listing.root, listing.found, listing.expected, listing.rule)
        # Their pixels.
        size = (image_size, image_size * self.aspect)
        prepared = self.prepare(split, listing, paths, size, **{k: v for k, v in options.items() if k in of_kind})
        decode = replace(prepared.decoder, jpeg=decoder)  # type: ignore[type-var]
        height, width = next(iter(decode.arrays.values())).shape[-2:]
        rows: Rows
        if isinstance(listing, ShardListing):
            if cache is not None:
                raise UserError(f"dataset.cache={cache}: nothing of shards is cached; leave it out")
            rows = ShardRows(listing.shards, prepared.items, decode)
            kept, digest = np.arange(len(prepared.items)), rows.digest()
        else:
            form: Form = cache or ("files" if min(height, width) >= PACKED_FROM else "pixels")
            if cache is None and form == "files":
                log.info("%s: images of %dx%d stay files in the cache (cache=files)", self.name, width, height)
            cached = open_cache(
                cache_dir,
                f"{self.name}-{split}-{width}x{height}",
                listing.root,
                prepared.items,
                decode,
                form=form,
                on_error=on_error,
                workers=workers,
            )
            rows, kept, digest = cached.pixels, cached.rows, cached.digest
        # Names are made unique before undecodable images are left out: a name never depends on what else decodes.
        unique = item_names(prepared.names)
        names = [unique[row] for row in kept.tolist()]
        made_with = {**describe(decode), "image_size": size}
        super().__init__(
            split,
            pixels=rows,
            rows=kept,
            names=names,
            fingerprint=content_hash({"files": digest, "names": names, "options": made_with}),
            found=listing.found,
            expected=listing.expected,
            image_size=size,
            horizontal_flip=horizontal_flip,
            mirrored_ids=self.mirrored_ids,
        )

    @classmethod
    def list_files(cls, data_root: Path, *args: Any, **options: Any) -> Listing:
        """The files of all splits, before any are held out for val. Each data set writes this.

        Raises:
            UserError: a folder or a list is missing.
        """
        raise NotImplementedError

    @classmethod
    def prepare(
        cls, split: Split, listing: Listing, paths: list[str], size: tuple[int, int], *args: Any, **options: Any
    ) -> Preparation:
        """The items of a split and their decoder, for batches of ``size`` (H, W). Each kind of data set writes this."""
        raise NotImplementedError

    @classmethod
    def find_files(cls, data_root: Path, *, shards: str | None = None, **options: Any) -> Listing:
        """The files of all splits, some of train held out for val where asked for; nothing is decoded.

        Args:
            data_root: folder that holds one folder per data set.
            shards: folder of shards that hold the data set instead.
            options: of the data set; only ``val_images`` and those of ``list_files`` matter here.
        Raises:
            UserError: a folder or a list is missing, or there are no images.
        """
        chosen = cls.listing_options(**options)
        if shards is None:
            listing = cls.list_files(data_root, **chosen)
        else:
            listing = open_shards(Path(shards), cls.name, chosen)
        if not listing.found:
            raise UserError(f"dataset {cls.name}: no images under {listing.root}; {cls.source}")
        splits = hold_out_val(listing.splits, {**cls.defaults, **options}.get("val_images", 0))
        return replace(listing, splits=splits, expected=cls.public_images)

    @classmethod
    def listing_options(cls, **options: Any) -> dict[str, Any]:
        """Those of ``options`` that ``list_files`` takes, and its defaults for the others."""
        chosen = {**cls.defaults, **options}
        return {name: chosen.get(name, item.default) for name, item in options_of(cls.list_files).items()}

    @classmethod
    def source_files(cls, listing: Listing) -> list[str]:
        """Every file that an item of the listing may need, each once, relative to its root."""
        return list(dict.fromkeys(path for split in SPLITS for path in listing.splits.get(split, [])))

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


@functools.cache  # once for all splits: train, val and test are opened in turn, with the same counts
def log_counts(name: str, root: Path, found: int, expected: int | None, rule: str) -> None:
    """Log how many images were found, as a warning where the public data set has another number."""
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
    """The (h, w) that items are cached at: ``load_size`` for training, which crops from it at random, else ``size``.

    Without a ``load_size`` nothing is cropped, and training items too are cached at ``size``.

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
