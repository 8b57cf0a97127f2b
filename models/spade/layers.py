"""Layers that the networks of SPADE share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

MANY_CHANNELS = 256


def suitable_layout(x: Tensor, channels: int) -> Tensor:
    """Features in the memory layout in which a CPU convolves that many channels faster; as they are on a GPU.

    Few channels: channels last, up to twice as fast. Many: channels first, which sums up more exactly as well.
    """
    if x.device.type != "cpu":
        return x
    return x.contiguous(memory_format=torch.channels_last if channels < MANY_CHANNELS else torch.contiguous_format)


class InstanceNorm(nn.Module):
    """``nn.InstanceNorm2d`` without parameters, in an operator that is three times as fast on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return F.group_norm(x.contiguous(), x.shape[1])


def spectral_instance(conv: nn.Conv2d) -> nn.Sequential:
    """A convolution under spectral norm, then instance norm, which would undo a bias of the convolution."""
    if conv.bias is not None:
        raise ValueError("spectral_instance takes a convolution without bias")
    return nn.Sequential(spectral_norm(conv), InstanceNorm())


def init_xavier(network: nn.Module, gain: float = 0.02) -> None:
    """The official initialisation: Glorot's normal distribution with a small gain, biases 0.

    The gain does not change what a layer under spectral norm computes at first, but how far a step of Adam
    turns it.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = getattr(module, "weight_orig", module.weight)  # spectral norm keeps the parameter there
            nn.init.xavier_normal_(weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
