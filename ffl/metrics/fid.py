"""Fréchet inception distance (Heusel et al. 2017), as pytorch-fid computes it.

FID is ``frechet_distance`` between Gaussians fitted to Inception's 2048 pooled features of real and generated images.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ffl.metrics.base import Description, ImageMetric, check_images
from ffl.metrics.frechet import FeatureStatistics, frechet_distance
from ffl.metrics.inception import FEATURE_DIMS, Preprocess
from ffl.metrics.inception_features import InceptionFeatures


class FID(ImageMetric):
    """Squared Fréchet distance between Gaussians fitted to Inception features of real and of generated images.

    Only sums of features are kept. The value falls with the number of images: compare at equal counts.

    Args:
        preprocess: "pytorch_fid" (the default, what the paper's FID uses) or "torch_fidelity".
        feature: layer, "2048" for FID proper; "64", "192", "768" suit small sets and are other metrics.
        state_dict: Inception weights instead of the published file.
        verify_weights: whether that file must be the published one.
        extractor: features from elsewhere; the other arguments but ``feature`` are then not used.
    Raises:
        MissingWeights: the published file is wanted and not there.
        UserError: the weights do not fit.

    Example:
        >>> def brightness(images: Tensor) -> dict[str, Tensor]:  # stands for the network: 64 times the mean
        ...     return {"64": images.float().mean((1, 2, 3))[:, None].expand(-1, 64)}
        >>> metric = FID(feature="64", extractor=brightness)
        >>> black = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> metric.update(black, real=True)
        >>> metric.update(black + 1, real=False)
        >>> metric.compute().item()  # all variances are 0, all 64 means differ by 1
        64.0
    """

    name = "fid"
    label = "FID"
    tasks = ("reconstruction", "synthesis", "translation", "semantic")
    higher_is_better = False
    inputs = "sets"
    min_images = 2
    real_count: Tensor
    real_total: Tensor
    real_outer: Tensor
    fake_count: Tensor
    fake_total: Tensor
    fake_outer: Tensor

    def __init__(
        self,
        preprocess: Preprocess = "pytorch_fid",
        feature: str = "2048",
        state_dict: Mapping[str, Tensor] | None = None,
        verify_weights: bool = True,
        extractor: InceptionFeatures | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if feature not in FEATURE_DIMS:
            raise ValueError(f"feature must be one of {', '.join(FEATURE_DIMS)}, got {feature!r}")
        self.feature = feature
        self.extractor = extractor or InceptionFeatures.load(preprocess, state_dict, verify_weights)
        # Sums and not features: 50,000 images would keep 400 MB of features on each side, and the sums take 34 MB.
        dims = FEATURE_DIMS[feature]
        for kind in ("real", "fake"):
            self.add_state(f"{kind}_count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state(f"{kind}_total", torch.zeros(dims, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{kind}_outer", torch.zeros(dims, dims, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, images: Tensor, real: bool) -> None:
        """Add uint8 (N, 3, H, W) images to the real or to the generated set."""
        check_images(self.name, images, channels=3)
        features = self.extractor(images)[self.feature].to(self.device, torch.float64)
        kind = "real" if real else "fake"
        getattr(self, f"{kind}_count").add_(len(features))
        getattr(self, f"{kind}_total").add_(features.sum(0))
        getattr(self, f"{kind}_outer").addmm_(features.T, features)

    def set_reference(self, statistics: FeatureStatistics) -> None:
        """Take the real set from stored statistics (see ``ReferenceCache``). Call on one rank only: ranks add up."""
        self.real_count.fill_(statistics.count)
        self.real_total.copy_(statistics.total)
        self.real_outer.copy_(statistics.outer)

    def compute(self) -> Tensor:
        """The distance, float64."""
        usual = "10,000 to 50,000"
        self.require(int(self.real_count), "real images", usual)
        self.require(int(self.fake_count), "generated images", usual)
        # On the CPU, whose LAPACK has the pivoted Cholesky decomposition that torch lacks.
        real = FeatureStatistics(int(self.real_count), self.real_total.cpu(), self.real_outer.cpu())
        fake = FeatureStatistics(int(self.fake_count), self.fake_total.cpu(), self.fake_outer.cpu())
        value = frechet_distance(real.mean(), real.covariance(), fake.mean(), fake.covariance())
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def protocol(self) -> Description:
        return {**self.extractor.protocol(), "feature": self.feature, "covariance_divisor": "n - 1"}
