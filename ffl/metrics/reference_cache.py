"""Statistics of real images, computed once and kept under a hash of what they were computed from."""

import hashlib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ffl.files import atomic_write
from ffl.metrics.base import check_images
from ffl.metrics.frechet import FeatureStatistics
from ffl.metrics.inception_features import InceptionFeatures


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
    """A folder of feature statistics, one ``.npz`` per (image set, preprocessing, weights, feature).

    Args:
        folder: created when the first statistics are stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, images_sha256: str, extractor: InceptionFeatures, feature: str = "2048") -> Path:
        """Path of the statistics of an image set (see ``hash_images``), whether they are there or not."""
        weights = extractor.weights["weights_sha256"]
        key = "\n".join([images_sha256, extractor.preprocess, str(weights), feature])
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"

    def load(self, path: Path) -> FeatureStatistics | None:
        """Stored statistics, or None where there are none or the file is damaged."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                total, outer = torch.from_numpy(stored["total"]), torch.from_numpy(stored["outer"])
                return FeatureStatistics(int(stored["count"]), total, outer)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def store(self, path: Path, statistics: FeatureStatistics) -> None:
        """Write statistics; another process sees either nothing or all of them."""
        with atomic_write(path) as file:
            np.savez(
                file,
                count=np.int64(statistics.count),
                total=statistics.total.cpu().numpy(),
                outer=statistics.outer.cpu().numpy(),
            )

    def statistics(
        self, batches: Iterable[Tensor], extractor: InceptionFeatures, feature: str = "2048"
    ) -> FeatureStatistics:
        """Statistics of a set of images, from the folder if they are there, else computed and stored.

        Args:
            batches: uint8 (N, 3, H, W) batches; must allow a second iteration, as a DataLoader or a list does. The
                first only reads bytes.
            extractor: the network and its preprocessing.
            feature: name of the features, see ``InceptionFID.features``.
        """
        # The bytes of the images are the key and not the name of their data set, whose options may have changed.
        path = self.path(hash_images(batches), extractor, feature)
        statistics = self.load(path)
        if statistics is None:
            for images in batches:
                part = FeatureStatistics.of(extractor(images)[feature].cpu())
                statistics = part if statistics is None else statistics + part
            if statistics is None:
                raise ValueError("statistics need at least one batch of images")
            self.store(path, statistics)
        return statistics
