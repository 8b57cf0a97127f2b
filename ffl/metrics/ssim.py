"""Structural similarity (Wang et al. 2004) as the authors' evaluation computes it."""

import functools
from typing import Any

import torch
from torch import Tensor

from ffl.metrics.base import Description, PairMetric, check_pairs, crop, map_pairs

WINDOW = 11
SIGMA = 1.5
# Positions that one product filters at a time: few, since the band matrix is mostly zeros; 54 and 246, the positions
# across images of 64 and 256 pixels, are multiples.
BLOCK = 6
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2


@functools.cache
def gaussian_window() -> tuple[float, ...]:
    """The WINDOW weights of a normalised Gaussian of standard deviation SIGMA."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    return tuple((weights / weights.sum()).tolist())


def _margin(size: int) -> int:
    """What a dimension lacks to a whole number of blocks of filtered positions."""
    return -(size - WINDOW + 1) % BLOCK


def _band(like: Tensor) -> Tensor:
    """(BLOCK, BLOCK + WINDOW - 1): from a run of pixels to a block of filtered positions."""
    weights = torch.tensor(gaussian_window(), dtype=like.dtype, device=like.device)
    band = weights.new_zeros(BLOCK, BLOCK + WINDOW - 1)
    for row in range(BLOCK):
        band[row, row : row + WINDOW] = weights
    return band


def _filter(rows: Tensor, band: Tensor) -> Tensor:
    """Gaussian filter of images as ``_rows_first`` orders them: (H, M, W) to (blocks of columns, rows, M, BLOCK).

    Each direction is one product of overlapping blocks with a band matrix, a few times faster on a CPU than a
    convolution, which is slow in float64, or a sum of shifted images.
    """
    _, num_images, width = rows.shape
    run = BLOCK + WINDOW - 1
    blocks = rows.flatten(1).unfold(0, run, BLOCK).transpose(1, 2)
    filtered = torch.bmm(band.expand(len(blocks), -1, -1), blocks).view(-1, width)
    blocks = filtered.unfold(1, run, BLOCK).transpose(0, 1)
    filtered = torch.bmm(blocks, band.T.expand(len(blocks), -1, -1))
    return filtered.view(len(blocks), -1, num_images, BLOCK)


def _rows_first(images: Tensor) -> Tensor:
    """(M, H, W) uint8 to float64 (H, M, W), both edges lengthened by zeros to whole blocks."""
    num_images, height, width = images.shape
    shape = (height + _margin(height), num_images, width + _margin(width))
    rows = torch.zeros(shape, dtype=torch.float64, device=images.device)
    rows[:height, :, :width] = images.transpose(0, 1)
    return rows


def _ssim(fake: Tensor, real: Tensor) -> Tensor:
    """(M,) of uint8 (M, H, W). Variances only occur as a sum, so four filtered maps do."""
    height, width = (size - WINDOW + 1 for size in fake.shape[-2:])
    x, y = _rows_first(fake), _rows_first(real)
    band = _band(x)
    mean_x, mean_y, product = _filter(x, band), _filter(y, band), _filter(x * y, band)
    energy = _filter(x.square_().addcmul_(y, y), band)
    mean_product = mean_x * mean_y
    mean_energy = mean_x.square_().addcmul_(mean_y, mean_y)
    # Half of each factor of the numerator, and the quarter that is lost made good below.
    numerator = product.sub_(mean_product).add_(C2 / 2).mul_(mean_product.add_(C1 / 2))
    denominator = energy.sub_(mean_energy).add_(C2).mul_(mean_energy.add_(C1))
    values = numerator.div_(denominator)[:, :height]
    total = values.sum((0, 1, 3))
    if margin := _margin(fake.shape[-1]):
        total -= values[-1, ..., -margin:].sum((0, 2))
    return total * (4 / (height * width))


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
    fake_planes, real_planes = (images.reshape(-1, height, width) for images in (fake, real))
    values = map_pairs(_ssim, fake_planes, real_planes, elements=1 << 16)
    return values.view(fake.shape[:2]).mean(1)


class SSIM(PairMetric):
    """Mean over images of ``ssim``."""

    name = "ssim"
    label = "SSIM"
    tasks = ("reconstruction",)
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
