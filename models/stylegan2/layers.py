"""Layers with equalised learning rate (Karras et al., 2018): weights of unit variance, scaled when they are used."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.stylegan2.ops import Activation, bias_act, conv2d, downsample2d, fir_kernel, upfirdn2d


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
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.activation: Activation = activation
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """(N, I) to (N, O)."""
        weight, bias = self.weight * self.weight_gain, self.bias * self.bias_gain
        if self.activation == "linear":
            return torch.addmm(bias, x, weight.t())
        return bias_act(F.linear(x, weight), bias, self.activation)


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
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.down = down
        self.clamp = clamp
        self.register_buffer("fir", fir_kernel(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) to (N, O, H / down, W / down), in the type of ``x``."""
        weight = (self.weight * self.weight_gain).to(x.dtype)
        padding = self.weight.shape[-1] // 2
        if self.down == 1:
            x = conv2d(x, weight, padding=padding)
        elif padding == 0:  # what a 1x1 convolution would skip need not be filtered either
            x = conv2d(downsample2d(x, self.fir), weight)
        else:
            taps = self.fir.shape[-1]
            around = (padding + (taps - 1) // 2, padding + (taps - 2) // 2)
            x = conv2d(upfirdn2d(x, self.fir, padding=around), weight, stride=self.down)
        return bias_act(x, self.bias, self.activation, clamp=self.clamp)
