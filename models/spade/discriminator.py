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
        # Neither the first nor the last layer is normalised, as officially.
        first = nn.Conv2d(in_channels, ndf, 4, 2, 2)
        self.add_module("model0", nn.Sequential(first, nn.LeakyReLU(0.2)))
        widths = [min(ndf * 2**layer, 512) for layer in range(num_layers)]
        for layer in range(1, num_layers):
            stride = 1 if layer == num_layers - 1 else 2
            conv = spectral_instance(widths[layer - 1], widths[layer], 4, stride, 2)
            self.add_module(f"model{layer}", nn.Sequential(conv, nn.LeakyReLU(0.2, inplace=True)))
        self.add_module(f"model{num_layers}", nn.Sequential(nn.Conv2d(widths[-1], 1, 4, 1, 2)))

    def forward(self, semantics: Tensor, images: Tensor) -> list[Tensor]:
        """(N, C, H, W) and (k N, 3, H, W) to the output of every layer for each image; the last is the logits."""
        # The first layer sees map and image together. A convolution is linear: the map's part is the same for all its
        # images and computed once. That is 3 times as fast for two images of a map of 19 labels (128x128, forward and
        # backward, one CPU thread).
        conv, activation = self.get_submodule("model0").children()
        assert isinstance(conv, nn.Conv2d)
        of_map, of_image = conv.weight.split([semantics.shape[1], images.shape[1]], 1)
        shared = F.conv2d(semantics, of_map, conv.bias, conv.stride, conv.padding)
        own = F.conv2d(images, of_image, None, conv.stride, conv.padding)
        outputs = [activation((own.unflatten(0, (-1, len(semantics))) + shared).flatten(0, 1))]
        for layer in range(1, self.num_layers + 1):
            outputs.append(getattr(self, f"model{layer}")(suitable_layout(outputs[-1])))
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

    def forward(self, semantics: Tensor, images: Tensor) -> list[list[Tensor]]:
        """Each scale's layer outputs for each image.

        Args:
            semantics: (N, C, H, W), the semantic maps.
            images: (k N, 3, H, W), k for each map: first one of all maps, then another of all.
        """
        semantics, images = suitable_layout(semantics), suitable_layout(images)
        outputs = []
        for scale in range(self.num_scales):
            if scale:
                semantics, images = halve(semantics), halve(images)
            outputs.append(getattr(self, f"discriminator_{scale}")(semantics, images))
        return outputs


def halve(x: Tensor) -> Tensor:
    """Half the resolution: means over 3x3 pixels, fewer at the borders."""
    # Padding does not count, as officially: it would draw the borders towards 0.
    return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
