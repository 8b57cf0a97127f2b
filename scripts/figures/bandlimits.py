"""Figure 2: what an image looks like without some of its spatial frequencies."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ffl.spectrum import band_filter
from scripts.figures.photograph import image_name, square_image
from scripts.figures.sources import Drawing, Settings
from scripts.figures.style import GAP, PAGE_WIDTH, SMALL, TITLE, Sheet

SIZE = 256


@dataclass(frozen=True)
class Band:
    """A ring of frequencies that is taken away.

    Attributes:
        label: of the column.
        rings: (low, high) in cycles per image: low <= radius < high; all of them go.
    """

    label: str
    rings: tuple[tuple[float, float], ...]

    def __call__(self, images: Tensor) -> Tensor:
        """``images`` without the rings."""
        for low, high in self.rings:
            images = band_filter(images, low, high, stop=True)
        return images


BANDS = (
    Band("original", ()),
    Band("without the centre", ((0, 0.5),)),
    Band("low-pass", ((20, float("inf")),)),
    Band("high-pass", ((0, 6),)),
    Band("band-stop", ((12, 40),)),
)


def figure2(settings: Settings) -> Drawing:
    """An image, filtered in four ways, above the spectra that are left."""
    image = square_image(settings, SIZE)
    sheet = Sheet()
    cell = PAGE_WIDTH / len(BANDS)
    brightest = float(amplitude(image).max())
    for column, band in enumerate(BANDS):
        filtered = band(image)
        x = column * cell + GAP / 2
        sheet.text(x + cell / 2, 0.02, band.label, TITLE)
        sheet.text(x + cell / 2, 0.19, left_over(band), SMALL, colour="#444444")
        sheet.picture(x, 0.36, cell - GAP, filtered[0].clamp(0, 1) * 2 - 1)
        sheet.map(x, 0.36 + cell, cell - GAP, amplitude(filtered), (0, brightest))
    caption = (
        f"Band limiting of {image_name(settings)} ({SIZE}×{SIZE}, intensities from 0 to 1, clipped to that range when "
        "shown). Radii that are left are in cycles per image. Below: log(1 + |F|), mean of the channels, zero "
        "frequency in the middle; black is removed."
    )
    sheet.caption(caption)
    values = {band.label: {"removed": band.rings, "energy_left": energy_left(image, band(image))} for band in BANDS}
    return Drawing(sheet.finish(), caption, values)


def amplitude(images: Tensor) -> Tensor:
    """log(1 + |F|) of intensities in [0, 255], mean of the channels, centred: (1, 3, H, W) to (H, W)."""
    return torch.fft.fftshift(torch.fft.fft2(images * 255).abs().log1p().mean((0, 1)))


def energy_left(image: Tensor, filtered: Tensor) -> float:
    """Share of the energy, the mean brightness included."""
    return float(filtered.square().sum() / image.square().sum())


def left_over(band: Band) -> str:
    """What is left, in words."""
    if not band.rings:
        return " "
    ((low, high),) = band.rings
    if high == float("inf"):
        return f"radius < {low:g}"
    if low > 0:
        return f"radius < {low:g} or ≥ {high:g}"
    return f"radius ≥ {max(1, high):g}"
