"""Damage of known kind and strength, which a metric should see and rank."""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms


def blur(images: Tensor, sigma: float, seed: int) -> Tensor:
    """Gaussian blur of ``sigma`` pixels, the border mirrored; takes away high frequencies."""
    size = 2 * math.ceil(3 * sigma) + 1
    return to_grey_levels(transforms.gaussian_blur(images.float(), [size, size], [sigma, sigma]))


def noise(images: Tensor, sigma: float, seed: int) -> Tensor:
    """White Gaussian noise of ``sigma`` grey levels, apart for each channel; adds power at all frequencies alike."""
    # One draw for all strengths, so that they differ in nothing else.
    generator = torch.Generator().manual_seed(seed)
    return to_grey_levels(images + sigma * torch.randn(images.shape, generator=generator))


def jpeg(images: Tensor, quality: float, seed: int) -> Tensor:
    """JPEG as Pillow writes it at this quality, colours at half the resolution; drops detail and draws blocks."""
    decoded = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="JPEG", quality=int(quality))
        decoded.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def checkerboard(images: Tensor, amplitude: float, seed: int) -> Tensor:
    """Neighbouring pixels up and down by ``amplitude`` grey levels in turn: the highest frequency, and it alone."""
    rows, columns = (torch.arange(size) for size in images.shape[-2:])
    sign = 1 - 2 * ((rows[:, None] + columns) % 2)
    return to_grey_levels(images + amplitude * sign)


def colour_shift(images: Tensor, shift: float, seed: int) -> Tensor:
    """Red up and blue down by ``shift`` grey levels: nothing but the mean changes, as long as no value is cut off."""
    return to_grey_levels(images + shift * torch.tensor([1.0, 0.0, -1.0])[:, None, None])


def to_grey_levels(images: Tensor) -> Tensor:
    """Round to uint8, cut off at 0 and 255."""
    return images.round().clamp(0, 255).to(torch.uint8)


# The function of each kind, what its strength is, and three strengths, from hardly to plainly visible.
DAMAGES: dict[str, tuple[Callable[[Tensor, float, int], Tensor], str, tuple[float, float, float]]] = {
    "blur": (blur, "sigma in pixels", (0.5, 1, 2)),
    "noise": (noise, "sigma in grey levels", (5, 10, 25)),
    "jpeg": (jpeg, "quality", (75, 40, 15)),
    "checkerboard": (checkerboard, "amplitude in grey levels", (4, 8, 16)),
    "colour": (colour_shift, "grey levels", (4, 8, 16)),
}
