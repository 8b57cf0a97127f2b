"""CelebA, aligned and cropped (Liu et al., ICCV 2015)."""

from pathlib import Path
from typing import Literal

from datasets.base import Split
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

IMAGES = "img_align_celeba"
PARTITION = "list_eval_partition.txt"
# The authors publish the lists of their split (train.txt, test.txt) in a folder of this name.
AUTHORS_LISTS = "celeba_recon_lists"
PARTITION_SPLITS: dict[str, Split] = {"0": "train", "1": "val", "2": "test"}


class CelebA(FileImages):
    """``celeba/img_align_celeba/NNNNNN.jpg``: 202,599 images.

    ``split_by``:

    - ``paper``: 3,000 test images, the rest train. Which ones is told by the authors' test.txt, looked for in
      ``celeba/`` and ``celeba_recon_lists/``; without it, they are drawn by file name (``listing.draw_order``), so
      the numbers of images are the paper's but not the images. Where fewer than all images are found, no more than a
      tenth are drawn.
    - ``official``: train, val and test of CelebA's own ``celeba/list_eval_partition.txt``.
    """

    name = "celeba"
    source = "CelebA, aligned and cropped: img_align_celeba.zip from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    public_images = 202_599
    paper_test_images = 3000

    def __init__(
        self,
        split: Split,
        *,
        data_root: Path,
        cache_dir: Path,
        image_size: int = 64,
        split_by: Literal["paper", "official"] = "paper",
        val_images: int = 0,
        horizontal_flip: bool = False,
        on_error: OnError = "fail",
        workers: Count | None = None,
    ) -> None:
        """Args:
        split: "train", "val" or "test".
        data_root: folder that holds ``celeba/``.
        cache_dir: folder for the decoded images.
        split_by: "paper" or "official".
        val_images: images held out of train for val; without effect on the official partition, which has a val.
        image_size, horizontal_flip, on_error, workers: see ``FileImages``.
        """
        super().__init__(
            split,
            self.list_files(data_root, split_by=split_by, val_images=val_images),
            cache_dir=cache_dir,
            image_size=image_size,
            horizontal_flip=horizontal_flip,
            on_error=on_error,
            workers=workers,
        )

    @classmethod
    def list_files(
        cls, data_root: Path, *, split_by: Literal["paper", "official"] = "paper", val_images: int = 0
    ) -> Listing:
        """The files of all splits; arguments as for the class.

        Raises:
            UserError: the folder or a list is absent, or there are no images.
        """
        check_val_images(cls.name, val_images)
        root = cls.existing(data_root / "celeba")
        cls.existing(root / IMAGES)
        if split_by == "official":
            splits, rule = _official(root)
        elif split_by == "paper":
            lists = [folder for folder in (root, data_root / AUTHORS_LISTS) if (folder / "test.txt").is_file()]
            images = [f"{IMAGES}/{path}" for path in find_images(root / IMAGES, recursive=False)]
            if lists:
                splits, rule = _listed(root, lists[0], images)
            else:
                count = num_test_images(len(images), cls.paper_test_images, fraction=0.1)
                splits = draw_splits(images, count, val_images=0)
                rule = f"{count} test images drawn by file name, not the authors' (no {AUTHORS_LISTS}/test.txt)"
        else:
            raise UserError(f'dataset {cls.name}: split_by={split_by!r} must be "paper" or "official"')
        return cls.not_empty(Listing(root, hold_out_val(splits, val_images), rule, cls.public_images))


def _listed(root: Path, lists: Path, images: list[str]) -> tuple[dict[Split, list[str]], str]:
    test, absent = present(root, read_list(lists / "test.txt"))
    train_list = lists / "train.txt"
    if train_list.is_file():
        train, absent_train = present(root, read_list(train_list))
        absent += absent_train
    else:
        held_out = set(test)
        train = [path for path in images if path not in held_out]
    splits: dict[Split, list[str]] = {"train": train, "test": test}
    check_disjoint(splits, f"dataset celeba: {lists}")
    return splits, f"the authors' lists in {lists}, {absent} of their images not found"


def _official(root: Path) -> tuple[dict[Split, list[str]], str]:
    path = root / PARTITION
    if not path.is_file():
        raise UserError(f"dataset celeba: {path} is missing; it comes with CelebA (Eval folder)")
    splits: dict[Split, list[str]] = {"train": [], "val": [], "test": []}
    for line in read_list(path):
        fields = line.split()
        if len(fields) != 2 or fields[1] not in PARTITION_SPLITS:
            raise UserError(
                f"dataset celeba: {path} has the line {line!r}, expected a file name and 0, 1 or 2; download it again"
            )
        splits[PARTITION_SPLITS[fields[1]]].append(f"{IMAGES}/{fields[0]}")
    absent = 0
    for split, listed in splits.items():
        splits[split], missing = present(root, listed)
        absent += missing
    return splits, f"the official partition, {absent} of its images not found"
