"""U-Net (Ronneberger, Fischer and Brox, 2015): class scores of every pixel, here at half resolution and enlarged.

Its first convolution has stride 2, which blurs borders a little and saves three quarters of the work: two CPU cores
train it on two thousand images in half an hour.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffl.state_dicts import StateDict, load_strict


def convolutions(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Two 3×3 convolutions, each normalised over the batch; the first has the stride."""
    layers: list[nn.Module] = []
    for channels, step in ((in_channels, stride), (out_channels, 1)):
        layers += [
            nn.Conv2d(channels, out_channels, 3, step, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Class scores of the pixels of images.

    Args:
        num_classes: scores of a pixel.
        channels: at half resolution; each halving of the resolution doubles them.
        levels: halvings below that.
    """

    def __init__(self, num_classes: int, channels: int = 16, levels: int = 4) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(levels + 1)]
        self.encoder = nn.ModuleList([convolutions(3, channels, stride=2)])
        self.encoder.extend(convolutions(width // 2, width) for width in widths[1:])
        self.decoder = nn.ModuleList(convolutions(width + 2 * width, width) for width in widths[:-1])
        self.head = nn.Conv2d(channels, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1], H and W at least 2, to (N, num_classes, H, W), logarithms up to a constant."""
        skips: list[Tensor] = []
        x = images
        for number, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2, ceil_mode=True) if number else x)
            skips.append(x)
        x = skips.pop()
        # From coarse to fine; sides that were odd make the enlarged one a pixel too large.
        for block, skip in zip(reversed(self.decoder), reversed(skips), strict=True):
            x = block(torch.cat([skip, F.interpolate(x, skip.shape[2:])], 1))
        return F.interpolate(self.head(x), images.shape[2:], mode="bilinear", align_corners=False)


def unet_from_state_dict(state_dict: Mapping[str, Tensor]) -> UNet:
    """The U-Net that weights belong to, in evaluation mode.

    Raises:
        UserError: if they are not those of a U-Net.
    """
    weights = StateDict("U-Net", state_dict)
    num_classes, channels, *_ = weights.shape("head.weight")
    network = UNet(num_classes, channels, weights.count("decoder.{}.0.weight"))
    return load_strict(network, weights.tensors, weights.kind).eval()
