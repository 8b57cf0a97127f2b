"""Data sets by name."""

from pathlib import Path
from typing import Any

from datasets.base import SPLITS, ImageDataset, NoSplit, Split
from datasets.celeba import CelebA
from datasets.celeba_hq import CelebAHQ
from datasets.dtd import DTD
from datasets.files import FileImages
from datasets.folder import Celeba64, DanbooruPortraits, Folder
from datasets.listing import Listing
from datasets.paired import Edges2Shoes, Facades
from datasets.photos import Photos
from datasets.semantic import ADE20K, CelebAMaskHQ, Cityscapes
from ffl.errors import UserError
from ffl.training.config import check_section

__all__ = ["DATASETS", "SPLITS", "ImageDataset", "NoSplit", "Split", "build_dataset", "list_images"]

DATASETS: dict[str, type[ImageDataset]] = {
    dataset.name: dataset
    for dataset in (
        Photos,
        Folder,
        Celeba64,
        CelebA,
        CelebAHQ,
        DTD,
        DanbooruPortraits,
        Facades,
        Edges2Shoes,
        Cityscapes,
        ADE20K,
        CelebAMaskHQ,
    )
}


def build_dataset(name: str, split: str, *, data_root: Path, cache_dir: Path, **options: Any) -> ImageDataset:
    """Make a split of a data set.

    Args:
        name: a key of ``DATASETS``.
        split: "train", "val" or "test".
        data_root: folder that holds one folder per data set.
        cache_dir: folder for decoded images.
        options: further arguments of the data set's class.
    Raises:
        UserError: no such data set, split or option, or whatever the data set finds wrong.
    """
    if split not in SPLITS:
        raise UserError(f"dataset {name}: no split {split!r}; use one of {', '.join(SPLITS)}")
    kind: Any = _checked(name, options)
    dataset: ImageDataset = kind(split, data_root=Path(data_root), cache_dir=Path(cache_dir), **options)
    return dataset


def list_images(name: str, data_root: Path, **options: Any) -> Listing | None:
    """The files of all splits of a data set, without decoding any; None for one that is not made of files.

    Args:
        name, data_root, options: as for ``build_dataset``.
    Raises:
        UserError: the data set is not there; the message says where it comes from.
    """
    kind = _checked(name, options)
    return kind.find_files(Path(data_root), **options) if issubclass(kind, FileImages) else None


def _checked(name: str, options: dict[str, Any]) -> type[ImageDataset]:
    if name not in DATASETS:
        raise UserError(f"no dataset {name!r}; there are {', '.join(sorted(DATASETS))}")
    check_section("dataset", options, DATASETS[name], provided={"split", "data_root", "cache_dir"})
    return DATASETS[name]
