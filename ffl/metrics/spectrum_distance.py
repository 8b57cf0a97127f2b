"""Distance between the radial power spectra of two sets of images.

With P(r) the power |F|² at frequencies of radius r, averaged over the images of a set, and R = min(H, W) // 2,

    distance = mean over r = 1 ... R of |ln P_real(r) - ln P_fake(r)|

LFD says what PSNR says (see ``ffl.metrics.pixel.lfd``). This says whether generated images have the frequencies of real
ones: the gap that the paper is about, and that blur hides from pixel errors.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ffl.metrics.base import Description, GatheringMetric, check_images, first_half
from ffl.spectrum import radial_power

# Far below the power of rounding to 8 bits, 1 / (12 · 255²) ≈ 1.3e-6: only keeps the logarithm of a flat image finite.
POWER_FLOOR = 1e-10


def spectrum_distance(real: Tensor, fake: Tensor, first_radius: int = 1) -> Tensor:
    """Mean absolute difference of two log power profiles.

    Args:
        real: (R + 1,) mean power per integer radius 0..R of images in [0, 1].
        fake: same shape.
        first_radius: leave out smaller radii; radius 0 is the mean brightness.
    Returns:
        Scalar, float64, natural logarithm: 0.69 is a factor of 2 in power at a typical radius.
    Raises:
        ValueError: if the profiles differ in length.

    Examples:
        >>> real = torch.tensor([9.0, 4.0, 1.0])
        >>> round(spectrum_distance(real, real / 2).item(), 9)  # ln 2 at every radius
        0.693147181
    """
    if real.ndim != 1 or real.shape != fake.shape:
        raise ValueError(f"profiles must be (R + 1,) and alike, got {tuple(real.shape)} and {tuple(fake.shape)}")
    logs = [profile.double().clamp_min(POWER_FLOOR).log() for profile in (real, fake)]
    return (logs[0] - logs[1])[first_radius:].abs().mean()


class SpectrumDistance(GatheringMetric):
    """``spectrum_distance`` of mean profiles, over all radii from 1 to R = min(H, W) // 2.

    Profiles are averaged over the images of a set before the logarithm. All images must have one size, 2x2 or more.

    Examples:
        >>> real = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
        >>> real[..., 8, 8] = 200  # equal power at all frequencies
        >>> metric = SpectrumDistance()
        >>> metric.update(real, real=True)
        >>> metric.update(real // 2, real=False)
        >>> round(metric.compute().item(), 4)  # half the contrast is a quarter of the power: ln 4
        1.3863
    """

    name = "spectrum_distance"
    label = "spectrum distance"
    # The paper's tables print too few digits for it, Table 5 a single one.
    digits = 3
    tasks = ("reconstruction", "synthesis", "translation", "semantic")
    higher_is_better = False
    inputs = "sets"
    band: ClassVar[str] = "1..R"
    real_count: Tensor
    half_count: Tensor
    fake_count: Tensor
    num_radii: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("num_radii", torch.zeros((), dtype=torch.int64), dist_reduce_fx="max")
        for kind in ("real", "half", "fake"):  # "half" is the first half of the real images
            self.add_state(f"{kind}_count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
            # Sums of profiles, end to end: their length is known only with the first image.
            self.add_rows(f"{kind}_power", torch.empty(0, dtype=torch.float64))

    def update(self, images: Tensor, real: bool) -> None:
        """Add uint8 (N, C, H, W) images to the real or to the generated set."""
        check_images(self.name, images)
        height, width = images.shape[-2:]
        if min(height, width) < 2:
            raise ValueError(f"{self.name} takes images of at least 2x2 pixels, got {width}x{height}")
        profiles = radial_power(images.float() / 255).double()
        num_radii = profiles.shape[1]
        if int(self.num_radii) not in (0, num_radii):
            raise ValueError(
                f"{self.name} takes images of one size, got {tuple(images.shape[-2:])} "
                f"after images of {int(self.num_radii) - 1} radii"
            )
        self.num_radii.fill_(num_radii)
        parts = {"real": profiles, "half": profiles[first_half(images)]} if real else {"fake": profiles}
        for kind, part in parts.items():
            getattr(self, f"{kind}_count").add_(len(part))
            # One sum for each rank; torchmetrics gathers the sums of all ranks end to end.
            sums = getattr(self, f"{kind}_power")
            sums[:] = [part.sum(0) if not sums else sums[0] + part.sum(0)]

    def compute(self) -> Tensor:
        """The distance, float64."""
        self.require(int(self.real_count), "real images")
        self.require(int(self.fake_count), "generated images")
        return self._distance(*self._total("real"), *self._total("fake"))

    def between_halves(self) -> float | None:
        if int(self.real_count) == 0:
            return None
        power, count = self._total("real")
        first, first_count = self._total("half")
        if not 0 < first_count < count:
            return None
        return float(self._distance(first, first_count, power - first, count - first_count))

    def _total(self, kind: str) -> tuple[Tensor, Tensor]:
        """Sum of the profiles of all ranks, and their number."""
        return self.rows(f"{kind}_power").view(-1, int(self.num_radii)).sum(0), getattr(self, f"{kind}_count")

    def _distance(self, real: Tensor, real_count: Tensor, fake: Tensor, fake_count: Tensor) -> Tensor:
        return spectrum_distance(real / real_count, fake / fake_count, self.first_radius(len(real) - 1))

    def first_radius(self, nyquist: int) -> int:
        """Smallest radius that counts."""
        return 1

    def protocol(self) -> Description:
        return {
            "range": "[0, 1]",
            "profile": "mean power per integer radius, averaged over channels and images",
            "logarithm": "natural",
            "radii": self.band,
            "power_floor": POWER_FLOOR,
        }


class SpectrumDistanceTop(SpectrumDistance):
    """``SpectrumDistance`` over the top octave: radii above R / 2, where upsampling leaves its traces.

    Examples:
        >>> real = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
        >>> real[..., 8, 8] = 200  # equal power at all frequencies
        >>> metric = SpectrumDistanceTop()
        >>> metric.update(real, real=True)
        >>> metric.update(real // 2, real=False)
        >>> round(metric.compute().item(), 4)
        1.3863
    """

    name = "spectrum_distance_top"
    label = "its top octave"
    band = "R/2 < r <= R"

    def first_radius(self, nyquist: int) -> int:
        return nyquist // 2 + 1
