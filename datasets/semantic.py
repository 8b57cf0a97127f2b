"""Photographs with label maps, for semantic image synthesis, prepared as SPADE does (Park et al., CVPR 2019)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from datasets.aligned import AlignedImages
from datasets.base import Split
from datasets.cache import Item, OnError
from datasets.files import split_paths
from datasets.label_maps import LabelIds, SemanticDecoder, swap_ids
from datasets.listing import Listing
from ffl.errors import UserError
from ffl.ranges import Count

log = logging.getLogger(__name__)

Instances = Literal["maps", "labels", "none"]
MissingInstances = Literal["fail", "labels"]


@dataclass(frozen=True)
class Companions:
    """The files that belong to a photograph: paths relative to the listing's root; ``instance`` where used."""

    name: str
    label: str
    instance: str | None = None


class SemanticImages(AlignedImages):
    """Label maps, and the photographs they describe unless ``labels_only``.

    Batches hold ``label`` int64 (N, H, W), ``image`` uint8 (N, 3, H, W) unless ``labels_only``, and ``instance``
    int64 (N, H, W) where instances are used.

    Attributes:
        label_ids: the ids that label maps hold; a model needs ``label_ids.count`` channels for them.
        mirrored: ids that trade places when an item is mirrored: left and right eye, for example.
    """

    label_ids: ClassVar[LabelIds]
    mirrored: ClassVar[Mapping[int, int]] = {}

    @classmethod
    def provides(cls, **options: Any) -> frozenset[str]:
        """See ``ImageDataset.provides``."""
        left_out = {"image"} if options.get("labels_only") else set()
        return frozenset({"label", "image", "instance"} - left_out)

    @classmethod
    def num_labels(cls, **options: Any) -> int:
        """See ``ImageDataset.num_labels``."""
        return cls.label_ids.count

    def __init__(
        self,
        split: Split,
        listing: Listing,
        *,
        cache_dir: Path,
        load_size: tuple[int, int],
        image_size: tuple[int, int],
        instances: Instances = "none",
        missing_instances: MissingInstances = "fail",
        labels_only: bool = False,
        horizontal_flip: bool = False,
        on_error: OnError = "fail",
        workers: Count | None = None,
    ) -> None:
        """Match photographs and maps, and open the cache.

        Args:
            split: "train", "val" or "test".
            listing: photographs of all splits, or label maps where ``labels_only``.
            cache_dir: folder for the decoded arrays.
            load_size: (h, w) that items are resized to, aspect not kept.
            image_size: (H, W) of the crop.
            instances: "maps" for the data set's instance maps, "labels" for label maps in their place (edges between
                labels instead of objects), "none" for no ``instance``.
            missing_instances: for items without an instance map: "fail", or "labels" as above, counted and logged.
            labels_only: use no photographs.
            horizontal_flip, on_error, workers: see ``AlignedImages``.
        Raises:
            UserError: a map is missing, colour-coded or holds unknown ids.
        """
        for option, value, allowed in (
            ("instances", instances, ("maps", "labels", "none")),
            ("missing_instances", missing_instances, ("fail", "labels")),
        ):
            if value not in allowed:
                raise UserError(f"dataset {self.name}: {option}={value!r} must be {' or '.join(allowed)}")
        paths = split_paths(self.name, listing, split)
        companions = [self.companions(path) for path in paths]
        _require_all(self.name, listing.root, split, [c.label for c in companions], "label map", self.source)
        maps = self._instance_maps(listing.root, split, companions, missing_instances) if instances == "maps" else []
        items = []
        for number, (path, companion) in enumerate(zip(paths, companions, strict=True)):
            instance = maps[number] if maps else None
            files = (None if labels_only else path, companion.label, instance)
            items.append(Item(tuple(file for file in files if file is not None)))
        super().__init__(
            split,
            listing,
            items,
            SemanticDecoder(*load_size, self.label_ids, image=not labels_only, instance=instances != "none"),
            names=[companion.name for companion in companions],
            cache_dir=cache_dir,
            image_size=image_size,
            horizontal_flip=horizontal_flip,
            on_error=on_error,
            workers=workers,
        )
        self.labels_only = labels_only

    def companions(self, path: str) -> Companions:
        """The maps of an item; ``path`` is as in the listing."""
        raise NotImplementedError

    def _instance_maps(
        self, root: Path, split: Split, companions: Sequence[Companions], missing: MissingInstances
    ) -> list[str | None]:
        """The instance map of each item; None for those that use their label map."""
        maps = [c.instance if c.instance is not None and (root / c.instance).is_file() else None for c in companions]
        absent = [c.instance for c, found in zip(companions, maps, strict=True) if found is None]
        if absent and missing == "fail":
            raise UserError(
                f"dataset {self.name}: {len(absent)} of {len(maps)} items of the {split} split have no instance map, "
                f"such as {absent[0]}; set missing_instances=labels to draw edges between labels for them, or "
                "instances=labels for all, or instances=none"
            )
        if absent:
            log.warning(
                "%s: %d of %d items of the %s split have no instance map; their edges are those between labels",
                self.name,
                len(absent),
                len(maps),
                split,
            )
        return maps

    def _tensors(self, arrays: dict[str, np.ndarray], flips: np.ndarray) -> dict[str, Tensor]:
        if self.mirrored and flips.any():
            arrays["label"][flips] = swap_ids(arrays["label"][flips], self.mirrored)
        return {
            name: torch.from_numpy(array if name == "image" else array.astype(np.int64))
            for name, array in arrays.items()
        }


def _require_all(name: str, root: Path, split: Split, files: Sequence[str], what: str, source: str) -> None:
    absent = [file for file in files if not (root / file).is_file()]
    if absent:
        raise UserError(
            f"dataset {name}: {len(absent)} of {len(files)} items of the {split} split have no {what}, "
            f"such as {root / absent[0]}; {source}"
        )


def public_splits(train: list[str], val: list[str]) -> dict[Split, list[str]]:
    """Splits of a data set that publishes train and val: val is the test split, as in published evaluations."""
    return {"train": train, "test": val}
