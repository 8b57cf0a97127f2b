"""Kernel distances between what a network sees in real and in generated images (Bińkowski et al. 2018).

For D features x1 ... xM of real and y1 ... yN of generated images, with the kernel k(x, y) = (x·y / D + 1)³,

    KD = mean over i ≠ j of k(xi, xj) + mean over i ≠ j of k(yi, yj) - 2 mean over i, j of k(xi, yj)

KID is the one of Inception's features. The estimate is unbiased, so that unlike the Fréchet distance it can be used on
a few hundred images.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ffl.metrics.base import Description
from ffl.metrics.features import FeatureExtractor, InceptionFeatures, TwoSampleMetric
from ffl.metrics.inception import Preprocess

# Rows and columns of a kernel matrix held at a time: the whole one of 50,000 images takes 20 GB, and their features in
# float64 twice the memory that they are kept in.
ROWS, COLUMNS = 512, 4096


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

    Examples:
        >>> kernel_distance(torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]])).item()  # 1 + 2³ - 2
        7.0
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 2:
        raise ValueError(
            f"features must be (M, D) and (N, D) with M, N >= 2, got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    # In float64: the three means nearly cancel where the sets are alike.
    distance = -2 * _kernel_sum(real, fake) / (len(real) * len(fake))
    for features in (real, fake):
        count = len(features)
        # Pairs of an image with itself would bias the estimate: their kernel is large whatever the sets are.
        norms = torch.cat([rows.double().square().sum(1) for rows in features.split(ROWS)])
        diagonal = (norms / features.shape[1] + 1).pow(3).sum()
        distance += (_kernel_sum(features, features) - diagonal) / (count * (count - 1))
    return distance


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    """Sum of (xᵢ·yⱼ / D + 1)³ over all i, j, float64."""
    sums = [
        (rows.double() @ columns.double().T).div_(x.shape[1]).add_(1).pow_(3).sum()
        for rows in x.split(ROWS)
        for columns in y.split(COLUMNS)
    ]
    return torch.stack(sums).sum()


class KernelDistance(TwoSampleMetric):
    """Kernel distance between features of real and of generated images; not multiplied by 1000.

    Keeps the features of every image as float32. Values of different networks cannot be compared, and none but KID
    with published KIDs; ``ffl.metrics.features`` says what is known against networks trained on ImageNet's classes.

    Args:
        features: name of the network, see ``build_extractor``.
        output: name of its output, see ``FeatureExtractor``.
        verify_weights: whether pretrained weights must be the published file.
        extractor: features from elsewhere; ``features`` and ``verify_weights`` are then not used.
    Raises:
        MissingWeights: the network's weights are not there.
        UserError: there is no such network, or none was named.

    Examples:
        >>> def brightness(images: Tensor) -> dict[str, Tensor]:  # stands for a network: 64 times the mean
        ...     return {"64": images.float().mean((1, 2, 3))[:, None].expand(-1, 64)}
        >>> metric = KernelDistance(output="64", extractor=brightness)
        >>> black = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> metric.update(black, real=True)
        >>> metric.update(black + 1, real=False)
        >>> metric.compute().item()
        7.0
    """

    name = "kd"
    label = "KD"
    digits = 4
    higher_is_better = False
    min_images = 2
    usual = "1,000 or more"

    def compare(self, real: Tensor, fake: Tensor) -> Tensor:
        return kernel_distance(real, fake)

    def protocol(self) -> Description:
        return {**super().protocol(), "kernel": f"(x·y/{self.dims} + 1)^3", "estimate": "unbiased, all pairs"}


class KID(KernelDistance):
    """Kernel inception distance: between Inception features of real and of generated images; not multiplied by 1000.

    Args:
        preprocess: "torch_fidelity" (the default) or "pytorch_fid", which shares its pass with FID.
        state_dict: Inception weights instead of the published file.
        verify_weights: whether that file must be the published one.
        extractor: features from elsewhere; the three arguments above are then not used.
    Raises:
        MissingWeights: the published file is wanted and not there.
        UserError: the weights do not fit.

    Examples:
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

    def __init__(
        self,
        preprocess: Preprocess = "torch_fidelity",
        state_dict: Mapping[str, Tensor] | None = None,
        verify_weights: bool = True,
        extractor: FeatureExtractor | None = None,
        **kwargs: Any,
    ) -> None:
        extractor = extractor or InceptionFeatures.load(preprocess, state_dict, verify_weights)
        super().__init__(output="2048", extractor=extractor, **kwargs)


class KDEffNetLite0(KernelDistance):
    """``KernelDistance`` on EfficientNet-Lite0, whose weights install with pip; not comparable with KID.

    Arguments and errors are those of ``KernelDistance`` without ``features``.
    """

    name = "kd_effnet_lite0"
    label = "KD-EffNet"
    tasks = ("synthesis", "translation", "semantic")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("effnet_lite0", **kwargs)
