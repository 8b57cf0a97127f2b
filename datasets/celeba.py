"""CelebA, aligned and cropped (Liu et al., ICCV 2015)."""

from pathlib import Path
from typing import Literal

from datasets.base import Split
from datasets.files import SquareImages
from datasets.listing import Listing, check_disjoint, draw_splits, find_images, num_test_images, present, read_list
from ffl.errors import UserError

IMAGES = "img_align_celeba"
PARTITION = "list_eval_partition.txt"
# The authors publish the lists of their split (train.txt, test.txt) in a folder of this name.
AUTHORS_LISTS = "celeba_recon_lists"
PARTITION_SPLITS: dict[str, Split] = {"0": "train", "1": "val", "2": "test"}


class CelebA(SquareImages):
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

    @classmethod
    def list_files(cls, data_root: Path, *, split_by: Literal["paper", "official"] = "paper") -> Listing:
        """See ``FileImages.list_files`` and the class."""
        root = cls.existing(data_root / "celeba")
        cls.existing(root / IMAGES)
        if split_by == "official":
            partition = root / PARTITION
            if not partition.is_file():
                raise UserError(f"dataset celeba: {partition} is missing; it comes with CelebA (Eval folder)")
            listed: dict[Split, list[str]] = {"train": [], "val": [], "test": []}
            for line in read_list(partition):
                fields = line.split()
                if len(fields) != 2 or fields[1] not in PARTITION_SPLITS:
                    raise UserError(
                        f"dataset celeba: {partition} has the line {line!r}, expected a file name and 0, 1 or 2; "
                        "download it again"
                    )
                listed[PARTITION_SPLITS[fields[1]]].append(f"{IMAGES}/{fields[0]}")
            found = {split: present(root, paths) for split, paths in listed.items()}
            absent = sum(count for _, count in found.values())
            splits = {split: paths for split, (paths, _) in found.items()}
            return Listing(root, splits, f"the official partition, {absent} of its images not found")
        # The paper's split as the authors published it, else one of the same size.
        images = [f"{IMAGES}/{path}" for path in find_images(root / IMAGES, recursive=False)]
        for lists in (root, data_root / AUTHORS_LISTS):
            if (lists / "test.txt").is_file():
                splits, absent = _authors(root, lists, images)
                return Listing(root, splits, f"the authors' lists in {lists}, {absent} of their images not found")
        count = num_test_images(len(images), wanted=3000, fraction=0.1)
        rule = f"{count} test images drawn by file name, not the authors' (no {AUTHORS_LISTS}/test.txt)"
        return Listing(root, draw_splits(images, count), rule)


def _authors(root: Path, lists: Path, images: list[str]) -> tuple[dict[Split, list[str]], int]:
    """The splits of the authors' lists, and how many of their images are absent."""
    test, absent = present(root, read_list(lists / "test.txt"))
    if (lists / "train.txt").is_file():
        train, absent_train = present(root, read_list(lists / "train.txt"))
        absent += absent_train
    else:
        held_out = set(test)
        train = [path for path in images if path not in held_out]
    splits: dict[Split, list[str]] = {"train": train, "test": test}
    check_disjoint(splits, f"dataset celeba: {lists}")
    return splits, absent
