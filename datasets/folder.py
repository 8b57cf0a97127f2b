"""Any folder of images, and data sets that are just that."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from datasets.base import SPLITS, Split
from datasets.files import SquareImages
from datasets.listing import Listing, check_disjoint, draw_splits, find_images, num_test_images, present, read_list
from ffl.errors import UserError
from ffl.ranges import Range, Whole


class Folder(SquareImages):
    """Images of any size under a folder, at any depth (png, jpg, jpeg, webp, bmp, tif).

    The splits come from, in this order:

    1. ``lists``: train.txt, val.txt, test.txt in the folder, each a list of relative paths; train may be left
       out and is then every image that the others do not list.
    2. ``folders``: sub-folders train, val, test.
    3. ``fraction``: a draw that depends on the file names alone (see ``listing.draw_order``): ``test_images``
       of them are test, but no more than ``test_fraction`` of all.
    """

    name = "folder"
    default_folder: ClassVar[str | None] = None
    source = "any folder of images: dataset.folder=DIR"

    @classmethod
    def list_files(
        cls,
        data_root: Path,
        *,
        folder: str | None = None,
        split_by: Literal["auto", "lists", "folders", "fraction"] = "auto",
        test_fraction: Annotated[float, Range(0, 1)] = 0.1,
        test_images: Whole | None = None,
    ) -> Listing:
        """See ``FileImages.list_files`` and the class.

        Args:
            data_root: folder of the data sets.
            folder: the images, absolute or relative to ``data_root``.
            split_by: where the splits come from; "auto" takes the first of the three that is there.
            test_fraction, test_images: for ``fraction``; ``test_images`` None sets no limit but the fraction.
        """
        folder = cls.default_folder if folder is None else folder
        if folder is None:
            raise UserError(f"dataset {cls.name}: no folder given; set dataset.folder=DIR")
        root = cls.existing(data_root / folder)
        lists = [split for split in SPLITS if (root / f"{split}.txt").is_file()]
        folders = [split for split in SPLITS if (root / split).is_dir()]
        if split_by == "lists" or (split_by == "auto" and lists):
            return Listing(root, _by_lists(cls.name, root, lists), "splits from train.txt, val.txt, test.txt")
        if split_by == "folders" or (split_by == "auto" and folders):
            if not folders:
                raise UserError(f"dataset {cls.name}: {root} has no sub-folder train, val or test; use split_by=auto")
            splits = {split: [f"{split}/{path}" for path in find_images(root / split)] for split in folders}
            return Listing(root, splits, "splits from sub-folders")
        images = find_images(root)
        count = num_test_images(len(images), len(images) if test_images is None else test_images, test_fraction)
        return Listing(root, draw_splits(images, count), f"{count} test images drawn by file name")


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
    # Who lists test images alone means the rest for training.
    if "train" not in splits:
        taken = {path for paths in splits.values() for path in paths}
        splits["train"] = [path for path in find_images(root) if path not in taken]
    return splits


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
    defaults: ClassVar = {"test_images": 3000}
    public_images = 302_652
    source = "Danbooru2019 Portraits: https://gwern.net/crop#danbooru2019-portraits"
