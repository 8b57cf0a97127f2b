"""The only place where images change between uint8 [0, 255] and float [-1, 1].

Two quantisations exist because published numbers depend on them:

- ``paper``: truncation, as the authors' evaluation writes its images. A perfect reconstruction still moves 63 of
  the 256 grey levels by one, since x / 255 is not exact in float32.
- ``rounded``: to the nearest level; uint8 -> float -> uint8 is the identity.
"""

from typing import Literal

import torch
from torch import Tensor

Protocol = Literal["paper", "rounded"]


def from_uint8(images: Tensor) -> Tensor:
    """Scale images to the range that models work in.

    Args:
        images: uint8, any shape, [0, 255].
    Returns:
        float32 of the same shape, [-1, 1], by the arithmetic of ToTensor and Normalize(0.5, 0.5).

    Examples:
        >>> from_uint8(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([-1.,  1.])
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"from_uint8 takes uint8 images, got {images.dtype}")
    return images.float().div_(255).sub_(0.5).div_(0.5)


def to_uint8(images: Tensor, protocol: Protocol) -> Tensor:
    """Quantise model output to 8 bits.

    Args:
        images: float, any shape, [-1, 1]; values outside are clamped.
        protocol: "paper" truncates, "rounded" rounds to nearest.
    Returns:
        uint8 of the same shape.

    Examples:
        >>> images = torch.tensor([-1.0, 0.0, 2.0])
        >>> to_uint8(images, "paper"), to_uint8(images, "rounded")
        (tensor([  0, 127, 255], dtype=torch.uint8), tensor([  0, 128, 255], dtype=torch.uint8))
    """
    scaled = (images.float().clamp(-1, 1) + 1) / 2 * 255
    if protocol == "rounded":
        scaled = scaled.round()
    elif protocol != "paper":
        raise ValueError(f'protocol must be "paper" or "rounded", got {protocol!r}')
    return scaled.to(torch.uint8)
