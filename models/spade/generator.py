"""Generator of SPADE; keys and shapes of its state dict are those of the official release."""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffl.training.distributed import SyncBatchNorm2d
from models.spade.layers import SpectralConv2d, suitable_layout

Upsampling = Literal["normal", "more", "most"]

# How often the resolution doubles between the first feature map and the image.
DOUBLINGS: dict[Upsampling, int] = {"normal": 5, "more": 6, "most": 7}


class SpadeNorm(nn.Module):
    """Batch normalisation whose scale and shift at each pixel come from the semantic map.

    Args:
        num_features: channels to normalise.
        semantic_channels: of the semantic map.
        hidden: channels between the map and the modulation.
    """

    def __init__(self, num_features: int, semantic_channels: int, hidden: int) -> None:
        super().__init__()
        # Without weights of its own: scale and shift are those of the modulation.
        self.param_free_norm = SyncBatchNorm2d(num_features, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(semantic_channels, hidden, 3, padding=1), nn.ReLU(inplace=True))
        self.mlp_gamma = nn.Conv2d(hidden, num_features, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, num_features, 3, padding=1)

    def forward(self, x: Tensor, semantics: Tensor) -> Tensor:
        """(N, num_features, h, w) and (N, semantic_channels, h, w) to (N, num_features, h, w)."""
        return self.modulate(self.param_free_norm(x), semantics)

    def modulate(self, normalised: Tensor, semantics: Tensor) -> Tensor:
        """x (1 + γ) + β with γ and β from the semantic map, in new memory; shapes as in ``forward``."""
        hidden = self.mlp_shared(semantics)
        # The 1 goes into the bias of γ, and β is added in place: two passes over memory less, 1 to 2 % of the time.
        gamma, beta = self.mlp_gamma, self.mlp_beta(hidden)
        assert gamma.bias is not None
        return (normalised * F.conv2d(hidden, gamma.weight, gamma.bias + 1, padding=1)).add_(beta)


class SpadeBlock(nn.Module):
    """Residual block of two SPADE-normalised convolutions; the shortcut is learned where the channels change.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        semantic_channels: of the semantic map.
        hidden: see ``SpadeNorm``.
    """

    def __init__(self, in_channels: int, out_channels: int, semantic_channels: int, hidden: int) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        self.learned_shortcut = in_channels != out_channels
        self.conv_0 = SpectralConv2d(in_channels, middle, 3, padding=1)
        self.conv_1 = SpectralConv2d(middle, out_channels, 3, padding=1)
        self.norm_0 = SpadeNorm(in_channels, semantic_channels, hidden)
        self.norm_1 = SpadeNorm(middle, semantic_channels, hidden)
        if self.learned_shortcut:
            self.conv_s = SpectralConv2d(in_channels, out_channels, 1, bias=False)
            self.norm_s = SpadeNorm(in_channels, semantic_channels, hidden)

    def forward(self, x: Tensor, semantics: Tensor) -> Tensor:
        """(N, in_channels, h, w) and (N, semantic_channels, h, w) to (N, out_channels, h, w)."""
        # Main path and learned shortcut normalise the same x. The shortcut has no activation, as in the official code.
        if self.learned_shortcut:
            normalised, for_shortcut = normalise_twice(x, self.norm_0.param_free_norm, self.norm_s.param_free_norm)
            shortcut = self.conv_s(self.norm_s.modulate(for_shortcut, semantics))
            x = self.norm_0.modulate(normalised, semantics)
        else:
            shortcut, x = x, self.norm_0(x, semantics)
        x = self.conv_0(F.leaky_relu_(x, 0.2))
        x = self.conv_1(F.leaky_relu_(self.norm_1(x, semantics), 0.2))
        return shortcut + x


