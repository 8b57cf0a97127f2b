"""Pairs of pictures side by side in one file, as pix2pix prepares them (Isola et al., CVPR 2017).

The official preparation, of both halves alike: resize to ``load_size`` x ``load_size``, bicubic; when training, crop
``image_size`` x ``image_size`` at random and mirror at random; else resize to ``image_size`` alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from datasets.aligned import AlignedImages, training_size
from datasets.base import SPLITS, Split
from datasets.cache import Item, OnError
from datasets.decoding import ArraySpec
from datasets.files import split_paths
from datasets.listing import Listing, check_val_images, find_images, hold_out_val
from ffl.decoding import decode_rgb
from ffl.errors import UserError
from ffl.ranges import Count

Direction = Literal["AtoB", "BtoA"]


@dataclass(frozen=True)
class PairDecoder:
    """``source`` and ``image``, uint8 (3, size, size), from A on the left and B on the right of a file."""

    size: int
    direction: Direction

    @property
    def arrays(self) -> dict[str, ArraySpec]:
        spec = ArraySpec("uint8", (3, self.size, self.size))
        return {"source": spec, "image": spec}

    def __call__(self, data: bytes) -> dict[str, np.ndarray]:
        pair = decode_rgb(data)
        if pair.width <= pair.height:
            raise ValueError(f"{pair.width} x {pair.height} pixels are not two pictures side by side")
        middle = pair.width // 2
        left = self._resized(pair.crop((0, 0, middle, pair.height)))
        right = self._resized(pair.crop((middle, 0, pair.width, pair.height)))
        return {"source": left, "image": right} if self.direction == "AtoB" else {"source": right, "image": left}

    def _resized(self, half: Image.Image) -> np.ndarray:
        return np.asarray(half.resize((self.size, self.size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


class PairedImages(AlignedImages):
    """Pairs under ``<folder>/train``, ``test`` and ``val``.

    Where there is no test folder, ``val`` is the test split, as published evaluations use it; then a val split has
    to be held out of train (``val_images``). Batches hold ``source`` and ``image``, uint8 (N, 3, H, W).
    """

    folder: ClassVar[str]
    public_images: ClassVar[int]
    paper_direction: ClassVar[Direction]

    @classmethod
    def provides(cls, **options: Any) -> frozenset[str]:
        """See ``ImageDataset.provides``."""
        return frozenset({"source", "image"})

    def __init__(
        self,
        split: Split,
        *,
        data_root: Path,
        cache_dir: Path,
        direction: Direction | None = None,
        image_size: int = 256,
        load_size: int | None = 286,
        horizontal_flip: bool = True,
        val_images: int = 0,
        on_error: OnError = "fail",
        workers: Count | None = None,
    ) -> None:
        """List the files and open the cache.

        Args:
            split: "train", "val" or "test".
            data_root: folder that holds the data set's folder.
            cache_dir: folder for the decoded images.
            direction: "AtoB" translates the left half into the right one, "BtoA" the right into the left; None is
                the paper's task, ``paper_direction``.
            image_size: H = W of a batch.
            load_size: side that training pairs are resized to before the random crop; None for no crop.
            horizontal_flip: mirror training pairs at random.
            val_images: pairs held out of train for val, where the layout leaves no val split.
            on_error, workers: see ``FileImages``.
        Raises:
            UserError: a folder is missing or empty, a file is not a pair, an option is impossible.
        """
        direction = self.paper_direction if direction is None else direction
        if direction not in ("AtoB", "BtoA"):
            raise UserError(f"dataset {self.name}: direction={direction!r} must be AtoB or BtoA")
        loaded = training_size(self.name, image_size, load_size)
        listing = self.list_files(data_root, val_images=val_images)
        paths = split_paths(self.name, listing, split)
        super().__init__(
            split,
            listing,
            [Item((path,)) for path in paths],
            PairDecoder(loaded if split == "train" else image_size, direction),
            names=paths,
            cache_dir=cache_dir,
            image_size=(image_size, image_size),
            horizontal_flip=horizontal_flip,
            on_error=on_error,
            workers=workers,
        )
        self.direction = direction

    @classmethod
    def list_files(cls, data_root: Path, *, val_images: int = 0) -> Listing:
        """The files of all splits; arguments as for the class.

        Raises:
            UserError: the folder is missing, empty, or has no sub-folder train.
        """
        check_val_images(cls.name, val_images)
        root = cls.existing(data_root / cls.folder)
        if not (root / "train").is_dir():
            raise UserError(f"dataset {cls.name}: {root} has no sub-folder train; {cls.source}")
        splits: dict[Split, list[str]] = {
            split: [f"{split}/{path}" for path in find_images(root / split)]
            for split in SPLITS
            if (root / split).is_dir()
        }
        rule = "splits from sub-folders"
        if "test" not in splits and "val" in splits:
            splits["test"] = splits.pop("val")
            rule += "; val is the test split"
        return cls.not_empty(Listing(root, hold_out_val(splits, val_images), rule, cls.public_images))


class Facades(PairedImages):
    """CMP Facades (Table 4): photographs left, coloured labels right; 400 train, 100 val, 106 test pairs."""

    name = "facades"
    folder = "facades"
    public_images = 606
    paper_direction = "BtoA"
    source = "pix2pix facades.tar.gz: http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/"


class Edges2Shoes(PairedImages):
    """Edges to shoes (Table 4): edges left, photographs right; 49,825 train pairs and 200 of val, used as test."""

    name = "edges2shoes"
    folder = "edges2shoes"
    public_images = 50_025
    paper_direction = "AtoB"
    source = "pix2pix edges2shoes.tar.gz: http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/"
