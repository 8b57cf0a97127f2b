"""Generator of SPADE; keys and shapes of its state dict are those of the official release."""

import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from ffl.distributed import SyncBatchNorm2d
from models.spade.layers import suitable_layout

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
        self.param_free_norm = SyncBatchNorm2d(num_features, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(semantic_channels, hidden, 3, padding=1), nn.ReLU(inplace=True))
        self.mlp_gamma = nn.Conv2d(hidden, num_features, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, num_features, 3, padding=1)

    def forward(self, x: Tensor, semantics: Tensor) -> Tensor:
        """(N, num_features, h, w) and (N, semantic_channels, h, w) to (N, num_features, h, w); new memory."""
        hidden = self.mlp_shared(semantics)
        # The 1 in x (1 + γ) + β goes into the bias of γ, and β is added in place: fewer passes over memory.
        gamma, beta = self.mlp_gamma, self.mlp_beta(hidden)
        assert gamma.bias is not None
        scale = F.conv2d(hidden, gamma.weight, gamma.bias + 1, padding=1)
        return (self.param_free_norm(x) * scale).add_(beta)


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
        self.in_channels = in_channels
        middle = min(in_channels, out_channels)
        self.learned_shortcut = in_channels != out_channels
        self.conv_0 = spectral_norm(nn.Conv2d(in_channels, middle, 3, padding=1))
        self.conv_1 = spectral_norm(nn.Conv2d(middle, out_channels, 3, padding=1))
        self.norm_0 = SpadeNorm(in_channels, semantic_channels, hidden)
        self.norm_1 = SpadeNorm(middle, semantic_channels, hidden)
        if self.learned_shortcut:
            self.conv_s = spectral_norm(nn.Conv2d(in_channels, out_channels, 1, bias=False))
            self.norm_s = SpadeNorm(in_channels, semantic_channels, hidden)

    def forward(self, x: Tensor, semantics: Tensor) -> Tensor:
        """(N, in_channels, h, w) and (N, semantic_channels, h, w) to (N, out_channels, h, w)."""
        shortcut = self.conv_s(self.norm_s(x, semantics)) if self.learned_shortcut else x
        x = self.conv_0(F.leaky_relu_(self.norm_0(x, semantics), 0.2))
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
        level = F.interpolate(semantics, size=self.first_size, mode="nearest")  # the map at the resolution of x
        if z is None:
            x = self.fc(level)
        else:
            x = self.fc(z).unflatten(1, (-1, *self.first_size))
        for name, doubles in self.schedule:
            block: SpadeBlock = getattr(self, name)
            x = suitable_layout(x, block.in_channels)
            if doubles:
                x = double(x)
            if level.shape[-2:] != x.shape[-2:]:
                level = F.interpolate(semantics, size=x.shape[-2:], mode="nearest")
            level = suitable_layout(level, block.in_channels)
            x = block(x, level)
        return torch.tanh(self.conv_img(F.leaky_relu_(x, 0.2)))


def double(x: Tensor) -> Tensor:
    """Twice the resolution, by repeating pixels."""
    return F.interpolate(x, scale_factor=2, mode="nearest")