class SpadeGenerator(nn.Module):
    """Semantic map to image, coarse to fine.

    Args:
        image_size: (H, W) of the images, multiples of 2 to the number of doublings.
        semantic_channels: of the semantic map: one per label, and one for instance edges where used.
        ngf: channels of the finest feature map but one ("most": half as many).
        upsampling: "normal" doubles the resolution 5 times, "more" once more between the middle blocks,
            "most" again after a further block at the end.
        latent_dim: size of the latent vector that the image starts from; None to start from the semantic map.
        hidden: channels between the semantic map and each modulation, 128 officially.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        semantic_channels: int,
        ngf: int = 64,
        upsampling: Upsampling = "normal",
        latent_dim: int | None = None,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        self.semantic_channels, self.ngf, self.upsampling, self.hidden = semantic_channels, ngf, upsampling, hidden
        self.first_size = tuple(side >> DOUBLINGS[upsampling] for side in image_size)
        self.latent_dim = latent_dim
        first = 16 * ngf
        if latent_dim is None:
            self.fc: nn.Module = nn.Conv2d(semantic_channels, first, 3, padding=1)
        else:
            self.fc = nn.Linear(latent_dim, first * self.first_size[0] * self.first_size[1])
        # Attributes have the official names, which are the keys of published checkpoints.
        self.head_0 = SpadeBlock(first, first, semantic_channels, hidden)
        self.G_middle_0 = SpadeBlock(first, first, semantic_channels, hidden)
        self.G_middle_1 = SpadeBlock(first, first, semantic_channels, hidden)
        widths = [16 * ngf, 8 * ngf, 4 * ngf, 2 * ngf, ngf, *([ngf // 2] if upsampling == "most" else [])]
        # The blocks in their order, and whether the resolution doubles before each.
        self.schedule = [("head_0", False), ("G_middle_0", True), ("G_middle_1", upsampling != "normal")]
        for i, (before, after) in enumerate(itertools.pairwise(widths)):
            self.add_module(f"up_{i}", SpadeBlock(before, after, semantic_channels, hidden))
            self.schedule.append((f"up_{i}", True))
        self.conv_img = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, semantics: Tensor, z: Tensor | None = None) -> Tensor:
        """Images in [-1, 1].

        Args:
            semantics: float (N, semantic_channels, H, W), one-hot labels and instance edges.
            z: float (N, latent_dim), needed if and only if the generator has a latent vector.
        Returns:
            (N, 3, H, W).
        """
        if (z is None) != (self.latent_dim is None):
            expected = "no z" if self.latent_dim is None else f"z of shape (N, {self.latent_dim})"
            raise ValueError(f"this generator takes {expected}, got {None if z is None else tuple(z.shape)}")
        level = resize(semantics, self.first_size)  # the map at the resolution of x
        if z is None:
            x = self.fc(level)
        else:
            x = self.fc(z).unflatten(1, (-1, *self.first_size))
        # Every block sees the map again, since normalisation washes out what it says (Park et al., Section 3).
        for name, doubles in self.schedule:
            x = suitable_layout(double(x) if doubles else x)
            if level.shape[-2:] != x.shape[-2:]:
                level = resize(semantics, x.shape[-2:])
            x = getattr(self, name)(x, like_layout(level, x))
        return torch.tanh(self.conv_img(F.leaky_relu_(x, 0.2)))


def normalise_twice(x: Tensor, first: nn.BatchNorm2d, second: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """``first(x)`` and ``second(x)`` of batch norms without parameters.

    In training both give the same, so that one is computed: 1.6 times as fast (64 channels at 32x32, forward and
    backward, one CPU thread). Their running averages may differ, and move as if both had been computed.
    """
    if not first.training:
        return first(x), second(x)
    averages = [(getattr(first, name), getattr(second, name)) for name in ("running_mean", "running_var")]
    gaps = [theirs - ours for ours, theirs in averages]  # shrink in each step, as both move by the same statistics
    normalised = first(x)
    assert first.momentum is not None
    assert second.num_batches_tracked is not None
    with torch.no_grad():
        for (ours, theirs), gap in zip(averages, gaps, strict=True):
            theirs.copy_(ours + (1 - first.momentum) * gap)
        second.num_batches_tracked += 1
    return normalised, normalised


def resize(semantics: Tensor, size: Sequence[int]) -> Tensor:
    """The semantic map (N, C, H, W) at another size, by its nearest pixels."""
    return semantics if semantics.shape[-2:] == tuple(size) else F.interpolate(semantics, size=size, mode="nearest")


def double(x: Tensor) -> Tensor:
    """Twice the resolution, by repeating pixels."""
    if x.device.type == "cpu":  # 1.1 to 2.5 times as fast in this layout, the change of layout included
        x = x.contiguous(memory_format=torch.channels_last)
    return F.interpolate(x, scale_factor=2, mode="nearest")


def like_layout(x: Tensor, other: Tensor) -> Tensor:
    """``x`` in the memory layout of ``other``, so that what is computed from both is in one."""
    return x.contiguous() if other.is_contiguous() else x.contiguous(memory_format=torch.channels_last)
