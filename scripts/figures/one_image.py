"""Figures that need one image and no run: 2 (band limiting), 3 (reconstruction from a spectrum), 12 (its waves)."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets.photos import read_photograph
from ffl.decoding import decode_rgb
from ffl.errors import UserError
from ffl.spectrum import band_filter, log_spectrum, plane_waves
from scripts.figures.runs import Drawing
from scripts.figures.style import BLACK, GAP, ORANGE, PAGE_WIDTH, SMALL, TITLE, Sheet, limits

EMBEDDED = "chelsea.png"  # a cat: fur has fine detail in all directions

# Figure 2: what is taken away, as rings low <= radius < high in cycles per image, and what is left in words.
BAND_SIZE = 256
BANDS: dict[str, tuple[tuple[float, float] | None, str]] = {
    "original": (None, " "),
    "without the centre": ((0, 0.5), "radius ≥ 1"),
    "low-pass": ((20, math.inf), "radius < 20"),
    "high-pass": ((0, 6), "radius ≥ 6"),
    "band-stop": ((12, 40), "radius < 12 or ≥ 40"),
}

# Figure 3: pixels fitted by Adam, from noise of this standard deviation in the range [-1, 1] of images.
FIT_SIZE, FIT_STEPS, FIT_LR, FIT_NOISE, FIT_SEED = 128, 1000, 0.02, 0.1, 1112

# Figure 12: periods down and across the image, from slow to fast and in several directions; how much of the spectrum is
# drawn; how many waves are summed, the last of them all of 128x128.
WAVE_SIZE = 128
SHOWN = ((0, 2), (5, 0), (6, 6), (7, -8), (17, 9), (-14, 18))
REACH = 24
COUNTS = (2, 8, 32, 128, 512, 8194)


def square_image(path: Path | None, size: int) -> Tensor:
    """The largest square from the middle of an image, reduced to ``size``.

    Args:
        path: of its file; None for an embedded photograph.
        size: of an edge in pixels.
    Returns:
        float32 (1, 3, size, size) in [0, 1].
    Raises:
        UserError: if the file is not an image, or smaller than ``size``.
    """
    try:
        photograph = decode_rgb(read_photograph(EMBEDDED) if path is None else path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"image={path}: not a readable image ({error})") from None
    # Nothing is enlarged: the spectrum of an enlarged image is empty at high frequencies.
    side = min(photograph.size)
    if side < size:
        raise UserError(
            f"image={path}: {photograph.width}x{photograph.height}; this figure takes {size}x{size} or more"
        )
    left, top = (photograph.width - side) // 2, (photograph.height - side) // 2
    square = photograph.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BOX)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255


def image_name(path: Path | None) -> str:
    """What captions call it."""
    return "the embedded photograph chelsea" if path is None else path.name


def without_band(images: Tensor, label: str) -> Tensor:
    """``images`` without the frequencies that one of ``BANDS`` takes away."""
    ring, _ = BANDS[label]
    return images if ring is None else band_filter(images, *ring, stop=True)


def figure2(*, image: Path | None = None) -> Drawing:
    """Figure 2: an image, filtered in four ways, above the spectra that are left."""
    original = square_image(image, BAND_SIZE)
    filtered = {label: without_band(original, label) for label in BANDS}
    # log(1 + |F|) of intensities in [0, 255], mean of the channels, zero frequency in the middle.
    amplitudes = {
        label: torch.fft.fftshift(torch.fft.fft2(images * 255).abs().log1p().mean((0, 1)))
        for label, images in filtered.items()
    }
    # All maps share the scale of the original, so that what was removed is black.
    brightest = float(amplitudes["original"].max())

    sheet = Sheet()
    cell = PAGE_WIDTH / len(BANDS)
    for column, (label, (_, left_over)) in enumerate(BANDS.items()):
        x = column * cell + GAP / 2
        sheet.text(x + cell / 2, 0.02, label, TITLE)
        sheet.text(x + cell / 2, 0.19, left_over, SMALL, colour="#444444")
        sheet.picture(x, 0.36, cell - GAP, filtered[label][0].clamp(0, 1) * 2 - 1)
        sheet.map(x, 0.36 + cell, cell - GAP, amplitudes[label], (0, brightest))
    caption = (
        f"Band limiting of {image_name(image)} ({BAND_SIZE}×{BAND_SIZE}, intensities from 0 to 1, clipped to that "
        "range when shown). Radii that are left are in cycles per image. Below: log(1 + |F|), mean of the channels, "
        "zero frequency in the middle; black is removed."
    )
    sheet.caption(caption)
    energy = original.square().sum()  # the mean brightness included
    values = {
        label: {
            "removed": [] if ring is None else [ring],
            "energy_left": float(filtered[label].square().sum() / energy),
        }
        for label, (ring, _) in BANDS.items()
    }
    return Drawing(sheet.finish(), caption, values)


def phase_differences(fake: Tensor, real: Tensor) -> Tensor:
    """Difference of the phases of two spectra in (-π, π], the short way round."""
    return torch.angle(fake * real.conj())


# Distances of two complex spectra, fake and real: of amplitudes (Eq. 5), of phases (Eq. 6), of both (Eq. 8).
DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "amplitude only": lambda fake, real: (fake.abs() - real.abs()).square().mean(),
    "phase only": lambda fake, real: phase_differences(fake, real).square().mean(),
    "both": lambda fake, real: torch.view_as_real(fake - real).square().sum(-1).mean(),
}


def start_image(real: Tensor) -> Tensor:
    """The image that every reconstruction begins with: grey noise, always the same."""
    return FIT_NOISE * torch.randn(real.shape, generator=torch.Generator().manual_seed(FIT_SEED))


def reconstruct(real: Tensor, distance: Callable[[Tensor, Tensor], Tensor], steps: int) -> Tensor:
    """Pixels that minimise a distance of orthonormal spectra, from ``start_image`` by Adam.

    Args:
        real: (1, 3, H, W) in [-1, 1].
        distance: of two half spectra, fake and real.
        steps: of Adam; its rate falls to 0 as a cosine.
    Returns:
        Same shape; may leave the range.
    """
    pixels = start_image(real).requires_grad_()
    target = torch.fft.rfft2(real, norm="ortho")
    optimizer = torch.optim.Adam([pixels], FIT_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        distance(torch.fft.rfft2(pixels, norm="ortho"), target).backward()
        optimizer.step()
        schedule.step()
    return pixels.detach()


def reconstruction_errors(fake: Tensor, real: Tensor) -> dict[str, float]:
    """How far a reconstruction is from the image.

    Args:
        fake, real: (1, 3, H, W) in [-1, 1].
    Returns:
        ``amplitude``: root mean square difference of amplitudes over the root mean square amplitude; the zero
        frequency, which is most of it, left out. ``phase``: mean absolute difference of phases in degrees; 90 is
        chance. ``psnr``: in dB, of images clipped to [-1, 1].
    """
    # The zero frequency is the mean brightness: most of the power, and nothing of the structure.
    spectra = [torch.fft.fft2(image, norm="ortho").flatten(-2)[..., 1:] for image in (fake, real)]
    amplitude = DISTANCES["amplitude only"](*spectra) / spectra[1].abs().square().mean()
    mse = (fake.clamp(-1, 1) - real).square().mean()
    return {
        "amplitude": float(amplitude.sqrt()),
        "phase": float(phase_differences(*spectra).abs().mean().rad2deg()),
        "psnr": float(10 * torch.log10(4 / mse)),
    }


def figure3(*, image: Path | None = None) -> Drawing:
    """Figure 3: one image reconstructed from its amplitudes alone, its phases alone, or both.

    The paper's phase-only picture is noise. Where its minimum is reached, as here, contours show through the noise:
    phases place the edges (Oppenheim and Lim, 1981), while every amplitude is still that of the start.
    """
    # The same start for all three, so that only the loss makes them differ.
    real = square_image(image, FIT_SIZE) * 2 - 1
    images = {"real": real, "start": start_image(real)}
    images |= {label: reconstruct(real, distance, FIT_STEPS) for label, distance in DISTANCES.items()}
    errors = {label: reconstruction_errors(other, real) for label, other in images.items() if label != "real"}
    spectra = {label: log_spectrum(other) for label, other in images.items()}

    sheet = Sheet()
    cell = PAGE_WIDTH / len(images)
    for column, label in enumerate(images):
        x = column * cell + GAP / 2
        sheet.text(x + cell / 2, 0.02, label, TITLE)
        sheet.picture(x, 0.2, cell - GAP, images[label][0])
        sheet.map(x, 0.2 + cell, cell - GAP, spectra[label], limits(*spectra.values()))
        text = "amplitude error\nphase error\nPSNR"
        if label in errors:
            text = "{amplitude:.1%}\n{phase:.1f}°\n{psnr:.1f} dB".format(**errors[label])
        sheet.text(x + cell / 2, 0.22 + 2 * cell, text, SMALL)
    caption = (
        f"Single-image reconstruction of {image_name(image)} ({FIT_SIZE}×{FIT_SIZE}): pixels fitted by {FIT_STEPS} "
        f"steps of Adam (rate {FIT_LR}, to 0 as a cosine) from the same noise, with the mean squared difference of "
        "amplitudes (Eq. 5), of phases (Eq. 6) or of complex values (Eq. 8) as the only loss. Errors are over all "
        "frequencies but zero; phase error is the mean absolute difference, 90° by chance. Below: log spectra."
    )
    sheet.caption(caption)
    return Drawing(sheet.finish(), caption, errors)


def half_plane(size: int) -> Tensor:
    """One of each pair of mirror images (u, v) and (-u, -v), modulo size: int64 (K, 2), all waves of a square image."""
    u, v = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    own, mirror = u * size + v, (-u % size) * size + (-v % size)
    return torch.stack([u, v], -1)[own <= mirror]


def sum_of_strongest(image: Tensor, count: int) -> Tensor:
    """The sum of the ``count`` waves of most energy, the mean brightness among them.

    Args:
        image: (H, H) float.
        count: of waves.
    Returns:
        Same shape; the image itself where ``count`` is that of all waves.
    """
    # The spectrum of a real image is symmetric: a wave is a pair of coefficients, taken or left together.
    size = len(image)
    spectrum = torch.fft.fft2(image)
    waves = half_plane(size)
    mirrors = -waves % size
    energy = spectrum[waves[:, 0], waves[:, 1]].abs().square()
    energy[(waves != mirrors).any(1)] *= 2  # the mirror image has as much
    chosen = energy.argsort(descending=True)[:count]
    kept = torch.zeros_like(spectrum)
    for index in (waves[chosen], mirrors[chosen]):
        kept[index[:, 0], index[:, 1]] = spectrum[index[:, 0], index[:, 1]]
    return torch.fft.ifft2(kept).real


def figure12(*, image: Path | None = None) -> Drawing:
    """Figure 12: an image and some of its waves; its spectrum, where those are marked; sums of its strongest waves."""
    grey = square_image(image, WAVE_SIZE).mean((0, 1)).double()
    waves = plane_waves(grey, SHOWN)
    sheet = Sheet()
    cell = PAGE_WIDTH / (1 + len(SHOWN))
    width, top, second = cell - GAP, 0.34, 0.34 + cell + 0.42

    # First column: the image, and the middle of its spectrum.
    sheet.text(cell / 2, 0.17, "image")
    sheet.map(GAP / 2, top, width, grey, (0, 1))
    sheet.text(cell / 2, second - 0.17, "spectrum")
    middle = slice(WAVE_SIZE // 2 - REACH, WAVE_SIZE // 2 + REACH + 1)
    spectrum = log_spectrum(grey[None, None])[middle, middle]
    marked = sheet.map(GAP / 2, second, width, spectrum, limits(spectrum)).axes

    # Above: one wave a column, with its number at its place in the spectrum.
    amplitudes: dict[str, float] = {}
    for number, ((u, v), wave) in enumerate(zip(SHOWN, waves, strict=True), 1):
        x = number * cell + GAP / 2
        amplitude = float(torch.fft.fft2(grey)[u, v].abs()) * 2 / grey.numel()
        amplitudes[f"{u},{v}"] = amplitude
        sheet.text(x + width / 2, 0.02, f"{number}: (u, v) = ({u}, {v})".replace("-", "−"), SMALL)
        sheet.text(x + width / 2, 0.17, f"amplitude {amplitude:.4f}", SMALL)
        sheet.map(x, top, width, wave, (-amplitude, amplitude))
        marked.plot(REACH + v, REACH + u, "o", ms=3, mfc=ORANGE, mec=BLACK, mew=0.4)
        away = 7 / math.hypot(u, v)  # points, from the middle
        marked.annotate(
            str(number),
            (REACH + v, REACH + u),
            (away * v, -away * u),
            textcoords="offset points",
            ha="center",
            va="center",
            color=ORANGE,
            size=SMALL,
        )

    # Below: what a growing number of the strongest waves sums to.
    shares: dict[str, float] = {}
    for number, count in enumerate(COUNTS, 1):
        x = number * cell + GAP / 2
        total = sum_of_strongest(grey, count)
        share = float((total - grey.mean()).square().mean() / grey.var(correction=0))
        shares[str(count)] = share
        sheet.text(x + width / 2, second - 0.32, f"{count:,} waves" + (" (all)" if count == COUNTS[-1] else ""), SMALL)
        sheet.text(x + width / 2, second - 0.17, f"{share:.1%} of variance", SMALL)
        sheet.map(x, second, width, total, (0, 1))

    caption = (
        f"Sinusoidal components of {image_name(image)} in grey ({WAVE_SIZE}×{WAVE_SIZE}, intensities from 0 to 1). "
        "Above: the waves at six frequencies, u periods down and v across, each in its own contrast; below, those "
        f"frequencies in the log spectrum (up to {REACH} periods), and sums of the strongest waves, the mean "
        "brightness among them."
    )
    sheet.caption(caption)
    return Drawing(sheet.finish(), caption, {"amplitude": amplitudes, "variance_share": shares})
