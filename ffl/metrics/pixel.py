"""MSE, PSNR and LFD of 8-bit images as the authors' evaluation computes them: three views of one squared error.

For a generated image x and a real image y of H x W pixels, C channels and grey levels 0 to 255,

    MSE(x, y) = mean over C, H, W of (x - y)²
    PSNR(x, y) = 10 log10(255² / MSE)
    LFD(x, y) = ln(mean over C, H, W of |F(x) - F(y)|² + 1)        with F the unnormalised 2D DFT

``mse_by_definition`` and ``lfd_by_definition`` are these formulas; ``mse`` and ``lfd`` give the same numbers faster.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ffl.metrics.base import Description, PairMetric, check_pairs, crop, map_pairs

PEAK = 255.0

# 256 squared differences of 8-bit values add up to at most 256 * 255² < 2^24, which float32 holds exactly.
EXACT_RUN = 256


def mse_by_definition(fake: Tensor, real: Tensor) -> Tensor:
    """Mean squared error of uint8 (N, C, H, W) pairs: (N,) float64, exact since sums of integers are."""
    return (fake.double() - real.double()).square().mean((1, 2, 3))


def lfd_by_definition(fake: Tensor, real: Tensor) -> Tensor:
    """Log frequency distance of uint8 (N, C, H, W) pairs, by a transform: (N,) float64."""
    difference = torch.fft.fft2(fake.double()) - torch.fft.fft2(real.double())
    return torch.log(difference.abs().square().mean((1, 2, 3)) + 1)


def mse(fake: Tensor, real: Tensor, crop_border: int = 0) -> Tensor:
    """Mean squared error of each pair over channels and pixels, exact as ``mse_by_definition`` is.

    Args:
        fake: uint8 (N, C, H, W), [0, 255].
        real: same shape.
        crop_border: pixels to leave out on each side.
    Returns:
        (N,) float64, in squared grey levels.
    Raises:
        TypeError, ValueError: if these are no such pairs, or ``crop_border`` leaves nothing of them.

    Examples:
        >>> black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
        >>> mse(black + 5, black).item()
        25.0
    """
    check_pairs("mse", fake, real)
    fake, real = crop(fake, crop_border), crop(real, crop_border)
    # Differences in bytes and squares in float32, a few images at a time, are about fifteen times faster than the
    # definition on a CPU (one thread, 64x64 and 256x256) and as exact, since the runs that float32 adds are short.
    return map_pairs(_mse, fake, real, elements=1 << 17)


def _mse(fake: Tensor, real: Tensor) -> Tensor:
    # |x - y| in 8 bits, where the plain difference would wrap around.
    difference = torch.maximum(fake, real).sub_(torch.minimum(fake, real))
    squared = difference.float().square_().flatten(1)
    size = squared.shape[1]
    if rest := -size % EXACT_RUN:
        squared = F.pad(squared, (0, rest))
    return squared.view(len(squared), -1, EXACT_RUN).sum(-1).double().sum(-1) / size


def psnr(fake: Tensor, real: Tensor, crop_border: int = 0) -> Tensor:
    """Peak signal-to-noise ratio of each pair, infinite for identical images.

    Args:
        fake: uint8 (N, C, H, W), [0, 255].
        real: same shape.
        crop_border: pixels to leave out on each side.
    Returns:
        (N,) float64, in dB.
    Raises:
        TypeError, ValueError: as ``mse``.

    Examples:
        >>> black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
        >>> psnr(black + 255, black).item(), psnr(black, black).item()
        (0.0, inf)
    """
    return 20 * torch.log10(PEAK / mse(fake, real, crop_border).sqrt())


def lfd(fake: Tensor, real: Tensor, crop_border: int = 0) -> Tensor:
    """Log frequency distance of each pair (Section 4.1 of the paper).

    By Parseval's theorem the mean of |F(x) - F(y)|² is H·W·MSE, so that no transform is needed and

        LFD = ln(H·W·255² · 10^(-PSNR/10) + 1) ≈ ln(H·W·255²) - PSNR·ln(10)/10

    for each image. LFD thus orders methods as PSNR does, image by image: it carries nothing about frequencies that PSNR
    does not. See ``spectrum_distance`` for a measure that does.

    Args:
        fake: uint8 (N, C, H, W), [0, 255].
        real: same shape.
        crop_border: pixels to leave out on each side (the authors' code raises when asked to).
    Returns:
        (N,) float64, natural logarithm.
    Raises:
        TypeError, ValueError: as ``mse``.

    Examples:
        >>> image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
        >>> lfd(image, image).item()
        0.0
    """
    # About a hundred times faster than the two transforms on a CPU (one thread, 64x64 and 256x256).
    error = mse(fake, real, crop_border)
    height, width = (size - 2 * crop_border for size in fake.shape[-2:])
    return torch.log(height * width * error + 1)


class ErrorMetric(PairMetric):
    """Base of MSE, PSNR and LFD.

    Args:
        crop_border: pixels to leave out on each side.
    """

    def __init__(self, crop_border: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.crop_border = crop_border

    def protocol(self) -> Description:
        return {"data_range": 255, "average": "over images", "crop_border": self.crop_border}


class MSE(ErrorMetric):
    """Mean over images of ``mse``.

    Examples:
        >>> black = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> metric = MSE()
        >>> metric.update(black + 5, black)
        >>> metric.update(black, black)
        >>> metric.compute().item()
        12.5
    """

    name = "mse"
    label = "MSE"
    higher_is_better = False

    def per_image(self, fake: Tensor, real: Tensor) -> Tensor:
        return mse(fake, real, self.crop_border)


class PSNR(ErrorMetric):
    """Mean over images of ``psnr``: infinite as soon as one pair is identical.

    Examples:
        >>> black = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> metric = PSNR()
        >>> metric.update(black + 255, black)
        >>> metric.compute().item()
        0.0
    """

    name = "psnr"
    label = "PSNR"
    tasks = ("reconstruction",)
    higher_is_better = True

    def per_image(self, fake: Tensor, real: Tensor) -> Tensor:
        return psnr(fake, real, self.crop_border)


class LFD(ErrorMetric):
    """Mean over images of ``lfd``.

    Examples:
        >>> image = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> metric = LFD()
        >>> metric.update(image, image)
        >>> metric.compute().item()
        0.0
    """

    name = "lfd"
    label = "LFD"
    tasks = ("reconstruction",)
    higher_is_better = False

    def per_image(self, fake: Tensor, real: Tensor) -> Tensor:
        return lfd(fake, real, self.crop_border)

    def protocol(self) -> Description:
        return {**super().protocol(), "transform": "unnormalised DFT", "logarithm": "natural, of 1 + mean"}
