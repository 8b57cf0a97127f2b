"""Figure 12: sinusoidal components of an image, and what a growing number of them sums to."""

import math

import torch
from torch import Tensor

from ffl.spectrum import log_spectrum, plane_waves
from scripts.figures.photograph import image_name, square_image
from scripts.figures.sources import Drawing, Settings
from scripts.figures.style import BLACK, GAP, ORANGE, PAGE_WIDTH, SMALL, Sheet, limits

SIZE = 128
# Periods down and across the image: from slow to fast, in several directions.
SHOWN = ((0, 2), (5, 0), (6, 6), (7, -8), (17, 9), (-14, 18))
REACH = 24  # of the part of the spectrum that is drawn
COUNTS = (2, 8, 32, 128, 512, 8194)  # the last is all waves of 128x128


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


def figure12(settings: Settings) -> Drawing:
    """The image and some of its waves; its spectrum, where those are marked, and sums of its strongest waves."""
    image = square_image(settings, SIZE).mean((0, 1)).double()
    waves = plane_waves(image, SHOWN)
    sheet = Sheet()
    cell = PAGE_WIDTH / (1 + len(SHOWN))
    width, top, second = cell - GAP, 0.34, 0.34 + cell + 0.42
    sheet.text(cell / 2, 0.17, "image")
    sheet.map(GAP / 2, top, width, image, (0, 1))
    sheet.text(cell / 2, second - 0.17, "spectrum")
    middle = slice(SIZE // 2 - REACH, SIZE // 2 + REACH + 1)
    spectrum = log_spectrum(image[None, None])[middle, middle]
    marked = sheet.map(GAP / 2, second, width, spectrum, limits(spectrum)).axes
    values: dict[str, dict[str, float]] = {"amplitude": {}, "variance_share": {}}
    for number, ((u, v), wave) in enumerate(zip(SHOWN, waves, strict=True), 1):
        x = number * cell + GAP / 2
        size = float(torch.fft.fft2(image)[u, v].abs()) * 2 / image.numel()
        values["amplitude"][f"{u},{v}"] = size
        sheet.text(x + width / 2, 0.02, f"{number}: (u, v) = ({u}, {v})".replace("-", "−"), SMALL)
        sheet.text(x + width / 2, 0.17, f"amplitude {size:.4f}", SMALL)
        sheet.map(x, top, width, wave, (-size, size))
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
    for number, count in enumerate(COUNTS, 1):
        x = number * cell + GAP / 2
        total = sum_of_strongest(image, count)
        share = float((total - image.mean()).square().mean() / image.var(correction=0))
        values["variance_share"][str(count)] = share
        sheet.text(x + width / 2, second - 0.32, f"{count:,} waves" + (" (all)" if count == COUNTS[-1] else ""), SMALL)
        sheet.text(x + width / 2, second - 0.17, f"{share:.1%} of variance", SMALL)
        sheet.map(x, second, width, total, (0, 1))
    caption = (
        f"Sinusoidal components of {image_name(settings)} in grey ({SIZE}×{SIZE}, intensities from 0 to 1). Above: the "
        "waves at six frequencies, u periods down and v across, each in its own contrast; below, those frequencies in "
        f"the log spectrum (up to {REACH} periods), and sums of the strongest waves, the mean brightness among them."
    )
    sheet.caption(caption)
    return Drawing(sheet.finish(), caption, values)
