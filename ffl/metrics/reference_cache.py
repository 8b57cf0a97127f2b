"""Features of the real images of an evaluation, computed once and kept under a hash of what they were computed from."""

import functools
import hashlib
import json
import operator
import zipfile
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from ffl.files import atomic_write
from ffl.metrics.base import check_images, first_half, rank_and_world_size
from ffl.metrics.features import FeatureExtractor, ReferenceFeatures
from ffl.metrics.frechet import FeatureStatistics

# Features of more images than this are not kept, only their sums: 10,000 rows of 2048 numbers take 82 MB.
KEPT_ROWS = 10_000


def hash_images(batches: Iterable[Tensor]) -> str:
    """SHA-256 of a set of uint8 (N, C, H, W) images: of their shapes and bytes, whatever their order and batches."""
    # Each image by itself, then sorted: loaders may deliver them in any order and in any batches.
    digests = []
    for images in batches:
        check_images("hash_images", images)
        shape = repr(tuple(images.shape[1:])).encode()
        for image in images.cpu().contiguous():
            digests.append(hashlib.sha256(shape + image.numpy().tobytes()).digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


class ReferenceCache:
    """A set of real images and a folder of what networks saw in it, one ``.npz`` per (images, network, output).

    Args:
        folder: created when the first features are stored.
        batches: uint8 (N, 3, H, W) batches; must allow further iterations, as a DataLoader or a list does.
        num_images: of all batches.
    """

    def __init__(self, folder: Path, batches: Iterable[Tensor], num_images: int) -> None:
        self.folder = folder
        self.batches = batches
        self.num_images = num_images
        self._loaded: dict[Path, ReferenceFeatures] = {}

    @property
    def keeps_rows(self) -> bool:
        """Whether the set is small enough for the features of each image to be kept."""
        return self.num_images <= KEPT_ROWS

    @cached_property
    def images_sha256(self) -> str:
        """``hash_images`` of the set, for which the bytes of all images are read once."""
        return hash_images(self.batches)

    def path(self, extractor: FeatureExtractor, output: str = "features") -> Path:
        """Path of the file, whether it is there or not."""
        # The bytes of the images are the key and not the name of their data set, whose options may have changed.
        key = json.dumps([self.images_sha256, extractor.protocol(), output], sort_keys=True)
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"

    def features(self, extractor: FeatureExtractor, output: str = "features") -> ReferenceFeatures | None:
        """What a network saw in the set, from the folder if it is there, else computed and stored.

        Where a run has several processes, all of them must ask, since they share the work.

        Args:
            extractor: the network and its preprocessing.
            output: of the network, see ``FeatureExtractor``.
        Returns:
            The features in process 0, None in the others: what processes hold adds up.
        """
        rank, world_size = rank_and_world_size()

        # Process 0 alone reads the bytes of all images for the key, and knows whether there is anything to do.
        path = self.path(extractor, output) if rank == 0 else None
        found = None if path is None else self._loaded.get(path) or self._load(path)
        known = [found is not None]
        if world_size > 1:
            dist.broadcast_object_list(known, src=0)

        # Each process looks at a stretch of the set; put together in their order they are as one process sees it.
        if not known[0]:
            part = self._compute(extractor, output, rank, world_size)
            parts: list[ReferenceFeatures | None] = [part] * world_size
            if world_size > 1:
                dist.gather_object(part, parts if rank == 0 else None, dst=0)
            if path is not None:
                seen = [part for part in parts if part is not None]
                if not seen:
                    raise ValueError("features need at least one batch of images")
                found = functools.reduce(operator.add, seen)
                self._store(path, found)
        if path is not None and found is not None:
            self._loaded[path] = found
        return found

    def _compute(
        self, extractor: FeatureExtractor, output: str, rank: int, world_size: int
    ) -> ReferenceFeatures | None:
        """What the network saw in the batches that begin in this process's stretch; None where it has none."""
        whole, half = None, None
        rows, firsts = [], []
        position = 0
        for images in self.batches:
            turn = min(position * world_size // self.num_images, world_size - 1)
            position += len(images)
            if turn != rank:
                continue
            features, first = extractor(images)[output].cpu(), first_half(images).cpu()
            part, half_part = FeatureStatistics.of(features), FeatureStatistics.of(features[first])
            whole, half = (part, half_part) if whole is None or half is None else (whole + part, half + half_part)
            if self.keeps_rows:
                rows.append(features)
                firsts.append(first)
        if whole is None or half is None:
            return None
        kept = (torch.cat(rows), torch.cat(firsts)) if self.keeps_rows else (None, None)
        return ReferenceFeatures(whole, half, *kept)

    def _load(self, path: Path) -> ReferenceFeatures | None:
        """Stored features, or None where there are none or the file is damaged or of another version."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
            whole, half = (
                FeatureStatistics(int(arrays[f"{part}_count"]), arrays[f"{part}_total"], arrays[f"{part}_outer"])
                for part in ("real", "half")
            )
            kept = (arrays["features"], arrays["first_half"]) if self.keeps_rows else (None, None)
            return ReferenceFeatures(whole, half, *kept)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def _store(self, path: Path, found: ReferenceFeatures) -> None:
        """Write features; another process sees either nothing or all of them."""
        arrays: dict[str, np.ndarray] = {}
        for part, sums in (("real", found.statistics), ("half", found.half)):
            arrays[f"{part}_count"] = np.array(sums.count)
            arrays[f"{part}_total"], arrays[f"{part}_outer"] = sums.total.numpy(), sums.outer.numpy()
        if found.features is not None and found.first is not None:
            arrays |= {"features": found.features.numpy(), "first_half": found.first.numpy()}
        with atomic_write(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
