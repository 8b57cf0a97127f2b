"""Precision and recall of generated images (Kynkäänniemi et al. 2019, "Improved precision and recall metric").

In the space of a network's features, a set of images covers the balls around each of them that reach to its k-th
nearest neighbour in the set. Precision is the share of generated images that the real ones cover: are they real?
Recall is the share of real images that the generated ones cover: is everything there? Both rise when the balls grow, as
they do with fewer images, and an outlier of a set covers much: compare at equal numbers of images.
"""

from typing import Any

import torch
from torch import Tensor

from ffl.metrics.base import Description
from ffl.metrics.features import TwoSampleMetric

# Rows of a matrix of distances held at a time: the whole one of 50,000 images takes 20 GB. Columns are computed so many
# at a time, since features in float64 take twice the memory that they are kept in.
ROWS, COLUMNS = 512, 4096


def covered_share(points: Tensor, cover: Tensor, k: int = 3) -> Tensor:
    """Share of points that lie within the k-th nearest neighbour's distance of some point of ``cover``.

    Args:
        points: (M, D) features.
        cover: (N, D) features, N at least k + 1.
        k: which neighbour's distance is the radius, the point itself not counted.
    Returns:
        Scalar in [0, 1], float64.
    Raises:
        ValueError: if there is no k-th neighbour, or the features differ in length.

    Examples:
        >>> cover = torch.tensor([[0.0], [1.0], [10.0]])  # with k = 1 the radii are 1, 1 and 9
        >>> covered_share(torch.tensor([[-1.0], [-1.5], [1.5], [19.0], [20.0]]), cover, k=1).item()
        0.6
    """
    if points.ndim != 2 or cover.ndim != 2 or points.shape[1] != cover.shape[1] or not 1 <= k < len(cover):
        raise ValueError(
            f"features must be (M, D) and (N, D) with N > k = {k}, got {tuple(points.shape)} and {tuple(cover.shape)}"
        )
    # Products of matrices are fast and lose digits to cancellation: float64 around the mean keeps enough of them. What
    # they still lose must not part images that are equal, whose radius is 0.
    center = cover.mean(0, dtype=torch.float64)
    norms = torch.cat([(rows.double() - center).square().sum(1) for rows in cover.split(ROWS)])

    def squared_distances(rows: Tensor) -> Tensor:
        rows = rows.double() - center
        products = [rows @ (columns.double() - center).T for columns in cover.split(COLUMNS)]
        return torch.cat(products, 1).mul_(-2).add_(norms + rows.square().sum(1, keepdim=True))

    # Each point is its own nearest neighbour.
    radii = torch.cat([squared_distances(rows).kthvalue(k + 1, dim=1).values for rows in cover.split(ROWS)])
    radii += 1e-12 * norms.max()
    covered = [(squared_distances(rows) <= radii).any(1) for rows in points.split(ROWS)]
    return torch.cat(covered).double().mean()


class GenerativePrecision(TwoSampleMetric):
    """Share of generated images that real ones cover: how many of them look real.

    Keeps the features of every image as float32. Values of different networks cannot be compared;
    ``ffl.metrics.features`` says what is known against networks trained on ImageNet's classes.

    Args:
        features: name of the network, see ``build_extractor``.
        k: the radius around an image is the distance of its k-th nearest neighbour.
        output: name of the network's output, see ``FeatureExtractor``.
        verify_weights: whether pretrained weights must be the published file.
        extractor: features from elsewhere; ``features`` and ``verify_weights`` are then not used.
    Raises:
        MissingWeights: the network's weights are not there.
        UserError: there is no such network.

    Examples:
        >>> def brightness(images: Tensor) -> dict[str, Tensor]:  # stands for a network
        ...     return {"64": images.float().mean((1, 2, 3))[:, None].expand(-1, 64)}
        >>> grey = lambda *levels: torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
        >>> metric = GenerativePrecision(k=1, output="64", extractor=brightness)
        >>> metric.update(grey(10, 12, 14), real=True)
        >>> metric.update(grey(8, 16, 20, 22), real=False)
        >>> metric.compute().item()
        0.5
    """

    name = "precision"
    label = "precision"
    digits = 3
    tasks = ("synthesis",)
    higher_is_better = True
    min_images = 4
    usual = "10,000 or more"

    def __init__(self, features: str = "effnet_lite0", k: int = 3, **kwargs: Any) -> None:
        super().__init__(features, **kwargs)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self.k = k
        self.min_images = k + 1

    def compare(self, real: Tensor, fake: Tensor) -> Tensor:
        return covered_share(fake, real, self.k)

    def protocol(self) -> Description:
        return {**super().protocol(), "neighbours": self.k}


class GenerativeRecall(GenerativePrecision):
    """Share of real images that generated ones cover: how much of the real set is there.

    Arguments and errors are those of ``GenerativePrecision``.

    Examples:
        >>> def brightness(images: Tensor) -> dict[str, Tensor]:  # stands for a network
        ...     return {"64": images.float().mean((1, 2, 3))[:, None].expand(-1, 64)}
        >>> grey = lambda *levels: torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
        >>> metric = GenerativeRecall(k=1, output="64", extractor=brightness)
        >>> metric.update(grey(10, 12, 14, 30), real=True)
        >>> metric.update(grey(10, 12), real=False)
        >>> metric.compute().item()
        0.75
    """

    name = "recall"
    label = "recall"

    def compare(self, real: Tensor, fake: Tensor) -> Tensor:
        return covered_share(real, fake, self.k)
