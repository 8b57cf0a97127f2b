"""Squared error of block DCT coefficients, weighted as JPEG quantises them (Ma et al., 2025, "DeCo")."""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ffl.losses.focal_frequency import Reduction
from ffl.losses.pair_loss import PairLoss
from ffl.spectrum import dct

Mode = Literal["inv", "inv_gamma"]

# RGB to Y, Cb, Cr of JFIF, without offsets, which cancel in differences.
_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))

# Quantisation tables of ITU-T T.81, Annex K, for luma and chroma; rows are vertical frequencies.
_LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


class JPEGFrequencyLoss(PairLoss):
    r"""Mean squared error of 8 x 8 DCT coefficients in YCbCr, where what JPEG keeps finest weighs most.

    With D the orthonormal DCT-II of each block and Q the quantisation table of the channel at the given quality,

    $$
    L = \frac{1}{n} \sum_{\mathrm{blocks}} \sum_{c, u, v} w_c(u, v) \, |D(fake)_c(u, v) - D(real)_c(u, v)|^2,
    \qquad w_c \propto Q_c^{-\gamma},
    $$

    with weights of mean 1 in each channel, averaged over all n coefficients. Images whose sides are no multiples of 8
    are continued by reflection at the right and at the bottom, and those coefficients count too.

    Images are (..., 3, H, W), RGB of any range, with sides of at least 5 pixels. DeCo applies the loss to velocities
    of flow matching.

    Args:
        quality: of JPEG, 1 to 100. At 100 all weights are 1, which is the mean squared error of YCbCr.
        mode: "inv_gamma"; or "inv", which is gamma = 1 whatever ``gamma`` says.
        gamma: exponent of the weights, at least 0.
        reduction: see ``ffl.losses.pair_loss.PairLoss``.
    Raises:
        ValueError: an impossible option.

    Examples:
        >>> import torch
        >>> from ffl.losses import JPEGFrequencyLoss
        >>> fake, real = torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16)
        >>> JPEGFrequencyLoss(quality=100)(fake, real)  # luma differs by 1, chroma by 0
        tensor(0.3333)
    """

    shape = "(..., 3, H, W), RGB,"
    channels = 3

    def __init__(
        self,
        quality: int = 85,
        mode: Mode = "inv_gamma",
        gamma: float = 1.0,
        *,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction)
        if not isinstance(quality, int) or not 1 <= quality <= 100:
            raise ValueError(f"quality must be a whole number from 1 to 100, got {quality!r}")
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(map(repr, get_args(Mode)))}, got {mode!r}")
        if not 0 <= gamma < math.inf:
            raise ValueError(f"gamma must be finite and at least 0, got {gamma!r}")
        self.quality = quality
        self.mode: Mode = mode
        self.gamma = gamma
        self.weights = jpeg_weights(quality, 1.0 if mode == "inv" else gamma)

    def check_size(self, size: torch.Size) -> None:
        # A reflection reaches no farther than the opposite edge.
        if min(size) < 5:
            raise ValueError(
                f"H and W must be at least 5, so that reflection completes blocks of 8, got {size[0]}x{size[1]}"
            )

    def per_sample(self, fake: Tensor, real: Tensor) -> Tensor:
        # Everything before the square is linear, so it is done once, on the difference.
        height, width = fake.shape[-2:]
        colour = fake.new_tensor(_YCBCR) @ (fake - real).flatten(-2)
        planes = colour.view(-1, 3, height, width)
        if height % 8 or width % 8:
            planes = F.pad(planes, (0, -width % 8, 0, -height % 8), mode="reflect")
        # Columns and rows of blocks lie along axes of their own, so that no block is copied.
        basis = dct(torch.eye(8, dtype=fake.dtype, device=fake.device), dims=1).T  # row k is the k-th basis vector
        columns = basis @ planes.unflatten(-2, (-1, 8))  # (n, 3, H / 8, 8, W)
        coefficients = columns.unflatten(-1, (-1, 8)) @ basis.T  # (n, 3, H / 8, 8, W / 8, 8)
        errors = coefficients.square() * self.weights.to(fake)[:, None, :, None, :]
        return errors.view(len(fake), -1).mean(1)

    def extra_repr(self) -> str:
        return f"quality={self.quality}, mode={self.mode!r}, gamma={self.gamma}, reduction={self.reduction!r}"


def jpeg_weights(quality: int, gamma: float = 1.0) -> Tensor:
    """Weights of DCT coefficients, proportional to Q^-gamma of JPEG's quantisation tables, of mean 1 in each channel.

    Args:
        quality: of JPEG, 1 to 100, from which libjpeg's rule makes the tables.
        gamma: exponent.
    Returns:
        (3, 8, 8) float64 for Y, Cb and Cr; rows are vertical frequencies.
    """
    percent = 5000 / quality if quality < 50 else 200 - 2 * quality
    base = torch.tensor((_LUMA_TABLE, _CHROMA_TABLE, _CHROMA_TABLE), dtype=torch.float64)
    tables = ((base * percent + 50) / 100).floor().clamp(1, 255)
    weights = tables**-gamma
    return weights / weights.mean((-2, -1), keepdim=True)
