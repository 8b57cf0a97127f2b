"""What all figures share: page width, type, colours that colour-blind readers tell apart, how they are saved."""

import io
import textwrap
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from ffl.files import atomic_write
from ffl.images import to_uint8

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/): distinct under every common colour blindness.
BLACK, ORANGE, VERMILION, BLUE, GREY = "#000000", "#E69F00", "#D55E00", "#0072B2", "#8C8C8C"
COLOURS = {"real": BLACK, "w/o FFL": VERMILION, "w/ FFL": BLUE}
DIVERGING = "PuOr_r"  # orange above, purple below, white between

PAGE_WIDTH = 7.2  # inches, two columns of the paper
GAP = 0.04  # between images
TITLE, BODY, SMALL = 9.0, 8.0, 7.0  # points
CAPTION_COLUMNS = 140  # letters of size SMALL on a line
MAX_BYTES = 1_000_000
DPIS = (200, 160, 130, 100, 80)

matplotlib.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": BODY,
        "axes.titlesize": TITLE,
        "axes.labelsize": BODY,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "legend.fontsize": SMALL,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "lines.linewidth": 1.3,
        "image.interpolation": "nearest",
        "pdf.fonttype": 42,  # TrueType: text stays text
    }
)


class Sheet:
    """A figure of page width on which things are placed in inches from its top left corner.

    It grows downwards with what is placed; its height is known when it is finished.
    """

    width = PAGE_WIDTH

    def __init__(self) -> None:
        self.figure = Figure(figsize=(self.width, 1.0))
        self.height = 0.0
        self._placed: list[tuple[Artist, tuple[float, float, float, float]]] = []

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose frame has its top left corner at (x, y)."""
        axes = self.figure.add_axes((0, 0, 1, 1))
        self._place(axes, x, y, width, height)
        return axes

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = BODY,
        align: str = "center",
        rotation: float = 0,
        colour: str = BLACK,
    ) -> None:
        """Text with its top at y, or with its middle at y where it is turned."""
        artist = self.figure.text(
            0,
            0,
            text,
            size=size,
            ha="center" if rotation else align,
            va="center" if rotation else "baseline",
            rotation=rotation,
            color=colour,
            linespacing=1.25,
        )
        line = 1.25 * size / 72
        last = y if rotation else y + (text.count("\n") + 0.8) * line  # the baseline, which is that of the last line
        self._place(artist, x, last, 0, 0 if rotation else 0.2 * line)

    def picture(self, x: float, y: float, width: float, image: Tensor) -> Axes:
        """An image (3, H, W) in [-1, 1], as wide as said."""
        axes = self.axes(x, y, width, width * image.shape[1] / image.shape[2])
        axes.imshow(to_uint8(image, "rounded").permute(1, 2, 0).numpy())
        axes.set_axis_off()
        return axes

    def map(
        self,
        x: float,
        y: float,
        width: float,
        values: Tensor | np.ndarray,
        limits: tuple[float, float],
        cmap: str = "gray",
    ) -> AxesImage:
        """Values (H, W), such as a spectrum, from ``limits[0]`` (dark) to ``limits[1]`` (light)."""
        array = np.asarray(values)
        axes = self.axes(x, y, width, width * array.shape[0] / array.shape[1])
        image = axes.imshow(array, cmap=cmap, vmin=limits[0], vmax=limits[1])
        axes.set_axis_off()
        return image

    def _place(self, artist: Artist, x: float, y: float, width: float, height: float) -> None:
        self._placed.append((artist, (x, y, width, height)))
        self.height = max(self.height, y + height)

    def caption(self, text: str, gap: float = 0.08) -> None:
        """Small lines below everything: what is shown, and of which runs."""
        self.text(
            0.04,
            self.height + gap,
            "\n".join(textwrap.wrap(text, CAPTION_COLUMNS)),
            SMALL,
            align="left",
            colour="#444444",
        )

    def finish(self, margin: float = 0.06) -> Figure:
        """The figure, as high as what is on it."""
        # Only now is the height known, of which matplotlib wants everything as a fraction.
        height = self.height + margin
        self.figure.set_size_inches(self.width, height)
        for artist, (x, y, wide, high) in self._placed:
            if isinstance(artist, Axes):
                artist.set_position((x / self.width, 1 - (y + high) / height, wide / self.width, high / height))
            else:
                artist.set(x=x / self.width, y=1 - y / height)
        return self.figure


def limits(*maps: Tensor) -> tuple[float, float]:
    """The smallest and the largest value of several maps: one scale for all."""
    return min(float(values.min()) for values in maps), max(float(values.max()) for values in maps)


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and, beside it, as PDF, each below ``MAX_BYTES``.

    Images are in the PDF with the pixels that they have; where that is too much, they are drawn at the highest of
    ``DPIS`` that fits, as the whole PNG is.

    Args:
        figure: what ``Sheet.finish`` returned.
        path: of the PNG.
    Returns:
        The two paths.
    """
    paths = [path, path.with_suffix(".pdf")]
    for target in paths:
        content = b""
        for content in renderings(figure, target.suffix):
            if len(content) <= MAX_BYTES:
                break
        with atomic_write(target) as file:
            file.write(content)
    return paths


def renderings(figure: Figure, suffix: str) -> Iterator[bytes]:
    """The figure as a file, from the largest to the smallest."""
    # Text and lines of a PDF stay vectors; only pictures can be too large.
    images = [image for axes in figure.axes for image in axes.images]
    is_pdf = suffix == ".pdf"
    for rasterized, dpi in [(False, DPIS[0]), *((True, dpi) for dpi in DPIS)] if is_pdf else [(True, d) for d in DPIS]:
        for image in images:
            image.set_rasterized(rasterized)
        buffer = io.BytesIO()
        metadata = {"CreationDate": None} if is_pdf else {"Software": None}  # equal figures make equal files
        figure.savefig(buffer, format=suffix[1:], dpi=dpi, metadata=metadata)
        yield buffer.getvalue()
