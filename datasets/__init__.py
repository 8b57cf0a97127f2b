"""Data sets by name."""

import inspect
from pathlib import Path
from typing import Any

from datasets.base import SPLITS, ImageDataset, NoSplit, Split
from datasets.celeba import CelebA
from datasets.celeba_hq import CelebAHQ
from datasets.dtd import DTD
from datasets.folder import Celeba64, DanbooruPortraits, Folder
from datasets.paired import Edges2Shoes, Facades
from datasets.photos import Photos
from datasets.semantic_sets import ADE20K, CelebAMaskHQ, Cityscapes
from ffl.errors import UserError

__all__ = ["DATASETS", "SPLITS", "ImageDataset", "NoSplit", "Split", "build_dataset"]

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
    if name not in DATASETS:
        raise UserError(f"no dataset {name!r}; there are {', '.join(sorted(DATASETS))}")
    if split not in SPLITS:
        raise UserError(f"dataset {name}: no split {split!r}; use one of {', '.join(SPLITS)}")
    known = set(inspect.signature(DATASETS[name]).parameters) - {"split", "data_root", "cache_dir"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise UserError(f"dataset {name}: no option {unknown[0]!r}; there are {', '.join(sorted(known))}")
    factory: Any = DATASETS[name]
    dataset: ImageDataset = factory(split, data_root=Path(data_root), cache_dir=Path(cache_dir), **options)
    return dataset
