"""Layers that the networks of SPADE share."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MANY_CHANNELS = 256
SPECTRAL_EPS = 1e-12


def suitable_layout(x: Tensor) -> Tensor:
    """Feature maps (N, C, H, W) in a memory layout that suits a CPU's convolutions; on a GPU as they are.

    With many channels, channels last has larger rounding errors, because it adds up all products in one chain, and
    takes 1.5 to 1.8 times as long (512 to 1024 channels at 4x4).
    """
    # With few channels it depends on the processor. On one thread of an AMD EPYC a step of SPADE with ngf=16 at 128x128
    # takes the same time with channels first throughout, and a convolution of 64 channels at 256x256 takes 0.7 times as
    # long with them. The choice stays because the last digits of recorded runs follow from it.
    if x.device.type != "cpu":
        return x
    channels, pixels = x.shape[1], x.numel() // max(1, x.shape[1])
    first = channels > MANY_CHANNELS or channels >= pixels
    return x.contiguous(memory_format=torch.contiguous_format if first else torch.channels_last)


class SpectralConv2d(nn.Conv2d):
    """Convolution whose weight is divided by its largest singular value (Miyato et al., 2018).

    As ``torch.nn.utils.spectral_norm``, with the same keys, initial values and results: in training one power iteration
    per call moves the singular vectors, which are constants in the derivative.

    Args:
        arguments, options: of ``nn.Conv2d``.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # The parameter has the key of torch's spectral norm, and so of official checkpoints.
        weight = self.weight.detach()
        del self.weight
        self.weight_orig = nn.Parameter(weight)
        for name, size in zip(("weight_u", "weight_v"), weight.flatten(1).shape, strict=True):
            self.register_buffer(name, F.normalize(weight.new_empty(size).normal_(), dim=0, eps=SPECTRAL_EPS))

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) to (N, O, h, w)."""
        weight, sigma = _SpectralNorm.apply(self.weight_orig, *self._singular())
        factor = sigma.reciprocal()
        # Deep layers have large weights and small maps: dividing the smaller of the two is 1.3 to 1.7 times as fast.
        # Together with the derivative below, that is 1.6 to 2.5 times as fast as torch's spectral norm (256 to 1024
        # channels at 4x4, forward and backward, one CPU thread).
        if x.numel() < weight.numel():
            return self._conv_forward(x * factor, weight, self.bias)
        return self._conv_forward(x, weight * factor, self.bias)

    @torch.no_grad()
    def _singular(self) -> tuple[Tensor, Tensor, Tensor]:
        """Left and right singular vector and their value, in full precision under autocast too."""
        with torch.autocast(self.weight_orig.device.type, enabled=False):
            matrix, u, v = self.weight_orig.flatten(1), self.weight_u, self.weight_v
            if not self.training:
                return u, v, u.dot(matrix.mv(v))
            v = F.normalize(matrix.t().mv(u), dim=0, eps=SPECTRAL_EPS)
            stretched = matrix.mv(v)
            u = F.normalize(stretched, dim=0, eps=SPECTRAL_EPS)
            self.weight_u.copy_(u)  # copies, so that the derivative of this call survives the next one
            self.weight_v.copy_(v)
            return u, v, u.dot(stretched)


class _SpectralNorm(torch.autograd.Function):
    """The weight as it is, and σ = uᵀ W v as a function of it: dσ/dW = u vᵀ."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, u: Tensor, v: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, v)
        return weight.view_as(weight), sigma.view_as(sigma)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        (weight, sigma), (u, v) = gradients, ctx.saved_tensors
        if weight is None or sigma is None:  # the output depends on both or on neither
            return None, None, None, None
        # One pass over the weight adds up both parts of its gradient.
        return torch.addr(weight.flatten(1), u * sigma, v).view_as(weight), None, None, None


class InstanceNorm(nn.Module):
    """``nn.InstanceNorm2d`` without parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        # The same numbers, 1.3 to 1.9 times as fast as torch's instance norm (64 channels at 33x33, one CPU thread).
        return F.group_norm(x.contiguous(), x.shape[1])


def spectral_instance(*arguments: int) -> nn.Sequential:
    """A convolution (arguments of ``nn.Conv2d``) under spectral norm, then instance norm, which would undo a bias."""
    return nn.Sequential(SpectralConv2d(*arguments, bias=False), InstanceNorm())


def init_xavier(network: nn.Module, gain: float = 0.02) -> None:
    """The official initialisation: Glorot's normal distribution with a small gain, biases 0.

    The gain does not change what a layer under spectral norm computes at first, but how far a step of Adam
    turns it.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight_orig if isinstance(module, SpectralConv2d) else module.weight
            nn.init.xavier_normal_(weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
