"""The image of figures that need one image and no run: a file of the user's, or an embedded photograph."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets.photos import read_photograph
from ffl.decoding import decode_rgb
from ffl.errors import UserError
from scripts.figures.sources import Settings

EMBEDDED = "chelsea.png"  # a cat: fur has fine detail in all directions


def square_image(settings: Settings, size: int) -> Tensor:
    """The largest square from the middle, reduced to ``size``: float32 (1, 3, size, size) in [0, 1].

    Raises:
        UserError: if the file is not an image, or smaller than ``size``.
    """
    path = settings.image
    if path is None:
        photograph = decode_rgb(read_photograph(EMBEDDED))
    else:
        photograph = _read(path)
    side = min(photograph.size)
    if side < size:
        raise UserError(
            f"image={path}: {photograph.width}x{photograph.height}; this figure takes {size}x{size} or more"
        )
    left, top = (photograph.width - side) // 2, (photograph.height - side) // 2
    square = photograph.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BOX)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255


def image_name(settings: Settings) -> str:
    """What captions call it."""
    return "the embedded photograph chelsea" if settings.image is None else settings.image.name


def _read(path: Path) -> Image.Image:
    try:
        return decode_rgb(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"image={path}: not a readable image ({error})") from None
