"""Describable Textures Dataset (Cimpoi et al., CVPR 2014)."""

from pathlib import Path
from typing import Literal

from datasets.base import SPLITS, Split
from datasets.cache import OnError
from datasets.files import FileImages
from datasets.listing import (
    Listing,
    check_val_images,
    draw_order,
    find_images,
    hold_out_val,
    num_test_images,
    present,
    read_list,
)
from ffl.errors import UserError
from ffl.ranges import Count

FOLDS = range(1, 11)


class DTD(FileImages):
    """``dtd/images/<class>/*.jpg``: 47 classes of 120 images, 5,640 in all.

    ``split_by``:

    - ``paper``: 4,512 train and 1,128 test images. The paper gives no list; ours takes a fifth of each class for test,
      24 of 120, drawn by file name (``listing.draw_order``).
    - ``official``: ``dtd/labels/{train,val,test}<fold>.txt``, a third each.
    """

    name = "dtd"
    source = "DTD r1.0.1: https://www.robots.ox.ac.uk/~vgg/data/dtd/"
    public_images = 5640
    paper_test_fraction = 1128 / 5640

    def __init__(
        self,
        split: Split,
        *,
        data_root: Path,
        cache_dir: Path,
        image_size: int = 64,
        split_by: Literal["paper", "official"] = "paper",
        fold: int = 1,
        val_images: int = 0,
        horizontal_flip: bool = False,
        on_error: OnError = "fail",
        workers: Count | None = None,
    ) -> None:
        """Args:
        split: "train", "val" or "test".
        data_root: folder that holds ``dtd/``.
        cache_dir: folder for the decoded images.
        split_by: "paper" or "official".
        fold: 1 to 10, for the official splits.
        val_images: images held out of train for val; without effect on the official splits, which have a val.
        image_size, horizontal_flip, on_error, workers: see ``FileImages``.
        """
        super().__init__(
            split,
            self.list_files(data_root, split_by=split_by, fold=fold, val_images=val_images),
            cache_dir=cache_dir,
            image_size=image_size,
            horizontal_flip=horizontal_flip,
            on_error=on_error,
            workers=workers,
        )

    @classmethod
    def list_files(
        cls,
        data_root: Path,
        *,
        split_by: Literal["paper", "official"] = "paper",
        fold: int = 1,
        val_images: int = 0,
    ) -> Listing:
        """The files of all splits; arguments as for the class.

        Raises:
            UserError: the folder or a list is absent, or there are no images.
        """
        check_val_images(cls.name, val_images)
        root = cls.existing(data_root / cls.name)
        # torchvision's downloader unpacks the archive, itself a folder dtd, into dtd.
        root = root / "dtd" if (root / "dtd" / "images").is_dir() else root
        cls.existing(root / "images")
        if split_by == "official":
            splits, rule = _official(root, fold)
        elif split_by == "paper":
            splits = _by_class(root, cls.paper_test_fraction)
            rule = "a fifth of each class, drawn by file name, is test"
        else:
            raise UserError(f'dataset {cls.name}: split_by={split_by!r} must be "paper" or "official"')
        return cls.not_empty(Listing(root, hold_out_val(splits, val_images), rule, cls.public_images))


def _by_class(root: Path, test_fraction: float) -> dict[Split, list[str]]:
    classes: dict[str, list[str]] = {}
    for path in find_images(root / "images"):
        classes.setdefault(path.split("/")[0], []).append(f"images/{path}")
    train: list[str] = []
    test: list[str] = []
    for paths in classes.values():
        count = num_test_images(len(paths), len(paths), test_fraction)
        order = draw_order(paths)
        test += order[:count]
        train += order[count:]
    return {"train": sorted(train), "test": sorted(test)}


def _official(root: Path, fold: int) -> tuple[dict[Split, list[str]], str]:
    if fold not in FOLDS:
        raise UserError(f"dataset dtd: fold={fold} must be 1 to 10")
    splits: dict[Split, list[str]] = {}
    absent = 0
    for split in SPLITS:
        path = root / "labels" / f"{split}{fold}.txt"
        if not path.is_file():
            raise UserError(f"dataset dtd: {path} is missing; it comes with {DTD.source}")
        splits[split], missing = present(root, [f"images/{line}" for line in read_list(path)])
        absent += missing
    return splits, f"official splits, fold {fold}, {absent} of their images not found"
