"""Generator of SPADE; keys and shapes of its state dict are those of the official release."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from ffl.distributed import SyncBatchNorm2d

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
        self.mlp_shared = nn.Sequential(nn.Conv2d(semantic_channels, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, num_features, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, num_features, 3, padding=1)

    def forward(self, x: Tensor, semantics: Tensor) -> Tensor:
        """(N, num_features, h, w) and (N, semantic_channels, H, W) to (N, num_features, h, w)."""
        hidden = self.mlp_shared(F.interpolate(semantics, size=x.shape[-2:], mode="nearest"))
        return self.param_free_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


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
        self.conv_0 = spectral_norm(nn.Conv2d(in_channels, middle, 3, padding=1))
        self.conv_1 = spectral_norm(nn.Conv2d(middle, out_channels, 3, padding=1))
        self.norm_0 = SpadeNorm(in_channels, semantic_channels, hidden)
        self.norm_1 = SpadeNorm(middle, semantic_channels, hidden)
        if self.learned_shortcut:
            self.conv_s = spectral_norm(nn.Conv2d(in_channels, out_channels, 1, bias=False))
            self.norm_s = SpadeNorm(in_channels, semantic_channels, hidden)

    def forward(self, x: Tensor, semantics: Tensor) -> Tensor:
        """(N, in_channels, h, w) and the semantic map to (N, out_channels, h, w)."""
        shortcut = self.conv_s(self.norm_s(x, semantics)) if self.learned_shortcut else x
        x = self.conv_0(F.leaky_relu(self.norm_0(x, semantics), 0.2))
        x = self.conv_1(F.leaky_relu(self.norm_1(x, semantics), 0.2))
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
        self.double_in_middle = upsampling != "normal"
        first = 16 * ngf
        if latent_dim is None:
            self.fc: nn.Module = nn.Conv2d(semantic_channels, first, 3, padding=1)
        else:
            self.fc = nn.Linear(latent_dim, first * self.first_size[0] * self.first_size[1])
        self.head_0 = SpadeBlock(first, first, semantic_channels, hidden)
        self.G_middle_0 = SpadeBlock(first, first, semantic_channels, hidden)
        self.G_middle_1 = SpadeBlock(first, first, semantic_channels, hidden)
        widths = [16 * ngf, 8 * ngf, 4 * ngf, 2 * ngf, ngf, *([ngf // 2] if upsampling == "most" else [])]
        self.finer = [f"up_{i}" for i in range(len(widths) - 1)]
        for name, before, after in zip(self.finer, widths[:-1], widths[1:], strict=True):
            self.add_module(name, SpadeBlock(before, after, semantic_channels, hidden))
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
        if z is None:
            x = self.fc(F.interpolate(semantics, size=self.first_size, mode="nearest"))
        else:
            x = self.fc(z).unflatten(1, (-1, *self.first_size))
        x = self.head_0(x, semantics)
        x = self.G_middle_0(double(x), semantics)
        x = self.G_middle_1(double(x) if self.double_in_middle else x, semantics)
        for name in self.finer:
            x = getattr(self, name)(double(x), semantics)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 0.2)))


def double(x: Tensor) -> Tensor:
    """Twice the resolution, by repeating pixels."""
    return F.interpolate(x, scale_factor=2, mode="nearest")
