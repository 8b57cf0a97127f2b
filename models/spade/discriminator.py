"""Multi-scale discriminator of SPADE, after pix2pixHD (Wang et al., 2018); keys as officially."""

import torch.nn.functional as F
from torch import Tensor, nn

from models.spade.layers import spectral_instance, suitable_layout


class ScaleDiscriminator(nn.Module):
    """Patch discriminator of one scale: convolutions 4x4 with padding 2, so that maps grow by a pixel each.

    Args:
        in_channels: of semantic map and image together.
        ndf: channels of the first layer; doubled by each layer up to 512.
        num_layers: layers before the one that gives the logits.
    """

    def __init__(self, in_channels: int, ndf: int = 64, num_layers: int = 4) -> None:
        super().__init__()
        self.num_layers = num_layers
        first = nn.Conv2d(in_channels, ndf, 4, 2, 2)
        self.add_module("model0", nn.Sequential(first, nn.LeakyReLU(0.2)))
        widths = [min(ndf * 2**layer, 512) for layer in range(num_layers)]
        for layer in range(1, num_layers):
            stride = 1 if layer == num_layers - 1 else 2
            conv = nn.Conv2d(widths[layer - 1], widths[layer], 4, stride, 2, bias=False)
            self.add_module(f"model{layer}", nn.Sequential(spectral_instance(conv), nn.LeakyReLU(0.2)))
        self.add_module(f"model{num_layers}", nn.Sequential(nn.Conv2d(widths[-1], 1, 4, 1, 2)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) to the output of every layer; the last is the logits (N, 1, h, w)."""
        outputs = []
        for layer in range(self.num_layers + 1):
            x = getattr(self, f"model{layer}")(suitable_layout(x, x.shape[1]))
            outputs.append(x)
        return outputs


class MultiscaleDiscriminator(nn.Module):
    """Discriminators of the same form, each at half the resolution of the one before.

    Args:
        in_channels: of semantic map and image together.
        ndf: channels of the first layer of each.
        num_scales: how many.
        num_layers: layers of each before its logits.
    """

    def __init__(self, in_channels: int, ndf: int = 64, num_scales: int = 2, num_layers: int = 4) -> None:
        super().__init__()
        self.num_scales = num_scales
        for scale in range(num_scales):
            self.add_module(f"discriminator_{scale}", ScaleDiscriminator(in_channels, ndf, num_layers))

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """(N, in_channels, H, W), semantic map and image concatenated, to each scale's layer outputs."""
        outputs = []
        x = suitable_layout(x, x.shape[1])
        for scale in range(self.num_scales):
            if scale:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            outputs.append(getattr(self, f"discriminator_{scale}")(x))
        return outputs
