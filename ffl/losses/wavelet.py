"""L1 distance of stationary wavelet subbands, the loss of WGSR (Korkmaz et al., CVPR 2024)."""

import functools
import math

import torch
from torch import Tensor

from ffl.errors import missing_extra
from ffl.losses.focal_frequency import Reduction
from ffl.losses.pair_loss import PairLoss

# ITU-R BT.601 luma of RGB in [0, 1], on the scale of 16 to 235; its offset cancels in differences.
_LUMA = (65.481, 128.553, 24.966)

# The low-pass decomposition filter of the default wavelet, so that it needs no package.
_SYM7 = (
    0.002681814568257878,
    -0.0010473848886829163,
    -0.01263630340325193,
    0.03051551316596357,
    0.0678926935013727,
    -0.049552834937127255,
    0.017441255086855827,
    0.5361019170917628,
    0.767764317003164,
    0.2886296317515146,
    -0.14004724044296152,
    -0.10780823770381774,
    0.004010244871533663,
    0.010268176708511255,
)


class WaveletLoss(PairLoss):
    r"""Weighted L1 distances of the stationary wavelet subbands of luma.

    With $W_b$ the subbands of ``stationary_bands`` and Y the luma of $16 + 65.481 R + 128.553 G +
    24.966 B$,

    $$
    L = \sum_{b \in \{LL, LH, HL, HH\}} \lambda_b \, \frac{1}{HW} \| W_b(Y_{fake}) - W_b(Y_{real}) \|_1,
    $$

    averaged over the leading axes. With more levels, LH, HL and HH of every level count, and LL of the first one
    alone.

    Images are (..., 3, H, W), RGB in [0, 1] as published; any other range scales the value.

    Args:
        wavelet: name of a discrete wavelet, such as "haar", "db4" or "sym7". Any but "sym7" needs PyWavelets.
        level: number of levels, each of which decomposes LL of the one before.
        weights: $\lambda$ of LL, LH, HL and HH.
        dilated: spread the filters by 2^(j - 1) at level j, which makes the transform a stationary wavelet transform
            beyond the first level. The published code uses the same filters at each level, which is the default.
        reduction: see ``ffl.losses.pair_loss.PairLoss``.
    Raises:
        ValueError: an impossible option.
        ffl.errors.MissingExtra: PyWavelets is needed and not installed.

    Examples:
        >>> import torch
        >>> from ffl.losses import WaveletLoss
        >>> fake, real = torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16)
        >>> WaveletLoss()(fake, real)  # LL of a constant is the constant: 0.1 times the luma of white, 219
        tensor(21.9000)
    """

    shape = "(..., 3, H, W), RGB,"
    channels = 3

    def __init__(
        self,
        wavelet: str = "sym7",
        level: int = 1,
        weights: tuple[float, float, float, float] = (0.1, 0.01, 0.01, 0.05),
        *,
        dilated: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction)
        if not isinstance(level, int) or level < 1:
            raise ValueError(f"level must be a whole number, 1 or more, got {level!r}")
        if len(weights) != 4 or not all(0 <= weight < math.inf for weight in weights):
            raise ValueError(f"weights must be four numbers, 0 or more, for LL, LH, HL and HH, got {weights!r}")
        self.wavelet = wavelet
        self.level = level
        self.weights = tuple(weights)
        self.dilated = dilated
        self.taps = len(wavelet_filters(wavelet)[0])

    def check_size(self, size: torch.Size) -> None:
        # Half a filter is wrapped around at each edge.
        smallest = self.taps // 2 * (2 ** (self.level - 1) if self.dilated else 1)
        if min(size) < smallest:
            raise ValueError(
                f"wavelet={self.wavelet!r}, level={self.level}, dilated={self.dilated}: H and W must be at least "
                f"{smallest}, got {size[0]}x{size[1]}; choose a shorter wavelet or fewer levels"
            )

    def per_sample(self, fake: Tensor, real: Tensor) -> Tensor:
        # Luma and subbands are linear, so those of the difference do.
        luma = (fake.new_tensor(_LUMA) @ (fake - real).flatten(-2)).view(len(fake), -1, *fake.shape[-2:])
        bands = stationary_bands(luma, self.wavelet, self.level, self.dilated)
        weights = luma.new_tensor(self.weights).repeat(self.level, 1)
        weights[1:, 0] = 0
        return (bands.abs().mean((-2, -1)) * weights).sum((-2, -1)).mean(1)

    def extra_repr(self) -> str:
        return (
            f"wavelet={self.wavelet!r}, level={self.level}, weights={self.weights}, dilated={self.dilated}, "
            f"reduction={self.reduction!r}"
        )


def stationary_bands(images: Tensor, wavelet: str = "sym7", level: int = 1, dilated: bool = False) -> Tensor:
    """Undecimated wavelet subbands: circular convolutions with the low-pass and the high-pass filter along both axes.

    LH is low-pass along the width and high-pass along the height, HL the reverse. The low-pass filter is divided by
    its sum, so that LL keeps the mean of the images; the high-pass filter has norm 1.

    Args:
        images: (..., H, W), float32 or float64.
        wavelet, level, dilated: see ``WaveletLoss``.
    Returns:
        (..., level, 4, H, W): LL, LH, HL, HH of each level.
    """
    # Products of spectra are circular convolutions, in a third of the time of conv2d for the 14 taps of sym7.
    size = images.shape[-2:]
    responses = _band_responses(wavelet, level, dilated, *size, images.dtype, images.device)
    return torch.fft.irfft2(torch.fft.rfft2(images)[..., None, None, :, :] * responses, s=size)


@functools.lru_cache(maxsize=4)
def _band_responses(
    wavelet: str, level: int, dilated: bool, height: int, width: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """(level, 4, H, W // 2 + 1) complex: what each subband multiplies the spectrum of an image with."""
    with torch.inference_mode(False):  # a cached inference tensor could not take part in training later
        low, high = wavelet_filters(wavelet)
        taps = torch.tensor([[tap / sum(low) for tap in low], high], dtype=torch.complex128)
        positions = torch.arange(len(low))[:, None] - len(low) // 2
        u = torch.fft.fftfreq(height, dtype=torch.float64)
        v = torch.fft.rfftfreq(width, dtype=torch.float64)
        levels = []
        passed = torch.ones(())
        for j in range(level):
            spread = 2**j if dilated else 1
            columns, rows = (taps @ torch.exp(-2j * math.pi * (spread * positions * f)) for f in (u, v))
            levels.append(passed * (rows[:, None, None, :] * columns[None, :, :, None]).flatten(0, 1))
            passed = levels[-1][0]
        return torch.stack(levels).to(device, torch.promote_types(dtype, torch.complex32))


@functools.cache
def wavelet_filters(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Low-pass and high-pass decomposition filters of a discrete wavelet, of the same even length.

    Raises:
        ValueError: there is no discrete wavelet of that name.
        ffl.errors.MissingExtra: PyWavelets is needed and not installed.
    """
    if name == "sym7":
        # An orthogonal wavelet: the high-pass filter is the low-pass one mirrored, with alternating signs.
        return _SYM7, tuple(tap * (-1) ** (k + 1) for k, tap in enumerate(reversed(_SYM7)))
    try:
        import pywt
    except ModuleNotFoundError:
        raise missing_extra("PyWavelets", "wavelets") from None
    if name not in pywt.wavelist(kind="discrete"):
        raise ValueError(f"wavelet must be one of {', '.join(pywt.wavelist(kind='discrete'))}, got {name!r}")
    found = pywt.Wavelet(name)
    return tuple(found.dec_lo), tuple(found.dec_hi)
