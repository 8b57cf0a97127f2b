"""Coherence of real and generated images: whether the detail of an image is right, whatever its contrast.

With the spectra F_r of real and F_f of generated images that belong to them,

    c = Re Σ F_r conj(F_f) / sqrt(Σ |F_r|² · Σ |F_f|²)

where each sum runs over the images of a set, their channels and all frequencies of a band. A band holds each frequency
with its mirror image, so that the imaginary parts cancel and |c| is the modulus of the complex quotient. It is known in
electron microscopy as the Fourier ring correlation (Saxton and Baumeister, "The correlation averaging of a regularly
arranged bacterial cell envelope protein", Journal of Microscopy, 1982). It is 1 for equal images and for those that
differ in contrast alone, 0 for unrelated ones and -1 for inverted ones.

Neither power nor error tells detail that is right from noise: noise of the right power closes the gap between two
spectra, and an error comes from faint detail as well as from wrong detail. Coherence does not depend on the power. With
P = Σ |F_f|² / Σ |F_r|² the error of a band over its real power is

    1 + P - 2 c sqrt(P)

which is 1 for images that leave the band empty, and least, 1 - c², at P = c². A model of least squared error therefore
gives a band c² of its real power: it blurs what it does not know. The share c² of the generated power follows the real
images, the share 1 - c² does not. More power at the same coherence is more of both, and more error once P exceeds c².
"""

import torch
from torch import Tensor

from ffl.metrics.bands import CHUNK, SMALLEST, half_spectrum
from ffl.metrics.base import Description, ImageMetric, check_pairs


class CoherenceTop(ImageMetric):
    """Coherence of pairs in the highest octave, min(H, W) / 4 <= radius < min(H, W) / 2 cycles per image.

    It is 0 where real or generated images have no power there. Images may differ in size; each must have 8x8 pixels or
    more.

    Examples:
        >>> real = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
        >>> real[..., 8, 8] = 200  # equal power at all frequencies
        >>> metric = CoherenceTop()
        >>> metric.update(real // 2, real)
        >>> round(metric.compute().item(), 6)  # half the contrast, but every wave is in its place
        1.0
        >>> metric.update(200 - real, real)  # inverted
        >>> round(metric.compute().item(), 6)  # of both: (1/2 - 1) / sqrt((1 + 1) (1/4 + 1))
        -0.316228
    """

    name = "coherence_top"
    label = "coherence, top octave"
    digits = 3
    tasks = ("reconstruction",)
    higher_is_better = True
    inputs = "pairs"
    real_power: Tensor
    fake_power: Tensor
    product: Tensor
    count: Tensor

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        for state in ("real_power", "fake_power", "product"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, fake: Tensor, real: Tensor) -> None:
        """Add N pairs of uint8 (N, C, H, W) images."""
        check_pairs(self.name, fake, real)
        height, width = real.shape[-2:]
        nyquist = min(height, width) / 2
        if 2 * nyquist < SMALLEST:
            raise ValueError(f"{self.name} takes images of at least {SMALLEST}x{SMALLEST} pixels, got {width}x{height}")
        self.count += len(real)
        radii, copies = half_spectrum(height, width)
        weights = (copies * ((radii >= nyquist / 2) & (radii < nyquist))).to(real.device)[..., None]
        step = max(1, CHUNK // (real.shape[1] * height * width))
        for first in range(0, len(real), step):
            chunk = slice(first, first + step)
            r, f = (torch.view_as_real(torch.fft.rfft2(images[chunk].float(), norm="ortho")) for images in (real, fake))
            # Float32 holds the sums over a few images; those over all frequencies and images need float64.
            for state, terms in ((self.real_power, r * r), (self.fake_power, f * f), (self.product, r * f)):
                state += (terms.sum((0, 1)).double() * weights).sum()

    def compute(self) -> Tensor:
        """The coherence, float64, from -1 to 1."""
        self.require(int(self.count))
        scale = (self.real_power * self.fake_power).sqrt()
        return torch.where(scale > 0, self.product / scale, 0.0)

    def protocol(self) -> Description:
        return {
            "band": "Nyquist/2 <= r < Nyquist, Nyquist = min(H, W) / 2",
            "coherence": "real part, over frequencies, channels and images at once",
            "transform": "DFT",
        }
