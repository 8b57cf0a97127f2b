"""Layers with equalised learning rate (Karras et al., 2018): weights of unit variance, scaled when they are used.

What a comment says of speed was measured as in ``ops``.
"""

import math

import torch
from torch import Tensor, nn

from models.stylegan2.ops import LEAKY_GAIN, Activation, bias_act, conv2d, downsample2d, fir_kernel, upfirdn2d


class EqualizedLinear(nn.Module):
    """Fully connected layer.

    Args:
        in_features: I.
        out_features: O.
        activation: "linear" or "lrelu", with its gain.
        lr_multiplier: how much slower than others the layer learns: weights are stored that much larger.
        bias_init: initial bias as it acts on the output.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: Activation = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        # Adam's steps do not depend on the size of a gradient: weights that are stored larger learn more slowly.
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.activation: Activation = activation
        gain = LEAKY_GAIN if activation == "lrelu" else 1.0  # of the activation, which commutes with it
        self.weight_gain = gain * lr_multiplier / math.sqrt(in_features)
        self.bias_gain = gain * lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """(N, I) to (N, O)."""
        x = torch.addmm(self.bias, x, self.weight.t(), beta=self.bias_gain, alpha=self.weight_gain)
        return bias_act(x, None, self.activation, gain=1.0, inplace=True)


class EqualizedConv2d(nn.Module):
    """Convolution that keeps the size, or halves it behind the FIR filter.

    Args:
        in_channels: I.
        out_channels: O.
        kernel_size: k, odd.
        activation: "linear" or "lrelu", with its gain.
        bias: whether there is one.
        down: 1 or 2.
        clamp: limit of the output's magnitude, None for none.
    """

    fir: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        activation: Activation = "linear",
        bias: bool = True,
        down: int = 1,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.activation: Activation = activation
        self.activation_gain = LEAKY_GAIN if activation == "lrelu" else 1.0
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.down = down
        self.clamp = clamp
        self.register_buffer("fir", fir_kernel(), persistent=False)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """(N, I, H, W) to (N, O, H / down, W / down), in the type of ``x``; ``gain`` is a factor on the result."""
        # All gains commute with the convolution, and scale its weights: they are fewer than its outputs, and it is 1.1
        # times as fast.
        commuting = self.activation_gain * gain
        weight = (self.weight * (self.weight_gain * commuting)).to(x.dtype)
        bias = None if self.bias is None else (self.bias * commuting).to(x.dtype)
        padding = self.weight.shape[-1] // 2
        if self.down == 1:
            x = conv2d(x, weight, bias, padding=padding)
        elif padding == 0:  # what a 1x1 convolution would skip need not be filtered either: 1.7 times as fast
            x = conv2d(downsample2d(x, self.fir), weight, bias)
        else:
            taps = self.fir.shape[-1]
            around = (padding + (taps - 1) // 2, padding + (taps - 2) // 2)
            x = conv2d(upfirdn2d(x, self.fir, padding=around), weight, bias, stride=self.down)
        clamp = None if self.clamp is None else self.clamp * gain
        return bias_act(x, None, self.activation, gain=1.0, clamp=clamp, inplace=True)
