"""Amplitude and phase distances of windowed spectra (Fuoli et al., ICCV 2021, "Fourier Space Losses")."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from ffl.losses.focal_frequency import Reduction
from ffl.losses.pair_loss import PairLoss

Half = Literal["paper", "centred"]

# Amplitudes below this share of the norm of an image are what rounding in float32 leaves: they have no phase.
_PHASE_FLOOR = 1e-6


class FourierSpaceLoss(PairLoss):
    r"""Mean of an amplitude and a phase distance between the spectra of images under a Hann window.

    For one channel of one image of U x V pixels, with $F(u, v)$ the unnormalised DFT of the image times the
    window,

    $$
    L_{amplitude} = \frac{2}{UV} \sum_{u=0}^{U/2-1} \sum_{v=0}^{V-1} \big| |F_f| - |F_r| \big|, \qquad
    L_{phase} = \frac{2}{UV} \sum_{u=0}^{U/2-1} \sum_{v=0}^{V-1} | \angle F_f - \angle F_r |,
    $$

    where angles are compared around the circle, so that no difference exceeds $\pi$;

    $$
    L = \frac{1}{2} L_{amplitude} + \frac{1}{2} L_{phase},
    $$

    averaged over the leading axes. A coefficient whose amplitude is below 1e-6 of the norm of the windowed image, such
    as most of a constant image, has no phase: it adds nothing to the phase distance. Gradients of phases are the
    inverse of amplitudes, and that floor bounds them.

    Images are (..., H, W) of any range, with H at least 2; amplitudes scale with the range, and phases do not.

    Args:
        half: which rows of the spectrum of a real image stand for the whole:

            - "paper": u = 0 to U/2 - 1, as printed.
            - "centred": u = -U/2 to -1 (odd U: -(U - 1)/2 to -1), the first rows of a spectrum whose zero frequency
              has been moved to the centre, as public code has it. The mean of an image does then not count.
        reduction: see ``ffl.losses.pair_loss.PairLoss``.
    Raises:
        ValueError: an impossible option.

    Examples:
        >>> import torch
        >>> from ffl.losses import FourierSpaceLoss
        >>> real = torch.rand(2, 3, 16, 16)
        >>> phase, amplitude = FourierSpaceLoss().terms(-real, real)
        >>> phase, amplitude  # every phase is turned by half a circle
        (tensor(3.1416), tensor(0.))
    """

    def __init__(self, half: Half = "paper", *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        if half not in get_args(Half):
            raise ValueError(f"half must be one of {', '.join(map(repr, get_args(Half)))}, got {half!r}")
        self.rows: Half = half

    def check_size(self, size: torch.Size) -> None:
        if size[0] < 2:
            raise ValueError(f"H must be at least 2 for half a spectrum, got {size[0]}x{size[1]}")

    def terms(self, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The phase distance, in radians from 0 to pi, and the amplitude distance; arguments as for ``forward``."""
        phase, amplitude = self.reduced(self._distances, fake, real).unbind(-1)
        return phase, amplitude

    def per_sample(self, fake: Tensor, real: Tensor) -> Tensor:
        return self._distances(fake, real).mean(-1)

    def _distances(self, fake: Tensor, real: Tensor) -> Tensor:
        """(N, 2): phase and amplitude distance of each sample."""
        (fake_spectrum, fake_floor), (real_spectrum, real_floor) = map(self._spectrum, (fake, real))
        fake_amplitude, real_amplitude = fake_spectrum.abs(), real_spectrum.abs()
        amplitude = (fake_amplitude - real_amplitude).abs()
        # Around the circle: a difference d of angles in [0, 2 pi] is a distance of pi - |d - pi|.
        turn = (fake_spectrum.angle() - real_spectrum.angle()).abs()
        has_phase = (fake_amplitude > fake_floor) & (real_amplitude > real_floor)
        phase = torch.where(has_phase, math.pi - (turn - math.pi).abs(), 0)
        per_sample = tuple(range(1, fake.dim()))
        return torch.stack([distance.mean(per_sample) for distance in (phase, amplitude)], -1)

    def _spectrum(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the spectrum that ``half`` names, and the amplitude below which a coefficient has no phase."""
        height, width = images.shape[-2:]
        rows, columns = (torch.hann_window(size, dtype=images.dtype, device=images.device) for size in (height, width))
        windowed = images * (rows[:, None] * columns)
        # Transformed last, the height keeps rows 0 to U/2. Row u is the mirror image of row -u, with opposite phases.
        spectrum = torch.fft.rfft2(windowed, dim=(-1, -2))
        first = 0 if self.rows == "paper" else 1
        floor = _PHASE_FLOOR * torch.linalg.vector_norm(windowed.detach(), dim=(-2, -1), keepdim=True)
        return spectrum[..., first : first + height // 2, :], floor

    def extra_repr(self) -> str:
        return f"half={self.rows!r}, reduction={self.reduction!r}"
