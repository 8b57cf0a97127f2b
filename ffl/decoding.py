"""From the bytes of an image file to 8-bit RGB: one decoder for training and evaluation, Pillow as in the paper.

"turbo" leaves JPEG files to torchvision, some builds of which are faster than Pillow. Both call libjpeg-turbo and give
equal pixels where both are built with the same version of it; files that torchvision cannot read are left to Pillow.

Ordinary RGB files give what ``Image.open(...).convert("RGB")`` does, bit for bit. For others:

- EXIF orientation is not applied unless asked for, as in the authors' pipeline.
- Transparency is composited over white; dropping it would show whatever colour lies under invisible pixels.
- 16-bit grey is scaled to 8 bits; Pillow alone would clip it to white.
- Of several frames the first is taken.
- Pillow's limit on pixels holds: more than 179 million are an error.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

JPEGDecoder = Literal["pillow", "turbo"]
JPEG_MAGIC = b"\xff\xd8\xff"


def decode_rgb(data: bytes, exif_orientation: bool = False, jpeg: JPEGDecoder = "pillow") -> Image.Image:
    """Decode an image file to 8-bit RGB.

    Args:
        data: the whole file.
        exif_orientation: turn the image as its EXIF tag says.
        jpeg: decoder of JPEG files.
    Raises:
        ValueError: not an image, cut short, too large, or without a known range of values.
    """
    with _give_one_reason():
        if jpeg == "turbo" and data[:3] == JPEG_MAGIC and not exif_orientation:
            image = _by_torchvision(data)
            if image is not None:
                return image
        image = load_image(data)
        return to_rgb(ImageOps.exif_transpose(image) if exif_orientation else image)


def load_image(data: bytes) -> Image.Image:
    """Read the first frame of an image file in its own mode, without converting its values.

    Raises:
        ValueError: not an image, cut short or too large.
    """
    with _give_one_reason():
        image: Image.Image = Image.open(io.BytesIO(data))
        image.load()
        return image


def _by_torchvision(data: bytes) -> Image.Image | None:
    """A colour JPEG; None where torchvision cannot read it, or it is grey or of four inks, for Pillow to convert."""
    import torch
    from torchvision.io import decode_jpeg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the buffer is not writable, and nobody writes
        encoded = torch.frombuffer(data, dtype=torch.uint8)
    try:
        pixels = decode_jpeg(encoded)
    except RuntimeError:
        return None
    return Image.fromarray(pixels.permute(1, 2, 0).numpy()) if len(pixels) == 3 else None


@contextlib.contextmanager
def _give_one_reason() -> Iterator[None]:
    """Raise ValueError for what Pillow cannot decode inside the block, and silence its warnings about what it can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large photographs, damaged tags and the like
            yield
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as err:
        # Pillow reports broken files by any of these, some with the address of the buffer in the text.
        reason = "not an image that Pillow can read" if isinstance(err, Image.UnidentifiedImageError) else str(err)
        raise ValueError(reason) from err


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any PIL mode to RGB, as the module's docstring says.

    Raises:
        ValueError: if its values are floats, or integers beyond 16 bits, so that their range is not known.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        # These modes hold 16-bit grey, and "I" any other integers of 32 bits as well.
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
