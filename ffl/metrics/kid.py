"""Kernel inception distance (Bińkowski et al. 2018).

For features x1 ... xM of real and y1 ... yN of generated images, with the kernel k(x, y) = (x·y / D + 1)³,

    KID = mean over i ≠ j of k(xi, xj) + mean over i ≠ j of k(yi, yj) - 2 mean over i, j of k(xi, yj)
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ffl.metrics.base import Description, GatheringMetric, check_images
from ffl.metrics.inception import FEATURE_DIMS, Preprocess
from ffl.metrics.inception_features import InceptionFeatures

FEATURE = "2048"

# Rows of a kernel matrix held at a time: the whole one of 50,000 images takes 20 GB.
ROWS = 512


def kernel_distance(real: Tensor, fake: Tensor) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy under the kernel (x·y / D + 1)³.

    All pairs of both sets enter. The common tools average over random subsets of 1,000 instead, which estimates the
    same quantity, with more noise and a dependence on a seed.

    Args:
        real: (M, D) features, M at least 2.
        fake: (N, D) features, N at least 2.
    Returns:
        Scalar, float64; can be slightly negative.
    Raises:
        ValueError: if a set has fewer than two features, or their lengths differ.

    Example:
        >>> kernel_distance(torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]])).item()  # 1 + 2³ - 2
        7.0
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 2:
        raise ValueError(
            f"features must be (M, D) and (N, D) with M, N >= 2, got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    # The three means nearly cancel where the sets are alike, which float32 could not show.
    real, fake = real.double(), fake.double()
    distance = -2 * _kernel_sum(real, fake) / (len(real) * len(fake))
    for features in (real, fake):
        count = len(features)
        # Pairs of an image with itself would bias the estimate: their kernel is large whatever the sets are.
        diagonal = (features.square().sum(1) / features.shape[1] + 1).pow(3).sum()
        distance += (_kernel_sum(features, features) - diagonal) / (count * (count - 1))
    return distance


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    """Sum of (xᵢ·yⱼ / D + 1)³ over all i, j."""
    return torch.stack([(rows @ y.T).div_(x.shape[1]).add_(1).pow_(3).sum() for rows in x.split(ROWS)]).sum()


class KID(GatheringMetric):
    """Kernel distance between Inception features of real and of generated images; not multiplied by 1000.

    Keeps 2048 float32 numbers per image.

    Args:
        preprocess: "torch_fidelity" (the default) or "pytorch_fid", which shares its pass with FID.
        state_dict: Inception weights instead of the published file.
        verify_weights: whether that file must be the published one.
        extractor: features from elsewhere; the three arguments above are then not used.
    Raises:
        MissingWeights: the published file is wanted and not there.
        UserError: the weights do not fit.

    Example:
        >>> def brightness(images: Tensor) -> dict[str, Tensor]:  # stands for the network: 2048 times the mean
        ...     return {"2048": images.float().mean((1, 2, 3))[:, None].expand(-1, 2048)}
        >>> metric = KID(extractor=brightness)
        >>> black = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> metric.update(black, real=True)
        >>> metric.update(black + 1, real=False)
        >>> metric.compute().item()
        7.0
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
