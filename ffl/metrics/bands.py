"""Power of real and generated images, and of their difference, by band of spatial frequency.

The paper says in words and pictures that the focal frequency loss closes the gap at high frequencies, and prints no
number that could tell: PSNR, and LFD with it, is governed by low frequencies, where natural images have their power.
Every evaluation therefore records these bands beside its metrics. They are no metric themselves: they are several
numbers, none of which is better for being higher or lower.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ffl.metrics.base import check_images

SMALLEST = 8  # pixels on an edge: below, no octave fits between the slowest wave and the Nyquist frequency
# Values of an image tensor that are transformed at a time. A CPU's caches hold them: at 256x256 this is twice as fast
# as 20 images at once.
CHUNK = 1 << 19


def octave_edges(height: int, width: int) -> list[float]:
    """Radii between bands: 0.5, which splits off the mean, then octaves up to the Nyquist frequency min(H, W) / 2.

    Args:
        height, width: of the images in pixels, at least 8.
    Returns:
        Increasing radii in cycles per image.

    Examples:
        >>> octave_edges(64, 64)
        [0.5, 2.0, 4.0, 8.0, 16.0, 32.0]
    """
    if min(height, width) < SMALLEST:
        raise ValueError(f"octave_edges needs at least {SMALLEST}x{SMALLEST} images, got {height}x{width}")
    nyquist = min(height, width) / 2
    octaves = int(math.log2(nyquist) - 1e-9)  # those whose lower edge is above 1
    return [0.5, *(nyquist / 2**k for k in range(octaves, -1, -1))]


def band_labels(edges: list[float]) -> list[str]:
    """A name for each band that ``edges`` divide, in cycles per image.

    Examples:
        >>> band_labels([0.5, 2.0, 4.0])
        ['mean', '1 to 2', '2 to 4', '4 and more']
    """
    inner = [f"{low:g} to {high:g}" for low, high in pairwise(edges[1:])]
    return ["mean", f"1 to {edges[1]:g}", *inner, f"{edges[-1]:g} and more"]


def power_ratio(bands: Mapping[str, Any]) -> list[float]:
    """Power of generated over power of real images in each band; 1 is no gap, NaN where real images have no power.

    Args:
        bands: what ``BandPower.compute`` returned.
    """
    return [fake / real if real else math.nan for fake, real in zip(bands["fake"], bands["real"], strict=True)]


def coherence(bands: Mapping[str, Any]) -> list[float]:
    """Coherence of real and generated images in each band; ``ffl.metrics.coherence`` says what it means.

    The transform is linear. With the mean power R of real images, F of generated ones and E of their difference,

        Re Σ F_r conj(F_f) / sqrt(Σ |F_r|² Σ |F_f|²) = (R + F - E) / (2 sqrt(R F))

    so that records of bands from before coherence was recorded have it too.

    Args:
        bands: of pairs, what ``BandPower.compute`` returned or a record of it.
    Returns:
        From -1 to 1 for each band; 0 where real or generated images have no power.
    Raises:
        ValueError: if the bands are not of pairs.

    Examples:
        >>> coherence({"real": [4.0, 4.0], "fake": [1.0, 4.0], "error": [1.0, 8.0]})  # half the contrast; unrelated
        [1.0, 0.0]
    """
    if bands["error"] is None:
        raise ValueError("coherence needs bands of pairs; these have no error")
    values = []
    for real, fake, error in zip(bands["real"], bands["fake"], bands["error"], strict=True):
        scale = 2 * math.sqrt(real * fake)
        # The powers are rounded: images that differ in contrast alone would come out a little above 1.
        values.append(max(-1.0, min(1.0, (real + fake - error) / scale)) if scale else 0.0)
    return values


def by_band(bands: Mapping[str, Any]) -> dict[str, list[float]]:
    """What figures show of bands: ``power``, and of pairs ``error`` and ``coherence``, all but the mean brightness.

    Power and error are over the power of real images. The mean brightness is left out, since every model gets it right.

    Args:
        bands: what ``BandPower.compute`` returned or a record of it.

    Examples:
        >>> by_band({"real": [9.0, 4.0], "fake": [9.0, 1.0], "error": [0.0, 1.0]})
        {'power': [0.25], 'error': [0.25], 'coherence': [1.0]}
    """
    shown = {"power": power_ratio(bands)}
    if bands["error"] is not None:
        shown |= {"error": power_ratio({**bands, "fake": bands["error"]}), "coherence": coherence(bands)}
    return {quantity: values[1:] for quantity, values in shown.items()}


def band_limits(edges: list[float]) -> list[float]:
    """Radii around the bands of ``by_band``: from the slowest wave to the corners beyond the Nyquist frequency.

    Examples:
        >>> [round(radius, 2) for radius in band_limits([0.5, 2.0, 4.0])]
        [1.0, 2.0, 4.0, 5.66]
    """
    return [1.0, *edges[1:], edges[-1] * math.sqrt(2)]


def half_spectrum(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The frequencies that ``torch.fft.rfft2`` gives of a real image, whose other half only mirrors them.

    Args:
        height, width: of the image in pixels.
    Returns:
        Two float64 tensors of shape (H, W // 2 + 1): the radius of each frequency in cycles per image, and how often
        the whole spectrum has its power, once or twice.
    """
    u = torch.fft.fftfreq(height, 1 / height, dtype=torch.float64)[:, None]
    v = torch.fft.rfftfreq(width, 1 / width, dtype=torch.float64)
    copies = torch.where((v == 0) | (2 * v == width), 1.0, 2.0)  # the mirror image of these columns is among them
    return torch.hypot(u, v), copies.expand(height, -1)


