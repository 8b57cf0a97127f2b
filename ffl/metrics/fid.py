"""Fréchet distances between what a network sees in real and in generated images; FID is the one of Inception.

The distance is ``frechet_distance`` between Gaussians fitted to the features of both sets (Heusel et al. 2017). It is
biased: the value falls with the number of images, and how fast depends on the generator, so that two generators can
change places (Chong and Forsyth 2020, "Effectively Unbiased FID and Inception Score and where to find them"). With
fewer images than dimensions the covariances are singular as well.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ffl.metrics.base import Description, first_half
from ffl.metrics.features import FeatureExtractor, FeatureMetric, InceptionFeatures, ReferenceFeatures
from ffl.metrics.frechet import FeatureStatistics, frechet_distance
from ffl.metrics.inception import Preprocess


class FrechetDistance(FeatureMetric):
    """Squared Fréchet distance between Gaussians fitted to features of real and of generated images.

    Only sums of features are kept. Compare values of one network at equal numbers of images only, and none but FID
    with published FIDs; ``ffl.metrics.features`` says what is known against networks trained on ImageNet's classes.

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
        >>> metric = FrechetDistance(output="64", extractor=brightness)  # or features="effnet_lite0"
        >>> black = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> metric.update(black, real=True)
        >>> metric.update(black + 1, real=False)
        >>> metric.compute().item()  # all variances are 0, all 64 means differ by 1
        64.0
    """

    name = "fd"
    label = "FD"
    higher_is_better = False
    inputs = "sets"
    min_images = 2
    real_count: Tensor
    real_total: Tensor
    real_outer: Tensor
    half_count: Tensor
    half_total: Tensor
    half_outer: Tensor
    fake_count: Tensor
    fake_total: Tensor
    fake_outer: Tensor

    def __init__(self, features: str | None = None, **kwargs: Any) -> None:
        super().__init__(features, **kwargs)
        # Sums and not features: 50,000 images would keep 400 MB of features on each side, and the sums take 34 MB.
        # "half" is the first half of the real images.
        for kind in ("real", "half", "fake"):
            total = torch.zeros(self.dims, dtype=torch.float64)
            self.add_state(f"{kind}_count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state(f"{kind}_total", total, dist_reduce_fx="sum")
            self.add_state(f"{kind}_outer", torch.outer(total, total), dist_reduce_fx="sum")

    def update(self, images: Tensor, real: bool) -> None:
        """Add uint8 (N, 3, H, W) images to the real or to the generated set."""
        features = self.look_at(images).to(self.device, torch.float64)
        parts = {"real": features, "half": features[first_half(images).to(self.device)]} if real else {"fake": features}
        for kind, part in parts.items():
            getattr(self, f"{kind}_count").add_(len(part))
            getattr(self, f"{kind}_total").add_(part.sum(0))
            getattr(self, f"{kind}_outer").addmm_(part.T, part)

    def set_reference(self, reference: ReferenceFeatures) -> None:
        """Take the real set from stored sums (see ``ReferenceCache``). Call on one rank only: ranks add up."""
        for kind, sums in (("real", reference.statistics), ("half", reference.half)):
            getattr(self, f"{kind}_count").fill_(sums.count)
            getattr(self, f"{kind}_total").copy_(sums.total)
            getattr(self, f"{kind}_outer").copy_(sums.outer)

    def compute(self) -> Tensor:
        """The distance, float64."""
        usual = "10,000 to 50,000"
        self.require(int(self.real_count), "real images", usual)
        self.require(int(self.fake_count), "generated images", usual)
        fewest = min(int(self.real_count), int(self.fake_count))
        self.warning = None
        if fewest <= self.dims:
            self.warning = (
                f"{fewest} images for {self.dims} dimensions: singular covariances, a value that is far too high; "
                f"compare at equal numbers only, use more than {self.dims} or a kernel distance"
            )
        value = _distance(self.statistics("real"), self.statistics("fake"))
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def between_halves(self) -> float | None:
        first = self.statistics("half")
        second = self.statistics("real") - first
        return None if min(first.count, second.count) < self.min_images else _distance(first, second)

    def statistics(self, kind: str) -> FeatureStatistics:
        """Sums over the "real" images, the first "half" of them or the generated ones ("fake")."""
        # On the CPU, whose LAPACK has the pivoted Cholesky decomposition that torch lacks.
        count, total, outer = (getattr(self, f"{kind}_{name}").cpu() for name in ("count", "total", "outer"))
        return FeatureStatistics(int(count), total, outer)

    def protocol(self) -> Description:
        return {**super().protocol(), "covariance_divisor": "n - 1"}


def _distance(real: FeatureStatistics, fake: FeatureStatistics) -> float:
    return frechet_distance(real.mean(), real.covariance(), fake.mean(), fake.covariance())


class FID(FrechetDistance):
    """Fréchet inception distance, as pytorch-fid computes it.

    The value falls with the number of images: compare at equal counts.

    Args:
        preprocess: "pytorch_fid" (the default, what the paper's FID uses) or "torch_fidelity".
        feature: layer, "2048" for FID proper; "64", "192", "768" suit small sets and are other metrics.
        state_dict: Inception weights instead of the published file.
        verify_weights: whether that file must be the published one.
        extractor: features from elsewhere; the other arguments but ``feature`` are then not used.
    Raises:
        MissingWeights: the published file is wanted and not there.
        UserError: the weights do not fit.

    Examples:
        >>> def brightness(images: Tensor) -> dict[str, Tensor]:  # stands for the network: 64 times the mean
        ...     return {"64": images.float().mean((1, 2, 3))[:, None].expand(-1, 64)}
        >>> metric = FID(feature="64", extractor=brightness)
        >>> black = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> metric.update(black, real=True)
        >>> metric.update(black + 1, real=False)
        >>> metric.compute().item()
        64.0
    """

    name = "fid"
    label = "FID"
    tasks = ("reconstruction", "synthesis", "translation", "semantic")

    def __init__(
        self,
        preprocess: Preprocess = "pytorch_fid",
        feature: str = "2048",
        state_dict: Mapping[str, Tensor] | None = None,
        verify_weights: bool = True,
        extractor: FeatureExtractor | None = None,
        **kwargs: Any,
    ) -> None:
        extractor = extractor or InceptionFeatures.load(preprocess, state_dict, verify_weights)
        super().__init__(output=feature, extractor=extractor, **kwargs)


class FDEffNetLite0(FrechetDistance):
    """``FrechetDistance`` on EfficientNet-Lite0, whose weights install with pip; not comparable with FID.

    Arguments and errors are those of ``FrechetDistance`` without ``features``.
    """

    name = "fd_effnet_lite0"
    label = "FD-EffNet"
    tasks = ("reconstruction", "synthesis", "translation", "semantic")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("effnet_lite0", **kwargs)
