"""Layers that the networks of SPADE share."""

from torch import nn
from torch.nn.utils import spectral_norm


def spectral_instance(conv: nn.Conv2d) -> nn.Sequential:
    """A convolution under spectral norm, then instance norm, which would undo a bias of the convolution."""
    if conv.bias is not None:
        raise ValueError("spectral_instance takes a convolution without bias")
    return nn.Sequential(spectral_norm(conv), nn.InstanceNorm2d(conv.out_channels))


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
