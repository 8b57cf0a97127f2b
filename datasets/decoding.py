"""From the bytes of an image file to pixels of a fixed size.

The steps are those of the authors' pipeline (Pillow, then torchvision's ``Resize`` and ``CenterCrop`` on PIL
images), bit for bit on ordinary RGB files; ``ffl.decoding`` says what becomes of others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ffl.decoding import JPEGDecoder, decode_rgb

Item = tuple[str, ...]  # what is decoded together: paths relative to the root, in the order that the decoder takes them


@dataclass(frozen=True)
class ArraySpec:
    """Type and shape of one array of an item, such as ("uint8", (3, 64, 64))."""

    dtype: str
    shape: tuple[int, ...]


class Decoder(Protocol):
    """Makes the arrays of an item from the bytes of its files.

    It must be a frozen dataclass, so that it can be sent to worker processes and its fields can enter the key. The
    output may depend on nothing but those and the bytes. It raises ValueError, with the reason, for files that it
    cannot decode. A field ``jpeg`` says which decoder takes JPEG files.
    """

    @property
    def arrays(self) -> dict[str, ArraySpec]: ...

    # One positional argument of bytes for each file of an item.
    @property
    def __call__(self) -> Callable[..., dict[str, np.ndarray]]: ...


def undecodable(data: bytes) -> str | None:
    """Why an image file cannot be decoded; None where it can."""
    try:
        decode_rgb(data)
    except ValueError as err:
        return str(err)
    return None


def undecodable_file(path: Path) -> str | None:
    """Why the image file at ``path`` cannot be decoded; None where it can."""
    try:
        return undecodable(path.read_bytes())
    except OSError as err:
        return str(err.strerror)


def resize_shorter_side(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to ``size``, aspect kept, bilinear with antialiasing; smaller images are enlarged."""
    width, height = image.size
    shorter, longer = min(width, height), max(width, height)
    scaled = int(size * longer / shorter)  # torchvision truncates
    target = (size, scaled) if width <= height else (scaled, size)
    return image if target == image.size else image.resize(target, Image.Resampling.BILINEAR)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The central ``size`` x ``size``; an odd margin is halved to the even side, as torchvision does."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


@dataclass(frozen=True)
class ResizeCrop:
    """Decoder of plain images: shorter side to ``image_size``, then the central square."""

    image_size: int
    exif_orientation: bool = False
    jpeg: JPEGDecoder = "pillow"

    @property
    def arrays(self) -> dict[str, ArraySpec]:
        """``image``: uint8 (3, image_size, image_size)."""
        return {"image": ArraySpec("uint8", (3, self.image_size, self.image_size))}

    def __call__(self, data: bytes) -> dict[str, np.ndarray]:
        # Resized first and then cropped, as in the paper's pipeline: the shorter side stays whole.
        image = resize_shorter_side(decode_rgb(data, self.exif_orientation, self.jpeg), self.image_size)
        return {"image": np.asarray(center_crop(image, self.image_size)).transpose(2, 0, 1)}
