"""MSE, PSNR and LFD of 8-bit images as the authors' evaluation computes them: three views of one squared error."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ffl.metrics.base import Description, PairMetric, check_pairs, crop, map_pairs

PEAK = 255.0

# 256 squared differences of 8-bit values add up to at most 256 * 255^2 < 2^24, which float32 holds exactly.
_EXACT_RUN = 256


def _mse(fake: Tensor, real: Tensor) -> Tensor:
    difference = torch.maximum(fake, real).sub_(torch.minimum(fake, real))  # in bytes, a quarter of the traffic
    squared = difference.float().square_().flatten(1)
    size = squared.shape[1]
    if rest := -size % _EXACT_RUN:
        squared = F.pad(squared, (0, rest))
    return squared.view(len(squared), -1, _EXACT_RUN).sum(-1).double().sum(-1) / size


def mse(fake: Tensor, real: Tensor, crop_border: int = 0) -> Tensor:
    """Mean squared error of each pair over channels and pixels.

    The sum is exact: squares are added in float32 in runs short enough to lose nothing, then in float64.

    Args:
        fake: uint8 (N, C, H, W), [0, 255].
        real: same shape.
        crop_border: pixels to leave out on each side.
    Returns:
        (N,) float64, in squared grey levels.
    """
    check_pairs("mse", fake, real)
    fake, real = crop(fake, crop_border), crop(real, crop_border)
    return map_pairs(_mse, fake, real, elements=1 << 17)


def psnr(fake: Tensor, real: Tensor, crop_border: int = 0) -> Tensor:
    """Peak signal-to-noise ratio of each pair: 10 log10(255^2 / MSE), infinite for identical images.

    Args:
        fake: uint8 (N, C, H, W), [0, 255].
        real: same shape.
        crop_border: pixels to leave out on each side.
    Returns:
        (N,) float64, in dB.
    """
    return 20 * torch.log10(PEAK / mse(fake, real, crop_border).sqrt())


def lfd(fake: Tensor, real: Tensor, crop_border: int = 0) -> Tensor:
    """Log frequency distance of each pair (Section 4.1 of the paper): ln(mean |F(fake) - F(real)|^2 + 1).

    F is the unnormalised 2D DFT of 0-255 images, the mean runs over frequencies and channels. By Parseval's theorem
    that mean is H·W·MSE, so no transform is needed, and for each image

        LFD = ln(H·W·255^2 · 10^(-PSNR/10) + 1) ≈ ln(H·W·255^2) - PSNR·ln(10)/10.

    LFD thus orders methods as PSNR does, image by image: it carries nothing about frequencies that PSNR does not. See
    ``spectrum_distance`` for a measure that does.

    Args:
        fake: uint8 (N, C, H, W), [0, 255].
        real: same shape.
        crop_border: pixels to leave out on each side (the authors' code raises when asked to).
    Returns:
        (N,) float64, natural logarithm.
    """
    error = mse(fake, real, crop_border)
    height, width = (size - 2 * crop_border for size in fake.shape[-2:])
    return torch.log(height * width * error + 1)


class _ErrorMetric(PairMetric):
    def __init__(self, crop_border: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.crop_border = crop_border

    def protocol(self) -> Description:
        return {"data_range": 255, "average": "over images", "crop_border": self.crop_border}


class MSE(_ErrorMetric):
    """Mean over images of ``mse``."""

    name = "mse"
    label = "MSE"
    higher_is_better = False

    def per_image(self, fake: Tensor, real: Tensor) -> Tensor:
        return mse(fake, real, self.crop_border)


class PSNR(_ErrorMetric):
    """Mean over images of ``psnr``: infinite as soon as one pair is identical."""

    name = "psnr"
    label = "PSNR"
    tasks = ("reconstruction",)
    higher_is_better = True

    def per_image(self, fake: Tensor, real: Tensor) -> Tensor:
        return psnr(fake, real, self.crop_border)


class LFD(_ErrorMetric):
    """Mean over images of ``lfd``."""

    name = "lfd"
    label = "LFD"
    tasks = ("reconstruction",)
    higher_is_better = False

    def per_image(self, fake: Tensor, real: Tensor) -> Tensor:
        return lfd(fake, real, self.crop_border)

    def protocol(self) -> Description:
        return {**super().protocol(), "transform": "unnormalised DFT", "logarithm": "natural, of 1 + mean"}
