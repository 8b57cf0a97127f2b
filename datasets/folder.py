"""Any folder of images, and data sets that are just that."""

from pathlib import Path
from typing import Literal

from datasets.base import SPLITS, Split
from datasets.cache import OnError
from datasets.files import FileImages
from datasets.listing import (
    Listing,
    check_disjoint,
    check_val_images,
    draw_splits,
    find_images,
    hold_out_val,
    num_test_images,
    present,
    read_list,
)
from ffl.errors import UserError
from ffl.ranges import Count

SplitRule = Literal["auto", "lists", "folders", "fraction"]


class Folder(FileImages):
    """Images of any size under a folder, at any depth (png, jpg, jpeg, webp, bmp, tif).

    The splits come from, in this order:

    1. ``lists``: train.txt, val.txt, test.txt in the folder, each a list of relative paths; train may be left
       out and is then every image that the others do not list.
    2. ``folders``: sub-folders train, val, test.
    3. ``fraction``: a draw that depends on the file names alone (see ``listing.draw_order``): ``test_images``
       of them are test, but no more than ``test_fraction`` of all.

    ``val_images`` are held out of train in the same way where the layout itself has no val split.
    """

    name = "folder"
    default_folder: str | None = None
    default_test_images: int | None = None
    public_images: int | None = None
    source = "any folder of images: dataset.folder=DIR"

    def __init__(
        self,
        split: Split,
        *,
        data_root: Path,
        cache_dir: Path,
        folder: str | None = None,
        image_size: int = 64,
        split_by: SplitRule = "auto",
        test_fraction: float = 0.1,
        test_images: int | None = None,
        val_images: int = 0,
        exif_orientation: bool = False,
        horizontal_flip: bool = False,
        on_error: OnError = "fail",
        workers: Count | None = None,
    ) -> None:
        """Args:
        split: "train", "val" or "test".
        data_root: folder of the data sets.
        cache_dir: folder for the decoded images.
        folder: the images, absolute or relative to ``data_root``.
        split_by: where the splits come from; "auto" takes the first of the three that is there.
        test_fraction, test_images: for ``fraction``; ``test_images`` None sets no limit but the fraction.
        val_images: images held out of train.
        image_size, exif_orientation, horizontal_flip, on_error, workers: see ``FileImages``.
        """
        listing = self.list_files(
            data_root,
            folder=folder,
            split_by=split_by,
            test_fraction=test_fraction,
            test_images=test_images,
            val_images=val_images,
        )
        super().__init__(
            split,
            listing,
            cache_dir=cache_dir,
            image_size=image_size,
            exif_orientation=exif_orientation,
            horizontal_flip=horizontal_flip,
            on_error=on_error,
            workers=workers,
        )

    @classmethod
    def list_files(
        cls,
        data_root: Path,
        *,
        folder: str | None = None,
        split_by: SplitRule = "auto",
        test_fraction: float = 0.1,
        test_images: int | None = None,
        val_images: int = 0,
    ) -> Listing:
        """The files of all splits; arguments as for the class.

        Raises:
            UserError: the folder is absent, empty, or not laid out as ``split_by`` says.
        """
        folder = cls.default_folder if folder is None else folder
        if folder is None:
            raise UserError(f"dataset {cls.name}: no folder given; set dataset.folder=DIR")
        test_images = cls.default_test_images if test_images is None else test_images
        if not 0 <= test_fraction <= 1:
            raise UserError(f"dataset {cls.name}: test_fraction={test_fraction} must be in [0, 1]")
        if test_images is not None and test_images < 0:
            raise UserError(f"dataset {cls.name}: test_images={test_images} must not be negative")
        check_val_images(cls.name, val_images)
        root = cls.existing(data_root / folder)
        lists = [split for split in SPLITS if (root / f"{split}.txt").is_file()]
        folders = [split for split in SPLITS if (root / split).is_dir()]
        if split_by == "auto":
            split_by = "lists" if lists else "folders" if folders else "fraction"
        if split_by == "lists":
            splits, rule = _by_lists(cls.name, root, lists), "splits from train.txt, val.txt, test.txt"
        elif split_by == "folders":
            if not folders:
                raise UserError(f"dataset {cls.name}: {root} has no sub-folder train, val or test; use split_by=auto")
            splits = {s: [f"{s}/{path}" for path in find_images(root / s)] for s in folders}
            rule = "splits from sub-folders"
        elif split_by == "fraction":
            splits, rule = _by_fraction(find_images(root), test_fraction, test_images, val_images)
        else:
            raise UserError(f"dataset {cls.name}: split_by={split_by!r} must be auto, lists, folders or fraction")
        return cls.not_empty(Listing(root, hold_out_val(splits, val_images), rule, cls.public_images))


def _by_lists(name: str, root: Path, lists: list[Split]) -> dict[Split, list[str]]:
    if not lists:
        raise UserError(f"dataset {name}: {root} has no train.txt, val.txt or test.txt; use split_by=auto")
    splits: dict[Split, list[str]] = {}
    for split in lists:
        listed = read_list(root / f"{split}.txt")
        splits[split], absent = present(root, listed)
        if absent:
            there = set(splits[split])
            first = next(path for path in listed if path not in there)
            raise UserError(
                f"dataset {name}: {root / f'{split}.txt'} lists {absent} missing images, such as {first}; "
                "put them there or take them off the list"
            )
    check_disjoint(splits, f"dataset {name}: {root}")
    if "train" not in splits:
        taken = {path for paths in splits.values() for path in paths}
        splits["train"] = [path for path in find_images(root) if path not in taken]
    return splits


def _by_fraction(
    paths: list[str], test_fraction: float, test_images: int | None, val_images: int
) -> tuple[dict[Split, list[str]], str]:
    count = num_test_images(len(paths), len(paths) if test_images is None else test_images, test_fraction)
    return draw_splits(paths, count, val_images), f"{count} test images drawn by file name"


class Celeba64(Folder):
    """CelebA as 64 x 64 images made beforehand: ``images/NNNNNN.jpg`` and train.txt, val.txt, test.txt."""

    name = "celeba_64"
    default_folder = "celeba_64"
    source = "CelebA resized to 64 x 64, with train.txt, val.txt and test.txt"


class DanbooruPortraits(Folder):
    """Danbooru2019 Portraits, the anime faces of Table 11: 302,652 images.

    The paper gives no split; ours is drawn by file name: 3,000 test images, or a tenth where fewer are found.
    """

    name = "danbooru"
    default_folder = "danbooru_portraits"
    default_test_images = 3000
    public_images = 302_652
    source = "Danbooru2019 Portraits: https://gwern.net/crop#danbooru2019-portraits"
