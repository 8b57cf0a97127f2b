"""The residual discriminator of StyleGAN2, config F (Karras et al., 2020)."""

import math

import torch
from torch import Tensor, nn

from models.stylegan2.generator import BOTTOM, LowPrecision, block_channels, block_dtype, block_resolutions
from models.stylegan2.layers import EqualizedConv2d, EqualizedLinear


def minibatch_stddev(x: Tensor, group_size: int) -> Tensor:
    """Append the mean standard deviation over groups of images as a feature map (Karras et al., 2018, Section 3).

    Args:
        x: float (N, C, H, W).
        group_size: images of a group, N / group_size apart from each other; the largest divisor of N up to it.
    Returns:
        (N, C + 1, H, W)
    """
    num_images, _, height, width = x.shape
    group = max(size for size in range(1, min(group_size, num_images) + 1) if num_images % size == 0)
    grouped = x.unflatten(0, (group, -1))
    variance = (grouped - grouped.mean(0)).square().mean(0)  # twice as fast as var(0) (CPU)
    deviation = (variance + 1e-8).sqrt().mean((1, 2, 3))
    return torch.cat([x, deviation.repeat(group)[:, None, None, None].expand(-1, 1, height, width)], 1)


class DiscriminatorBlock(nn.Module):
    """Two 3x3 convolutions that halve the resolution, and a linear skip around them.

    Args:
        in_channels: I.
        out_channels: O.
        clamp: limit of activations, None for none.
    """

    def __init__(self, in_channels: int, out_channels: int, clamp: float | None) -> None:
        super().__init__()
        self.conv0 = EqualizedConv2d(in_channels, in_channels, 3, "lrelu", clamp=clamp)
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3, "lrelu", down=2, clamp=clamp)
        self.skip = EqualizedConv2d(in_channels, out_channels, 1, bias=False, down=2, clamp=clamp)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) to (N, O, H / 2, W / 2)."""
        # The sum of two branches has twice the variance of one.
        gain = math.sqrt(0.5)
        return self.conv1(self.conv0(x), gain) + self.skip(x, gain)


class Discriminator(nn.Module):
    """Images to logits.

    Args:
        resolution: of the images, a power of two from 8 up.
        channel_base: feature maps times resolution, see ``generator.block_channels``.
        channel_max: most feature maps of a layer.
        mbstd_group: images of a group of the minibatch standard deviation.
        clamp: limit of activations, for float16; None for none.
        num_low_precision: how many of the highest resolutions run in ``low_precision``.
        low_precision: "float16", on a GPU only, or "bfloat16".
    """

    def __init__(
        self,
        resolution: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        mbstd_group: int = 4,
        clamp: float | None = None,
        num_low_precision: int = 0,
        low_precision: LowPrecision = "float16",
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.num_low_precision = num_low_precision
        self.low_precision: LowPrecision = low_precision
        self.mbstd_group = mbstd_group
        sizes = block_resolutions(resolution)[:0:-1]
        channels = block_channels(resolution, channel_base, channel_max)
        self.from_rgb = EqualizedConv2d(3, channels, 1, "lrelu", clamp=clamp)
        self.blocks = nn.ModuleDict()
        for size in sizes:
            out_channels = block_channels(size // 2, channel_base, channel_max)
            self.blocks[str(size)] = DiscriminatorBlock(channels, out_channels, clamp)
            channels = out_channels
        self.conv = EqualizedConv2d(channels + 1, channels, 3, "lrelu", clamp=clamp)
        self.linear = EqualizedLinear(channels * BOTTOM**2, channels, "lrelu")
        self.out = EqualizedLinear(channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, resolution, resolution) in [-1, 1] to logits (N, 1).

        Raises:
            ValueError: for images of another shape.
        """
        expected = (3, self.resolution, self.resolution)
        if images.shape[1:] != expected:
            raise ValueError(f"expected images (N, {', '.join(map(str, expected))}), got {tuple(images.shape)}")
        x = images.contiguous(memory_format=torch.channels_last)
        for name, block in self.blocks.items():
            x = x.to(block_dtype(int(name), self.resolution, self.num_low_precision, self.low_precision, images))
            x = block(self.from_rgb(x) if int(name) == self.resolution else x)
        # The variety of a minibatch shows the discriminator a generator that makes the same image again and again.
        x = self.conv(minibatch_stddev(x.to(images.dtype), self.mbstd_group))
        return self.out(self.linear(x.flatten(1)))
