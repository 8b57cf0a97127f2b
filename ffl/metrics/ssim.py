"""Structural similarity (Wang et al. 2004) as the authors' evaluation computes it."""

import functools
from typing import Any

import torch
from torch import Tensor

from ffl.metrics.base import Description, PairMetric, check_pairs, crop, map_pairs

WINDOW = 11
SIGMA = 1.5
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2


@functools.cache
def gaussian_window() -> tuple[float, ...]:
    """The WINDOW weights of a normalised Gaussian of standard deviation SIGMA."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    return tuple((weights / weights.sum()).tolist())


def _smooth(images: Tensor, dim: int) -> Tensor:
    """Gaussian filter along one dimension, valid region. Shifted sums: float64 convolution is slow on CPUs."""
    weights = gaussian_window()
    size = images.shape[dim] - WINDOW + 1
    shifted = [images.narrow(dim, offset, size) for offset in range(WINDOW)]
    out = (shifted[0] + shifted[-1]).mul_(weights[0])
    for offset in range(1, WINDOW - 1):
        out.add_(shifted[offset], alpha=weights[offset])
    return out


def _filter(images: Tensor) -> Tensor:
    return _smooth(_smooth(images, -2), -1)


def _ssim(fake: Tensor, real: Tensor) -> Tensor:
    """(M,) of uint8 (M, 1, H, W). Variances only occur as a sum, so four filtered maps do."""
    fake, real = fake.double(), real.double()
    mean_fake, mean_real = _filter(fake), _filter(real)
    energy = _filter((fake * fake).addcmul_(real, real))
    product = _filter(fake * real)
    mean_product = mean_fake * mean_real
    mean_energy = mean_fake.square_().addcmul_(mean_real, mean_real)
    covariance = product.sub_(mean_product)
    variances = energy.sub_(mean_energy)
    numerator = covariance.mul_(2).add_(C2).mul_(mean_product.mul_(2).add_(C1))
    denominator = variances.add_(C2).mul_(mean_energy.add_(C1))
    return numerator.div_(denominator).mean((1, 2, 3))


def ssim(fake: Tensor, real: Tensor, crop_border: int = 0) -> Tensor:
    """Structural similarity of each pair, computed per channel and averaged over channels and valid positions.

    Gaussian window of 11 pixels and standard deviation 1.5, K1 = 0.01, K2 = 0.03, data range 255, population variances,
    float64 arithmetic. torchmetrics' value differs in the fourth digit: it keeps the border.

    Args:
        fake: uint8 (N, C, H, W), [0, 255], H and W at least 11.
        real: same shape.
        crop_border: pixels to leave out on each side.
    Returns:
        (N,) float64, [-1, 1], 1 for identical images.
    """
    check_pairs("ssim", fake, real)
    fake, real = crop(fake, crop_border), crop(real, crop_border)
    height, width = fake.shape[-2:]
    if min(height, width) < WINDOW:
        raise ValueError(f"ssim takes images of at least {WINDOW}x{WINDOW} pixels, got {height}x{width}")
    fake_planes, real_planes = (images.reshape(-1, 1, height, width) for images in (fake, real))
    values = map_pairs(_ssim, fake_planes, real_planes, elements=1 << 16)
    return values.view(fake.shape[:2]).mean(1)


class SSIM(PairMetric):
    """Mean over images of ``ssim``."""

    name = "ssim"
    higher_is_better = True

    def __init__(self, crop_border: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.crop_border = crop_border

    def per_image(self, fake: Tensor, real: Tensor) -> Tensor:
        return ssim(fake, real, self.crop_border)

    def protocol(self) -> Description:
        return {
            "data_range": 255,
            "window": f"Gaussian {WINDOW}, sigma {SIGMA}, valid region",
            "channels": "each, then averaged",
            "average": "over images",
            "crop_border": self.crop_border,
        }