class BandPower(Metric):
    """Mean power by octave, in squared grey levels of 0 to 255; sums are float64 and add up over batches and ranks.

    By Parseval's theorem the bands of an image add up to its mean square, and those of a difference to the mean squared
    error.

    Args:
        height, width: of every image in pixels, at least 8.
        paired: whether each generated image belongs to the real one beside it, so that their difference is an error.

    Examples:
        >>> power = BandPower(8, 8, paired=True)
        >>> grey = torch.full((1, 3, 8, 8), 10, dtype=torch.uint8)
        >>> power.update(grey, grey + 2)
        >>> power.compute()["error"]
        [4.0, 0.0, 0.0, 0.0]
    """

    full_state_update = False
    real: Tensor
    fake: Tensor
    error: Tensor
    real_count: Tensor
    fake_count: Tensor

    def __init__(self, height: int, width: int, paired: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = height, width
        self.edges = octave_edges(height, width)
        self.paired = paired
        # Whole spectra are summed and cut into bands at the end: an eighth of the time of cutting the spectrum of each
        # image (measured at 64x64). Images are real, so that the other half of a spectrum only mirrors this one.
        for kind in ("real", "fake", "error"):
            spectrum = torch.zeros(height, width // 2 + 1, dtype=torch.float64)
            self.add_state(kind, spectrum, dist_reduce_fx="sum")
        for kind in ("real_count", "fake_count"):
            self.add_state(kind, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, real: Tensor, fake: Tensor) -> None:
        """Add uint8 images, (N, 3, H, W) real and (M, 3, H, W) generated ones; unless paired, either may be empty."""
        for images in (real, fake):
            check_images("bands", images)
        self.real_count += len(real)
        self.fake_count += len(fake)
        step = max(1, CHUNK // (3 * self.size[0] * self.size[1]))
        for first in range(0, max(len(real), len(fake)), step):
            spectra = {
                kind: torch.fft.rfft2(images[first : first + step].float(), norm="ortho")
                for kind, images in (("real", real), ("fake", fake))
                if first < len(images)
            }
            if self.paired:  # the transform is linear: no third one for the error
                spectra["error"] = spectra["fake"] - spectra["real"]
            for kind, spectrum in spectra.items():
                power = spectrum.real.square() + spectrum.imag.square()
                # Float32 holds the sum over a few images; the sum over all of them needs float64.
                getattr(self, kind).add_(power.sum((0, 1)).double())

    def compute(self) -> dict[str, list[float] | None]:
        """``edges`` in cycles per image, and the mean power in each band of the ``real`` images, of the generated ones
        (``fake``) and of their difference (``error``); of pairs also their ``coherence``. The last two are None for
        images that are no pairs."""
        height, width = self.size
        radii, copies = half_spectrum(height, width)
        band = torch.bucketize(radii, torch.tensor(self.edges, dtype=torch.float64), right=True).flatten()

        def means(spectrum: Tensor, count: Tensor) -> list[float]:
            power = (spectrum.cpu() * copies).flatten() / (3 * height * width * count.cpu())
            return torch.bincount(band, power, minlength=len(self.edges) + 1).tolist()

        bands = {
            "edges": self.edges,
            "real": means(self.real, self.real_count),
            "fake": means(self.fake, self.fake_count),
            "error": means(self.error, self.fake_count) if self.paired else None,
        }
        return {**bands, "coherence": coherence(bands) if self.paired else None}
