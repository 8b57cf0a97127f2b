"""Pairs of pictures side by side in one file, as pix2pix prepares them (Isola et al., CVPR 2017).

The official preparation, of both halves alike: resize to ``load_size`` x ``load_size``, bicubic; when training, crop
``image_size`` x ``image_size`` at random and mirror at random; else resize to ``image_size`` alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from datasets.base import SPLITS, Split
from datasets.decoding import ArraySpec
from datasets.files import FileImages, Preparation, training_size
from datasets.listing import Listing, find_images
from ffl.decoding import JPEGDecoder, decode_rgb
from ffl.errors import UserError
from ffl.ranges import Count

Direction = Literal["AtoB", "BtoA"]


@dataclass(frozen=True)
class PairDecoder:
    """``source`` and ``image``, uint8 (3, size, size), from A on the left and B on the right of a file."""

    size: int
    direction: Direction
    jpeg: JPEGDecoder = "pillow"

    @property
    def arrays(self) -> dict[str, ArraySpec]:
        """See ``datasets.decoding.Decoder``."""
        spec = ArraySpec("uint8", (3, self.size, self.size))
        return {"source": spec, "image": spec}

    def __call__(self, data: bytes) -> dict[str, np.ndarray]:
        pair = decode_rgb(data, jpeg=self.jpeg)
        if pair.width <= pair.height:
            raise ValueError(f"{pair.width} x {pair.height} pixels are not two pictures side by side")
        # An odd column falls to the right half, as officially.
        middle = pair.width // 2
        boxes = (0, 0, middle, pair.height), (middle, 0, pair.width, pair.height)
        halves = [pair.crop(box).resize((self.size, self.size), Image.Resampling.BICUBIC) for box in boxes]
        left, right = (np.asarray(half).transpose(2, 0, 1) for half in halves)
        return {"source": left, "image": right} if self.direction == "AtoB" else {"source": right, "image": left}


class PairedImages(FileImages):
    """Pairs under ``<name>/train``, ``test`` and ``val``.

    Where there is no test folder, ``val`` is the test split, as published evaluations use it; then a val split has
    to be held out of train (``val_images``). Batches hold ``source`` and ``image``, uint8 (N, 3, H, W).

    Attributes:
        paper_direction: the paper's task.
    """

    paper_direction: ClassVar[Direction]
    defaults: ClassVar = {"image_size": 256, "horizontal_flip": True}

    @classmethod
    def provides(cls, **options: Any) -> frozenset[str]:
        """See ``ImageDataset.provides``."""
        return frozenset({"source", "image"})

    @classmethod
    def prepare(
        cls,
        split: Split,
        listing: Listing,
        paths: list[str],
        size: tuple[int, int],
        *,
        direction: Direction | None = None,
        load_size: Count | None = 286,
    ) -> Preparation:
        """See ``FileImages``.

        Args:
            split, listing, paths, size: see ``FileImages``.
            direction: "AtoB" translates the left half into the right one, "BtoA" the right into the left; None is
                the paper's task, ``paper_direction``.
            load_size: side that training pairs are resized to before the random crop; None for no crop.
        """
        side, _ = training_size(cls.name, split, size, load_size)
        decoder = PairDecoder(side, cls.paper_direction if direction is None else direction)
        return Preparation([(path,) for path in paths], paths, decoder)

    @classmethod
    def list_files(cls, data_root: Path) -> Listing:
        """See ``FileImages.list_files``."""
        root = cls.existing(data_root / cls.name)
        if not (root / "train").is_dir():
            raise UserError(f"dataset {cls.name}: {root} has no sub-folder train; {cls.source}")
        splits: dict[Split, list[str]] = {
            split: [f"{split}/{path}" for path in find_images(root / split)]
            for split in SPLITS
            if (root / split).is_dir()
        }
        rule = "splits from sub-folders"
        # Edges to shoes is published without test images; evaluations of it use val.
        if "test" not in splits and "val" in splits:
            splits["test"] = splits.pop("val")
            rule += "; val is the test split"
        return Listing(root, splits, rule)


class Facades(PairedImages):
    """CMP Facades (Table 4): photographs left, coloured labels right; 400 train, 100 val, 106 test pairs."""

    name = "facades"
    public_images = 606
    paper_direction = "BtoA"
    source = "pix2pix facades.tar.gz: http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/"


class Edges2Shoes(PairedImages):
    """Edges to shoes (Table 4): edges left, photographs right; 49,825 train pairs and 200 of val, used as test."""

    name = "edges2shoes"
    public_images = 50_025
    paper_direction = "AtoB"
    source = "pix2pix edges2shoes.tar.gz: http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/"
