"""Kernel inception distance (Bińkowski et al. 2018)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ffl.metrics.base import Description, GatheringMetric, check_images
from ffl.metrics.inception import FEATURE_DIMS, Preprocess
from ffl.metrics.inception_features import InceptionFeatures

FEATURE = "2048"

# Rows of the kernel matrix held at a time.
_BLOCK = 2048


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    """Sum of (xᵢ·yⱼ / D + 1)³ over all i, j."""
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for rows in x.split(_BLOCK):
        for columns in y.split(_BLOCK):
            total += (rows @ columns.T).div_(x.shape[1]).add_(1).pow_(3).sum()
    return total


def kernel_distance(real: Tensor, fake: Tensor) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy under the kernel (x·y / D + 1)³.

    All pairs of both sets enter. The common tools average over random subsets of 1,000 instead, which estimates the
    same quantity, with more noise and a dependence on a seed.

    Args:
        real: (M, D) features, M at least 2.
        fake: (N, D) features, N at least 2.
    Returns:
        Scalar, float64; can be slightly negative.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 2:
        raise ValueError(
            f"features must be (M, D) and (N, D) with M, N >= 2, got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    real, fake = real.double(), fake.double()
    within = torch.zeros((), dtype=torch.float64, device=real.device)
    for features in (real, fake):
        count = len(features)
        diagonal = (features.square().sum(1) / features.shape[1] + 1).pow(3).sum()
        within += (_kernel_sum(features, features) - diagonal) / (count * (count - 1))
    return within - 2 * _kernel_sum(real, fake) / (len(real) * len(fake))


class KID(GatheringMetric):
    """Kernel distance between Inception features of real and of generated images; not multiplied by 1000.

    Keeps 2048 float32 numbers per image.

    Args:
        preprocess: "torch_fidelity" (the default) or "pytorch_fid", which shares its pass with FID.
        state_dict: Inception weights instead of the published file.
        verify_weights: whether that file must be the published one.
        extractor: features from elsewhere; the three arguments above are then not used.
    """

    name = "kid"
    label = "KID"
    tasks = ("synthesis",)
    higher_is_better = False
    inputs = "sets"
    min_images = 2

    def __init__(
        self,
        preprocess: Preprocess = "torch_fidelity",
        state_dict: Mapping[str, Tensor] | None = None,
        verify_weights: bool = True,
        extractor: InceptionFeatures | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.extractor = extractor or InceptionFeatures.load(preprocess, state_dict, verify_weights)
        self.add_rows("real", torch.empty(0, FEATURE_DIMS[FEATURE]))
        self.add_rows("fake", torch.empty(0, FEATURE_DIMS[FEATURE]))

    def update(self, images: Tensor, real: bool) -> None:
        """Add uint8 (N, 3, H, W) images to the real or to the generated set."""
        check_images(self.name, images, channels=3)
        self.append("real" if real else "fake", self.extractor(images)[FEATURE])

    def compute(self) -> Tensor:
        """The distance, float64."""
        real, fake = self.rows("real"), self.rows("fake")
        usual = "1,000 or more"
        self.require(len(real), "real images", usual)
        self.require(len(fake), "generated images", usual)
        return kernel_distance(real, fake)

    def protocol(self) -> Description:
        return {
            **self.extractor.protocol(),
            "feature": FEATURE,
            "kernel": "(x·y/2048 + 1)^3",
            "estimate": "unbiased, all pairs",
        }
