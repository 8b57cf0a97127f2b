"""The losses of other papers, forward and backward, beside the way in which their authors compute them.

The published repositories are no packages, so their ways are written down here: every one of them transforms both
images and leaves the gradient to autograd.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ffl.losses import FFTL1Loss, FourierSpaceLoss, HaarLoss, JPEGFrequencyLoss, PairLoss, WaveletLoss
from ffl.losses.fft_l1 import fft_l1_formula
from ffl.losses.jpeg_frequency import jpeg_weights
from ffl.losses.wavelet import wavelet_filters
from scripts.benchmarks.rows import at_least
from scripts.benchmarks.timing import Action, Conditions, alternate, differentiate

SHAPES = ((128, 3, 64, 64), (8, 3, 256, 256), (2, 3, 1024, 1024))
CLIPS = ((16, 3, 8, 64, 64), (1, 3, 16, 256, 256))
SMALL_SHAPES, SMALL_CLIPS = ((2, 3, 16, 16),), ((1, 3, 4, 8, 8),)
ROUNDS = 9


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """One row per loss and shape."""
    shapes, clips = (SMALL_SHAPES, SMALL_CLIPS) if conditions.small else (SHAPES, CLIPS)
    compared: list[tuple[str, PairLoss, Callable[[Tensor, Tensor], Tensor], tuple[tuple[int, ...], ...]]] = [
        ("fft_l1", FFTL1Loss(), fft_l1_formula, shapes),
        ("wavelet", WaveletLoss(), published_wavelet, shapes),
        ("jpeg_frequency", JPEGFrequencyLoss(), published_jpeg_frequency, shapes),
        ("fourier_space", FourierSpaceLoss("centred"), published_fourier_space, shapes),
        ("haar", HaarLoss(), published_haar, shapes),
        ("haar_3d", HaarLoss(1, dims=3), published_haar_3d, clips),
    ]
    for name, ours, published, sizes in compared:
        for shape in sizes:
            generator = torch.Generator().manual_seed(0)
            fake, real = (torch.rand(shape, generator=generator).to(conditions.device) for _ in range(2))
            fake.requires_grad_()
            torch.testing.assert_close(ours(fake, real), published(fake, real), rtol=1e-4, atol=0)
            actions: dict[str, Action] = {
                "ours": partial(differentiate, ours, fake, real),
                "published": partial(differentiate, published, fake, real),
            }
            times = alternate(actions, conditions.rounds or ROUNDS, conditions.device)
            speedup = times.ratio("published", "ours")
            yield {
                "loss": name,
                "shape": list(shape),
                **times.medians(),
                "speedup": speedup,
                "targets": [at_least("speed-up", speedup, 1.0)],
            }


def published_wavelet(fake: Tensor, real: Tensor) -> Tensor:
    """WGSR: convolutions of the luma of both images with each filter, along rows and then along columns."""
    low, high = (fake.new_tensor(taps).flip(0) for taps in wavelet_filters("sym7"))
    filters = torch.stack([low / low.sum(), high])
    bands = []
    for images in (fake, real):
        luma = 16 + 65.481 * images[:, :1] + 128.553 * images[:, 1:2] + 24.966 * images[:, 2:]
        rows = F.conv2d(F.pad(luma, (6, 7, 0, 0), mode="circular"), filters[:, None, None, :])
        padded = F.pad(rows, (0, 0, 6, 7), mode="circular")
        bands.append(F.conv2d(padded, filters.repeat(2, 1)[:, None, :, None], groups=2))
    distances = (bands[0] - bands[1]).abs().mean((0, 2, 3))
    return (distances * distances.new_tensor([0.1, 0.01, 0.01, 0.05])).sum()


def published_jpeg_frequency(fake: Tensor, real: Tensor) -> Tensor:
    """DeCo: a matrix product on each side of each 8 x 8 block, for sides that are multiples of 8."""
    k = torch.arange(8, device=fake.device)[:, None]
    basis = torch.cos(math.pi * (2 * torch.arange(8, device=fake.device) + 1) * k / 16) / 2
    basis[0] /= math.sqrt(2)
    coefficients = []
    for images in (fake, real):
        red, green, blue = images.split(1, 1)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        chroma_blue = -0.168736 * red - 0.331264 * green + 0.5 * blue
        chroma_red = 0.5 * red - 0.418688 * green - 0.081312 * blue
        blocks = torch.cat([luma, chroma_blue, chroma_red], 1).unfold(2, 8, 8).unfold(3, 8, 8).contiguous()
        coefficients.append(basis @ blocks @ basis.T)
    weights = jpeg_weights(85).to(fake)[:, None, None]
    return (weights * (coefficients[0] - coefficients[1]).square()).mean()


def published_fourier_space(fake: Tensor, real: Tensor) -> Tensor:
    """GNNs4WP: whole spectra, shifted, of which half the rows are compared."""
    height, width = fake.shape[-2:]
    window = torch.outer(torch.hann_window(height, device=fake.device), torch.hann_window(width, device=fake.device))
    fake_spectrum, real_spectrum = (
        torch.fft.fftshift(torch.fft.fft2(images * window), (-2, -1)) for images in (fake, real)
    )
    amplitude = (fake_spectrum.abs() - real_spectrum.abs()).abs()[..., : height // 2, :].mean()
    turn = (fake_spectrum.angle() - real_spectrum.angle() + math.pi) % (2 * math.pi) - math.pi
    phase = torch.minimum(turn.abs(), 2 * math.pi - turn.abs())[..., : height // 2, :].mean()
    return (amplitude + phase) / 2


def published_haar(fake: Tensor, real: Tensor) -> Tensor:
    """owl-vaes: four levels of strided convolutions, with all bands of both images kept."""
    low_fake, low_real, total = fake, real, fake.new_zeros(())
    for _ in range(4):
        (low_fake, high_fake), (low_real, high_real) = (_haar_convolution(low) for low in (low_fake, low_real))
        total = total + (high_fake - high_real).abs().mean()
    return (total + (low_fake - low_real).abs().mean()) / 2


def published_haar_3d(fake: Tensor, real: Tensor) -> Tensor:
    """owl-vaes, for video: one level of strided convolutions."""
    (low_fake, high_fake), (low_real, high_real) = (_haar_convolution(clip) for clip in (fake, real))
    return (low_fake - low_real).abs().mean() + (high_fake - high_real).abs().mean()


def _haar_convolution(images: Tensor) -> tuple[Tensor, Tensor]:
    """Low band and detail bands of even sizes, by one convolution for each channel."""
    channels, dims = images.shape[1], images.ndim - 2
    pair = images.new_tensor([[1, 1], [1, -1]]) / math.sqrt(2)
    kernels = pair
    for _ in range(dims - 1):
        kernels = torch.einsum("i...,jk->ij...k", kernels, pair).flatten(0, 1)
    weight = kernels[:, None].repeat(channels, *(1,) * (dims + 1))
    convolve = F.conv2d if dims == 2 else F.conv3d
    bands = convolve(images, weight, stride=2, groups=channels).unflatten(1, (channels, -1))
    return bands[:, :, 0], bands[:, :, 1:]
