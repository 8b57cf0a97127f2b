"""From the bytes of an image file to pixels of a fixed size.

The steps are those of the authors' pipeline (Pillow, then torchvision's ``Resize`` and ``CenterCrop`` on PIL
images), bit for bit on ordinary RGB files. Where a file is out of the ordinary:

- EXIF orientation is not applied unless asked for, as in the authors' pipeline.
- Transparency is composited over white; dropping it would show whatever colour lies under invisible pixels.
- 16-bit grey is scaled to 8 bits; Pillow alone would clip it to white.
- Of several frames the first is taken.
- Pillow's limit on pixels holds: more than 179 million are an error.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


@dataclass(frozen=True)
class ArraySpec:
    """Type and shape of one array of an item, such as ("uint8", (3, 64, 64))."""

    dtype: str
    shape: tuple[int, ...]


def decode_rgb(data: bytes, exif_orientation: bool = False) -> Image.Image:
    """Decode an image file to 8-bit RGB.

    Args:
        data: the whole file.
        exif_orientation: turn the image as its EXIF tag says.
    Raises:
        ValueError: not an image, cut short, too large, or without a known range of values.
    """
    try:
        with warnings.catch_warnings():
            # Between Pillow's limit and twice that it warns; large photographs are nothing to warn of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data))
            image.load()
        return to_rgb(ImageOps.exif_transpose(image) if exif_orientation else image)
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as err:
        # Pillow reports broken files by any of these, some with the address of the buffer in the text.
        reason = "not an image that Pillow can read" if isinstance(err, Image.UnidentifiedImageError) else str(err)
        raise ValueError(reason) from err


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


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL mode to RGB, as the module docstring says.

    Raises:
        ValueError: floats, or integers beyond 16 bits, whose range nothing tells.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError(f"integer grey values {levels.min()}..{levels.max()} are outside 16 bits")
        # 257 = 65535 / 255: 16-bit white becomes 8-bit white.
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point grey values have no known range")
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def resize_shorter_side(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to ``size``, aspect kept, bilinear with antialiasing; smaller images are enlarged."""
    width, height = image.size
    shorter, longer = min(width, height), max(width, height)
    scaled = int(size * longer / shorter)
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

    @property
    def arrays(self) -> dict[str, ArraySpec]:
        """``image``: uint8 (3, image_size, image_size)."""
        return {"image": ArraySpec("uint8", (3, self.image_size, self.image_size))}

    def __call__(self, data: bytes) -> dict[str, np.ndarray]:
        image = resize_shorter_side(decode_rgb(data, self.exif_orientation), self.image_size)
        return {"image": np.asarray(center_crop(image, self.image_size)).transpose(2, 0, 1)}
