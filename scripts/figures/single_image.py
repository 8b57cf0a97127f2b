"""Figure 3: one image reconstructed from its amplitudes alone, its phases alone, or both.

The paper's phase-only picture is noise. Where its minimum is reached, as here, contours show through the noise: phases
place the edges (Oppenheim and Lim, 1981), while every amplitude is still that of the start.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ffl.spectrum import log_spectrum
from scripts.figures.photograph import image_name, square_image
from scripts.figures.sources import Drawing, Settings
from scripts.figures.style import GAP, PAGE_WIDTH, SMALL, TITLE, Sheet, limits

SIZE = 128
STEPS = 1000
LR = 0.02
NOISE = 0.1  # standard deviation of the first image, in the range [-1, 1] of images
SEED = 1112

Distance = Callable[[Tensor, Tensor], Tensor]


def amplitude_distance(fake: Tensor, real: Tensor) -> Tensor:
    """Mean squared difference of amplitudes, Eq. 5, of two spectra."""
    return (fake.abs() - real.abs()).square().mean()


def phase_distance(fake: Tensor, real: Tensor) -> Tensor:
    """Mean squared difference of phases, Eq. 6, each in (-π, π], of two spectra."""
    return angles(fake, real).square().mean()


def both_distance(fake: Tensor, real: Tensor) -> Tensor:
    """Mean squared distance in the complex plane, Eq. 8."""
    difference = torch.view_as_real(fake - real)
    return difference.square().sum(-1).mean()


def angles(fake: Tensor, real: Tensor) -> Tensor:
    """Difference of phases in (-π, π], the short way round."""
    return torch.angle(fake * real.conj())


DISTANCES: dict[str, Distance] = {
    "amplitude only": amplitude_distance,
    "phase only": phase_distance,
    "both": both_distance,
}


@dataclass(frozen=True)
class Errors:
    """How far a reconstruction is from the image.

    Attributes:
        amplitude: root mean square difference of amplitudes over the root mean square amplitude; the zero frequency,
            which is most of it, left out.
        phase: mean absolute difference of phases in degrees; 90 is chance.
        psnr: in dB, of images clipped to [-1, 1].
    """

    amplitude: float
    phase: float
    psnr: float


def errors(fake: Tensor, real: Tensor) -> Errors:
    """Errors of an image (1, 3, H, W) in [-1, 1]."""
    spectra = [torch.fft.fft2(image, norm="ortho").flatten(-2)[..., 1:] for image in (fake, real)]
    amplitude = amplitude_distance(*spectra) / spectra[1].abs().square().mean()
    mse = (fake.clamp(-1, 1) - real).square().mean()
    return Errors(
        float(amplitude.sqrt()), float(angles(*spectra).abs().mean().rad2deg()), float(10 * torch.log10(4 / mse))
    )


def start(real: Tensor) -> Tensor:
    """The image that every reconstruction begins with: grey noise, always the same."""
    return NOISE * torch.randn(real.shape, generator=torch.Generator().manual_seed(SEED))


def reconstruct(real: Tensor, distance: Distance, steps: int) -> Tensor:
    """Pixels that minimise a distance of orthonormal spectra, from ``start`` by Adam.

    Args:
        real: (1, 3, H, W) in [-1, 1].
        distance: of two half spectra, fake and real.
        steps: of Adam; its rate falls to 0 as a cosine.
    Returns:
        Same shape; may leave the range.
    """
    pixels = start(real).requires_grad_()
    target = torch.fft.rfft2(real, norm="ortho")
    optimizer = torch.optim.Adam([pixels], LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        distance(torch.fft.rfft2(pixels, norm="ortho"), target).backward()
        optimizer.step()
        schedule.step()
    return pixels.detach()


def figure3(settings: Settings) -> Drawing:
    """The image, what all reconstructions start from, and the three reconstructions, above their spectra."""
    real = square_image(settings, SIZE) * 2 - 1
    images = {"real": real, "start": start(real)}
    images |= {label: reconstruct(real, distance, STEPS) for label, distance in DISTANCES.items()}
    measured = {label: errors(image, real) for label, image in images.items() if label != "real"}
    spectra = {label: log_spectrum(image) for label, image in images.items()}
    sheet = Sheet()
    cell = PAGE_WIDTH / len(images)
    for column, (label, image) in enumerate(images.items()):
        x = column * cell + GAP / 2
        sheet.text(x + cell / 2, 0.02, label, TITLE)
        sheet.picture(x, 0.2, cell - GAP, image[0])
        sheet.map(x, 0.2 + cell, cell - GAP, spectra[label], limits(*spectra.values()))
        text = "amplitude error\nphase error\nPSNR"
        if label in measured:
            found = measured[label]
            text = f"{found.amplitude:.1%}\n{found.phase:.1f}°\n{found.psnr:.1f} dB"
        sheet.text(x + cell / 2, 0.22 + 2 * cell, text, SMALL)
    caption = (
        f"Single-image reconstruction of {image_name(settings)} ({SIZE}×{SIZE}): pixels fitted by {STEPS} steps of "
        f"Adam (rate {LR}, to 0 as a cosine) from the same noise, with the mean squared difference of amplitudes "
        "(Eq. 5), of phases (Eq. 6) or of complex values (Eq. 8) as the only loss. Errors are over all frequencies but "
        "zero; phase error is the mean absolute difference, 90° by chance. Below: log spectra."
    )
    sheet.caption(caption)
    return Drawing(sheet.finish(), caption, {label: vars(found) for label, found in measured.items()})
