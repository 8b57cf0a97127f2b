"""Describable Textures Dataset (Cimpoi et al., CVPR 2014)."""

from pathlib import Path
from typing import Annotated, Literal

from datasets.base import SPLITS, Split
from datasets.files import SquareImages
from datasets.listing import Listing, draw_order, find_images, num_test_images, present, read_list
from ffl.errors import UserError
from ffl.ranges import Range


class DTD(SquareImages):
    """``dtd/images/<class>/*.jpg``: 47 classes of 120 images, 5,640 in all.

    ``split_by``:

    - ``paper``: 4,512 train and 1,128 test images. The paper gives no list; ours takes a fifth of each class for test,
      24 of 120, drawn by file name (``listing.draw_order``).
    - ``official``: ``dtd/labels/{train,val,test}<fold>.txt``, a third each.
    """

    name = "dtd"
    source = "DTD r1.0.1: https://www.robots.ox.ac.uk/~vgg/data/dtd/"
    public_images = 5640

    @classmethod
    def list_files(
        cls,
        data_root: Path,
        *,
        split_by: Literal["paper", "official"] = "paper",
        fold: Annotated[int, Range(1, 10)] = 1,
    ) -> Listing:
        """See ``FileImages.list_files`` and the class."""
        root = cls.existing(data_root / cls.name)
        # torchvision's downloader unpacks the archive, itself a folder dtd, into dtd.
        root = root / "dtd" if (root / "dtd" / "images").is_dir() else root
        cls.existing(root / "images")
        splits: dict[Split, list[str]] = {}
        if split_by == "paper":
            # Within each class, so that train and test hold all textures in equal shares.
            classes: dict[str, list[str]] = {}
            for path in find_images(root / "images"):
                classes.setdefault(path.split("/")[0], []).append(f"images/{path}")
            test = [p for of in classes.values() for p in draw_order(of)[: num_test_images(len(of), len(of), 0.2)]]
            train = {path for paths in classes.values() for path in paths} - set(test)
            return Listing(
                root,
                {"train": sorted(train), "test": sorted(test)},
                "a fifth of each class, drawn by file name, is test",
            )
        absent = 0
        for split in SPLITS:
            fold_list = root / "labels" / f"{split}{fold}.txt"
            if not fold_list.is_file():
                raise UserError(f"dataset dtd: {fold_list} is missing; it comes with {cls.source}")
            splits[split], missing = present(root, [f"images/{line}" for line in read_list(fold_list)])
            absent += missing
        return Listing(root, splits, f"official splits, fold {fold}, {absent} of their images not found")
