"""Spectra of images: what losses, metrics and figures share.

Spectra have the zero frequency at index (0, 0), but where a function says that its result is centred.
"""

import functools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor


def dct(images: Tensor, dims: int = 2) -> Tensor:
    """Orthonormal DCT-II over the last ``dims`` axes, one matrix product for each.

    Args:
        images: (..., H, W) for two axes, float32 or float64.
        dims: number of transformed axes.
    Returns:
        Same shape and dtype.
    """
    for axis in range(-dims, 0):
        basis = _dct_matrix(images.shape[axis], images.dtype, images.device)
        images = images @ basis.T if axis == -1 else (basis @ images.flatten(axis + 1)).view(images.shape)
    return images


def idct(spectra: Tensor, dims: int = 2) -> Tensor:
    """Inverse of ``dct``, which is also its adjoint.

    Args:
        spectra: (..., H, W) for two axes, float32 or float64.
        dims: number of transformed axes.
    Returns:
        Same shape and dtype.
    """
    for axis in range(-dims, 0):
        basis = _dct_matrix(spectra.shape[axis], spectra.dtype, spectra.device)
        spectra = spectra @ basis if axis == -1 else (basis.T @ spectra.flatten(axis + 1)).view(spectra.shape)
    return spectra


def dct2(images: Tensor) -> Tensor:
    """``dct`` over two axes."""
    return dct(images, 2)


def idct2(spectra: Tensor) -> Tensor:
    """``idct`` over two axes."""
    return idct(spectra, 2)


