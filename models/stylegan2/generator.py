"""The generator of StyleGAN2, config F (Karras et al., 2020): mapping network and synthesis network with skip RGB."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from models.stylegan2.layers import EqualizedLinear
from models.stylegan2.ops import LEAKY_GAIN, bias_act, fir_kernel, modulated_conv2d, upsample2d

BOTTOM = 4  # resolution of the learned constant
MAPPING_LR_MULTIPLIER = 0.01  # a deep mapping network is unstable at the learning rate of the rest (StyleGAN, App. C)
W_AVERAGE_DECAY = 0.995

Noise = Literal["const", "random", "none"] | Sequence[Tensor]
LowPrecision = Literal["float16", "bfloat16"]


def block_resolutions(resolution: int) -> list[int]:
    """4, 8, … up to ``resolution``, a power of two."""
    return [1 << level for level in range(2, resolution.bit_length())]


def block_channels(resolution: int, channel_base: int, channel_max: int) -> int:
    """Feature maps at a resolution: config F has base 32768, its half-channel variant 16384; at most 512."""
    return min(channel_base // resolution, channel_max)


def block_dtype(resolution: int, largest: int, count: int, low: LowPrecision, like: Tensor) -> torch.dtype:
    """Of a block: for the ``count`` highest resolutions bfloat16, or on a GPU float16; otherwise that of ``like``."""
    is_low = resolution << count > largest and (low == "bfloat16" or like.is_cuda)
    return getattr(torch, low) if is_low else like.dtype


class MappingNetwork(nn.Module):
    """From the latent z to the intermediate latent w; z is normalised to unit second moment.

    Args:
        latent_dim: of z and of w.
        num_layers: fully connected layers.
    """

    w_avg: Tensor

    def __init__(self, latent_dim: int = 512, num_layers: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(EqualizedLinear(latent_dim, latent_dim, "lrelu", MAPPING_LR_MULTIPLIER) for _ in range(num_layers))
        )
        self.register_buffer("w_avg", torch.zeros(latent_dim))

    def forward(self, z: Tensor) -> Tensor:
        """(N, latent_dim) to (N, latent_dim)."""
        return self.layers(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())

    @torch.no_grad()
    def track_average(self, w: Tensor) -> None:
        """Move the running mean of w, the centre of truncation, towards that of a batch (N, latent_dim)."""
        self.w_avg.lerp_(w.mean(0), 1 - W_AVERAGE_DECAY)

    def truncate(self, w: Tensor, psi: float, num_ws: int, cutoff: int | None = None) -> Tensor:
        """One w per layer, drawn towards the mean (StyleGAN, Appendix B): w_avg + ψ (w - w_avg).

        Args:
            w: (N, latent_dim), or (N, num_ws, latent_dim) of mixed styles.
            psi: 1 changes nothing, 0 gives the mean.
            num_ws: layers of the synthesis network.
            cutoff: only the first so many layers are truncated; None truncates all.
        Returns:
            (N, num_ws, latent_dim)
        """
        ws = w[:, None].expand(-1, num_ws, -1) if w.dim() == 2 else w
        if psi == 1:
            return ws
        drawn = self.w_avg + psi * (ws - self.w_avg)
        return drawn if cutoff is None else torch.cat([drawn[:, :cutoff], ws[:, cutoff:]], 1)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU.

    Args:
        in_channels: I.
        out_channels: O.
        latent_dim: of w.
        resolution: of the output.
        up: 1, or 2 to double the resolution.
        clamp: limit of the output's magnitude, None for none.
    """

    noise_const: Tensor
    fir: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, latent_dim: int, resolution: int, up: int, clamp: float | None
    ) -> None:
        super().__init__()
        # Styles start around 1, which modulates nothing on average.
        self.affine = EqualizedLinear(latent_dim, in_channels, bias_init=1.0)
        # There is no gain of equalised learning rate on the weight: demodulation would undo it.
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("fir", fir_kernel(), persistent=False)
        self.up = up
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """(N, I, H, W), (N, latent_dim), noise for (N, 1, up H, up W) or None, to (N, O, up H, up W)."""
        # The gain of the activation, which commutes with it, is on all that comes before.
        noise = None if noise is None else noise * (self.noise_strength * LEAKY_GAIN)
        x = modulated_conv2d(x, self.weight, self.affine(w), up=self.up, kernel=self.fir, gain=LEAKY_GAIN, noise=noise)
        return bias_act(x, self.bias * LEAKY_GAIN, gain=1.0, clamp=self.clamp, inplace=True)

    def draw_noise(self, num_images: int, noise: Literal["const", "random", "none"]) -> Tensor | None:
        """The layer's fixed noise, fresh noise for each image from torch's global generator, or none."""
        if noise == "random":
            return torch.randn(num_images, 1, *self.noise_const.shape, device=self.weight.device)
        return self.noise_const if noise == "const" else None


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation. Arguments as of ``SynthesisLayer``."""

    def __init__(self, in_channels: int, latent_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.affine = EqualizedLinear(latent_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight_gain = 1 / math.sqrt(in_channels)
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(N, I, H, W), (N, latent_dim) to RGB float (N, 3, H, W), at least float32."""
        y = modulated_conv2d(x, self.weight, self.affine(w), demodulate=False, gain=self.weight_gain)
        return bias_act(y, self.bias, "linear", clamp=self.clamp).to(w.dtype)