@functools.lru_cache(maxsize=16)
def _dct_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, size): row k is the k-th orthonormal DCT-II basis vector."""
    with torch.inference_mode(False):  # a cached inference tensor could not take part in training later
        position = torch.arange(size, dtype=torch.float64) + 0.5
        frequency = torch.arange(size, dtype=torch.float64)[:, None]
        basis = torch.cos(math.pi / size * frequency * position) * math.sqrt(2 / size)
        basis[0] /= math.sqrt(2)
        return basis.to(device, dtype)


def log_spectrum(images: Tensor) -> Tensor:
    """Mean log-magnitude spectrum, zero frequency centred at (H // 2, W // 2).

    Args:
        images: (N, C, H, W) float in [-1, 1].
    Returns:
        (H, W) float32 (float64 for float64 images), log(1 + |F|) of the unnormalised DFT averaged over N
        and C.
    """
    _check_images(images)
    spectrum = torch.fft.fft2(_at_least_float32(images))
    return torch.fft.fftshift(spectrum.abs().log1p().mean((0, 1)))


def radial_profile(values: Tensor) -> Tensor:
    """Azimuthal average of a centred spectrum, by the bins of Durall et al. (CVPR 2020).

    Radii are distances to ((H - 1) / 2, (W - 1) / 2), the middle of the array (half a pixel off the zero
    frequency of a shifted spectrum of even size), truncated to whole numbers. The first and the last bin
    are dropped.

    Args:
        values: (..., H, W) floating, at least 4 pixels on an edge.
    Returns:
        (..., R): means over radii 1 to R; R is 43, 88, 179 for square arrays of 64, 128, 256.
    """
    height, width = values.shape[-2:]
    if min(height, width) < 4:
        raise ValueError(f"radial_profile needs at least 4x4 values, got {height}x{width}")
    return _bin_means(values, *_bins_around_middle(height, width, values.device))[..., 1:-1]


def radial_power(images: Tensor) -> Tensor:
    """Mean power per radius: radial spectra that do not depend on the orientation of what is in the images.

    Args:
        images: (N, C, H, W) float, any range.
    Returns:
        (N, R) float32 (float64 for float64 images), R = min(H, W) // 2 + 1: mean of |F|^2 of the
        orthonormal DFT over channels and over the frequencies whose distance to zero, in steps of the
        frequency grid, rounds to 0, 1, ..., min(H, W) // 2. Higher ones, in the corners, are left out.
    """
    _check_images(images)
    power = torch.fft.fft2(_at_least_float32(images), norm="ortho").abs().square().mean(1)
    height, width = images.shape[-2:]
    means = _bin_means(power, *_bins_around_zero_frequency(height, width, images.device))
    return means[:, : min(height, width) // 2 + 1]


def mean_power(images: Tensor) -> Tensor:
    """Mean power spectrum, zero frequency centred at (H // 2, W // 2).

    Args:
        images: (N, C, H, W) float, any range.
    Returns:
        (H, W) float32 (float64 for float64 images), |F|^2 of the orthonormal DFT averaged over N and C.
    """
    _check_images(images)
    power = torch.fft.fft2(_at_least_float32(images), norm="ortho").abs().square()
    return torch.fft.fftshift(power.mean((0, 1)))


def minibatch_averages(images: Tensor, size: int) -> Tensor:
    """Average images of consecutive minibatches, whose spectra are the minibatch average spectra (Figure 9).

    The DFT is linear, so the average of the spectra of a minibatch, which the loss compares for StyleGAN2
    (``ave_spectrum``), is the spectrum of its average image.

    Args:
        images: (N, C, H, W) float, any range.
        size: images of a minibatch, 1 to N; what is left over at the end does not count.
    Returns:
        (N // size, C, H, W); float32 (float64 for float64 images).
    """
    _check_images(images)
    if not 1 <= size <= len(images):
        raise ValueError(f"size must be from 1 to the {len(images)} images, got {size}")
    whole = len(images) // size * size
    return _at_least_float32(images[:whole]).unflatten(0, (-1, size)).mean(1)


def plane_waves(images: Tensor, frequencies: Sequence[tuple[int, int]]) -> Tensor:
    """The sinusoidal components of images at some frequencies (Figure 12).

    At (u, v) that is (F(u, v) e^{i2π(uy/H + vx/W)} + its conjugate) / (H W), which comes to
    2 |F(u, v)| / (H W) cos(2π(uy/H + vx/W) + ∠F(u, v)); a frequency that is its own mirror image, such as
    zero, counts once. The components over one half of all frequencies sum to the image.

    Args:
        images: (..., H, W) float, any range.
        frequencies: K pairs (u, v), periods along the vertical and the horizontal axis; of any sign.
    Returns:
        (K, ..., H, W); float32 (float64 for float64 images).
    """
    # Each component keeps a frequency and its mirror image, which together make a real wave.
    spectrum = torch.fft.fft2(_at_least_float32(images))
    height, width = images.shape[-2:]
    waves = []
    for u, v in frequencies:
        component = torch.zeros_like(spectrum)
        for row, column in {(u % height, v % width), (-u % height, -v % width)}:
            component[..., row, column] = spectrum[..., row, column]
        waves.append(torch.fft.ifft2(component).real)
    return torch.stack(waves)


def band_filter(images: Tensor, low: float, high: float, stop: bool = False) -> Tensor:
    """Keep or remove a ring of spatial frequencies (Figure 2).

    Args:
        images: (..., H, W) float, any range.
        low, high: the ring low <= radius < high, in cycles per image.
        stop: remove the ring instead of keeping it.
    Returns:
        Same shape; float32 (float64 for float64 images).
    """
    if not low <= high:
        raise ValueError(f"low must not be above high, got low={low} and high={high}")
    height, width = images.shape[-2:]
    radii = _frequency_radii(height, width)[:, : width // 2 + 1]
    kept = ((radii >= low) & (radii < high)) != stop
    spectrum = torch.fft.rfft2(_at_least_float32(images)) * kept.to(images.device)
    return torch.fft.irfft2(spectrum, s=(height, width))


@functools.lru_cache(maxsize=16)
def radii(
    sizes: tuple[int, ...], grid: Literal["rfft", "fft", "dct"], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Distance of each coefficient to the zero frequency, as a fraction of the Nyquist frequency.

    A wave along one axis at the Nyquist frequency, half a cycle a pixel, has radius 1, and the corner of a spectrum
    of d axes sqrt(d). Radii count in cycles a pixel, so they mean the same for every size and aspect ratio.

    Args:
        sizes: of the images along the transformed axes, in pixels.
        grid: "fft" for all frequencies, "rfft" for those that ``torch.fft.rfftn`` keeps, "dct" for a DCT-II.
        dtype, device: of the result.
    Returns:
        The shape of the coefficients, with the zero frequency at index 0 of each axis.
    """
    with torch.inference_mode(False):
        squares = torch.zeros((), dtype=torch.float64)
        for axis, size in enumerate(sizes):
            if grid == "dct":
                frequencies = torch.arange(size, dtype=torch.float64) / size
            elif grid == "rfft" and axis == len(sizes) - 1:
                frequencies = torch.fft.rfftfreq(size, dtype=torch.float64) * 2
            else:
                frequencies = torch.fft.fftfreq(size, dtype=torch.float64) * 2
            squares = squares[..., None] + frequencies.square()
        return squares.sqrt().to(device, dtype)


def _check_images(images: Tensor) -> None:
    """Raise TypeError or ValueError unless ``images`` is a floating (N, C, H, W) batch that is not empty."""
    if not images.is_floating_point():
        raise TypeError(f"images must be a floating tensor, got {images.dtype}")
    if images.ndim != 4 or images.numel() == 0:
        raise ValueError(f"images must be (N, C, H, W) and not empty, got shape {tuple(images.shape)}")


def _at_least_float32(images: Tensor) -> Tensor:
    """Half precision as float32: the transforms do not take it on a CPU, and squares of spectra would overflow."""
    return images.to(torch.promote_types(images.dtype, torch.float32))


def _bin_means(values: Tensor, bins: Tensor, counts: Tensor) -> Tensor:
    """Mean of (..., H, W) over the pixels of each bin: (..., number of bins)."""
    sums = values.new_zeros((*values.shape[:-2], len(counts)))
    return sums.index_add(-1, bins, values.flatten(-2)) / counts.to(values.dtype)


# The maps below depend on the size alone and are kept. Tensors made under inference mode could not take
# part in training later, so that mode is left for a moment.


@functools.lru_cache(maxsize=32)
def _bins_around_middle(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Bin of each pixel (H * W) and number of pixels in each bin, for radii truncated around the middle."""
    with torch.inference_mode(False):
        y = torch.arange(height, dtype=torch.float64)[:, None] - (height - 1) / 2
        x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
        bins = torch.hypot(x, y).long().flatten()
        return bins.to(device), torch.bincount(bins).to(device)


@functools.lru_cache(maxsize=32)
def _bins_around_zero_frequency(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Bin of each frequency (H * W) and number of frequencies in each bin, for radii rounded to nearest."""
    with torch.inference_mode(False):
        bins = _frequency_radii(height, width).round().long().flatten()
        return bins.to(device), torch.bincount(bins).to(device)


def _frequency_radii(height: int, width: int) -> Tensor:
    """(H, W) float64: distance of each frequency to zero, in cycles per image, zero frequency at (0, 0)."""
    u = torch.fft.fftfreq(height, 1 / height, dtype=torch.float64)[:, None]
    v = torch.fft.fftfreq(width, 1 / width, dtype=torch.float64)
    return torch.hypot(u, v)