class SynthesisBlock(nn.Module):
    """One resolution: a layer that doubles the size (not in the first block), a layer, and RGB.

    Args:
        in_channels: of the features; None for the first block, which starts from a constant.
        out_channels: O.
        latent_dim: of w.
        resolution: of the output.
        clamp: limit of activations, None for none.
    """

    fir: Tensor

    def __init__(
        self, in_channels: int | None, out_channels: int, latent_dim: int, resolution: int, clamp: float | None
    ) -> None:
        super().__init__()
        first = in_channels is None
        self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution)) if first else None
        self.layers = nn.ModuleList()
        if in_channels is not None:
            self.layers.append(SynthesisLayer(in_channels, out_channels, latent_dim, resolution, 2, clamp))
        self.layers.append(SynthesisLayer(out_channels, out_channels, latent_dim, resolution, 1, clamp))
        self.to_rgb = ToRGB(out_channels, latent_dim, clamp)
        self.register_buffer("fir", fir_kernel(), persistent=False)

    def forward(
        self,
        x: Tensor | None,
        image: Tensor | None,
        ws: Tensor,
        noises: Sequence[Tensor | None],
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Features and image of the block before to those of this one.

        Args:
            x: (N, I, H / 2, W / 2), None for the first block.
            image: (N, 3, H / 2, W / 2), None for the first block.
            ws: (N, layers + 1, latent_dim), the last for RGB.
            noises: one per layer.
            dtype: of the features.
        """
        if self.const is not None:
            x = self.const.expand(len(ws), -1, -1, -1)
        assert x is not None
        x = x.to(dtype=dtype, memory_format=torch.channels_last)
        for layer, w, noise in zip(self.layers, ws[:, :-1].unbind(1), noises, strict=True):
            x = layer(x, w, noise)
        # Skip connections in place of progressive growing: every resolution adds its part of the image.
        contribution = self.to_rgb(x, ws[:, -1])
        return x, contribution if image is None else upsample2d(image, self.fir) + contribution


class SynthesisNetwork(nn.Module):
    """From one w per layer to an image. Arguments as of ``Generator``."""

    def __init__(
        self,
        resolution: int,
        latent_dim: int,
        channel_base: int,
        channel_max: int,
        clamp: float | None,
        num_low_precision: int,
        low_precision: LowPrecision,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.num_low_precision = num_low_precision
        self.low_precision: LowPrecision = low_precision
        self.blocks = nn.ModuleDict()
        channels = None
        for size in block_resolutions(resolution):
            out_channels = block_channels(size, channel_base, channel_max)
            self.blocks[str(size)] = SynthesisBlock(channels, out_channels, latent_dim, size, clamp)
            channels = out_channels

    @property
    def num_ws(self) -> int:
        """Layers that a style controls; the RGB layer of a block shares the w of the next block's first layer."""
        return 2 * len(self.blocks)

    def noise_layers(self) -> list[SynthesisLayer]:
        """The layers that take noise, from the lowest resolution up."""
        return [layer for block in self.blocks.values() for layer in block.layers]  # type: ignore[union-attr]

    def forward(self, ws: Tensor, noise: Noise = "const") -> Tensor:
        """Images (N, 3, resolution, resolution), [-1, 1] but for overshoot.

        Args:
            ws: float (N, num_ws, latent_dim).
            noise: "const" for the network's fixed noise, "random", "none", or one tensor per layer,
                broadcastable to (N, 1, H, W).
        Raises:
            ValueError: for ``ws`` or noise of another length.
        """
        if ws.dim() != 3 or ws.shape[1] != self.num_ws:
            raise ValueError(f"expected one w for each of {self.num_ws} layers, got shape {tuple(ws.shape)}")
        layers = self.noise_layers()
        noises: Sequence[Tensor | None] = (
            [layer.draw_noise(len(ws), noise) for layer in layers] if isinstance(noise, str) else noise
        )
        if len(noises) != len(layers):
            raise ValueError(f"expected noise for each of {len(layers)} layers, got {len(noises)} tensors")
        # A block takes the styles of its layers and, for RGB, that of the next block's first layer.
        x = image = None
        start = 0
        for name, block in self.blocks.items():
            count = len(block.layers)  # type: ignore[arg-type]
            dtype = block_dtype(int(name), self.resolution, self.num_low_precision, self.low_precision, ws)
            x, image = block(
                x,
                image,
                ws[:, start : start + count + 1],
                noises[start : start + count],
                dtype,
            )
            start += count
        assert image is not None
        return image


class Generator(nn.Module):
    """Mapping and synthesis network.

    Args:
        resolution: of the images, a power of two from 8 up.
        latent_dim: of z and w.
        num_mapping_layers: of the mapping network.
        channel_base: feature maps times resolution, see ``block_channels``.
        channel_max: most feature maps of a layer.
        clamp: limit of activations, for float16; None for none.
        num_low_precision: how many of the highest resolutions run in ``low_precision``.
        low_precision: "float16", on a GPU only, or "bfloat16".
    """

    def __init__(
        self,
        resolution: int,
        latent_dim: int = 512,
        num_mapping_layers: int = 8,
        channel_base: int = 32768,
        channel_max: int = 512,
        clamp: float | None = None,
        num_low_precision: int = 0,
        low_precision: LowPrecision = "float16",
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.mapping = MappingNetwork(latent_dim, num_mapping_layers)
        self.synthesis = SynthesisNetwork(
            resolution, latent_dim, channel_base, channel_max, clamp, num_low_precision, low_precision
        )

    def forward(self, z: Tensor, psi: float = 1.0, noise: Noise = "const", cutoff: int | None = None) -> Tensor:
        """Latents (N, latent_dim) to images (N, 3, resolution, resolution), [-1, 1] but for overshoot.

        Args:
            z: standard normal.
            psi, cutoff: of truncation, see ``MappingNetwork.truncate``.
            noise: see ``SynthesisNetwork.forward``.
        """
        ws = self.mapping.truncate(self.mapping(z), psi, self.synthesis.num_ws, cutoff)
        return self.synthesis(ws, noise)


def mix_styles(first: Tensor, second: Tensor, num_ws: int, start: Tensor) -> Tensor:
    """Style mixing (StyleGAN, Section 3.1): one latent for the first layers, another from a layer on.

    Args:
        first: (N, latent_dim)
        second: (N, latent_dim)
        num_ws: layers of the synthesis network.
        start: int64 (N,), the first layer of each image that takes ``second``; ``num_ws`` mixes nothing.
    Returns:
        (N, num_ws, latent_dim)
    """
    takes_second = torch.arange(num_ws, device=start.device) >= start[:, None]
    return torch.where(takes_second[:, :, None], second[:, None], first[:, None])
