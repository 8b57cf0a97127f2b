"""Dilated residual networks, variant D (Yu, Koltun and Funkhouser, "Dilated Residual Networks", CVPR 2017).

Keys of the state dict are those of the official repository (fyu/drn), so its weight files load as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ffl.metrics.segmenters.blocks import BasicBlock, Block, Bottleneck, conv3x3, residual_stage

CHANNELS = (16, 32, 64, 128, 256, 512, 512, 512)


@dataclass(frozen=True)
class DRNArch:
    """Shape of a DRN-D.

    Attributes:
        bottleneck: whether the residual blocks are bottlenecks.
        depths: number of blocks in the four residual stages.
        channels: width of layer1 ... layer8 (for bottlenecks the inner width).
    """

    bottleneck: bool
    depths: tuple[int, int, int, int]
    channels: tuple[int, ...] = CHANNELS


ARCHS = {
    "drn_d_22": DRNArch(False, (2, 2, 2, 2)),
    "drn_d_38": DRNArch(False, (3, 4, 6, 3)),
    "drn_d_54": DRNArch(True, (3, 4, 6, 3)),
    "drn_d_105": DRNArch(True, (3, 4, 23, 3)),
}


def drn_stages(arch: DRNArch) -> list[nn.Sequential]:
    """layer0 ... layer8. Layers 2, 3 and 4 halve the size; the later ones dilate instead, by 2, 4, 2 and 1.

    layer0 takes RGB, (N, 3, H, W); layer8 gives (N, channels[7], H / 8, W / 8), rounded up.
    """
    block: Block = Bottleneck if arch.bottleneck else BasicBlock
    width = arch.channels
    outer = [c * block.expansion for c in width]
    return [
        nn.Sequential(
            nn.Conv2d(3, width[0], 7, padding=3, bias=False), nn.BatchNorm2d(width[0]), nn.ReLU(inplace=True)
        ),
        _conv_stage(width[0], width[0]),
        _conv_stage(width[0], width[1], stride=2),
        residual_stage(block, width[1], width[2], arch.depths[0], stride=2),
        residual_stage(block, outer[2], width[3], arch.depths[1], stride=2),
        residual_stage(block, outer[3], width[4], arch.depths[2], dilation=2),
        residual_stage(block, outer[4], width[5], arch.depths[3], dilation=4),
        _conv_stage(outer[5], width[6], dilation=2),
        _conv_stage(width[6], width[7]),
    ]


def _conv_stage(in_channels: int, channels: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        conv3x3(in_channels, channels, stride, dilation), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
    )


class DRN(nn.Module):
    """ImageNet classifier (keys ``layer<i>``, ``fc``).

    Args:
        arch: shape of the network.
        num_classes: number of scores.
        pool_size: side of the average pooling before the scores: 1/8 of the image's side (28 for 224).
    """

    def __init__(self, arch: DRNArch, num_classes: int = 1000, pool_size: int = 28) -> None:
        super().__init__()
        for index, stage in enumerate(drn_stages(arch)):
            self.add_module(f"layer{index}", stage)
        self.avgpool = nn.AvgPool2d(pool_size)
        self.fc = nn.Conv2d(arch.channels[7], num_classes, 1)

    def features(self, images: Tensor) -> list[Tensor]:
        """Outputs of layer1 ... layer8 for normalised images, float (N, 3, H, W)."""
        x = self.get_submodule("layer0")(images)
        outputs = []
        for index in range(1, 9):
            x = self.get_submodule(f"layer{index}")(x)
            outputs.append(x)
        return outputs

    def forward(self, images: Tensor) -> Tensor:
        """Scores, float (N, num_classes), of images whose side is 8 ``pool_size``."""
        return self.fc(self.avgpool(self.features(images)[-1])).flatten(1)


class DRNSeg(nn.Module):
    """Segmentation network (keys ``base.<i>``, ``seg``, ``up``).

    Args:
        arch: shape of the network.
        num_classes: number of classes.
        torch_up: upsample by ``UpsamplingBilinear2d`` (corners aligned, no ``up.weight``) instead of the
            transposed convolution with a fixed bilinear kernel; the released weights use the latter.
    """

    def __init__(self, arch: DRNArch, num_classes: int, torch_up: bool = False) -> None:
        super().__init__()
        self.base = nn.Sequential(*drn_stages(arch))
        self.seg = nn.Conv2d(arch.channels[7], num_classes, 1)
        self.up = nn.UpsamplingBilinear2d(scale_factor=8) if torch_up else _bilinear_up(num_classes)

    def logits(self, images: Tensor) -> Tensor:
        """Class scores at 1/8 of the size: (N, 3, H, W) -> (N, num_classes, H / 8, W / 8), rounded up."""
        return self.seg(self.base(images))

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities at full size.

        Args:
            images: float (N, 3, H, W), RGB in [0, 1] less the data set's mean, over its standard deviation.
        Returns:
            float (N, num_classes, H, W); H and W rounded up to multiples of 8.
        """
        return torch.log_softmax(self.up(self.logits(images)), dim=1)


def _bilinear_up(num_classes: int) -> nn.ConvTranspose2d:
    up = nn.ConvTranspose2d(
        num_classes, num_classes, 16, stride=8, padding=4, groups=num_classes, bias=False
    ).requires_grad_(False)
    taps = torch.arange(16, dtype=torch.float64)
    triangle = 1 - (taps / 8 - 15 / 16).abs()
    up.weight.copy_(torch.outer(triangle, triangle).expand_as(up.weight))
    return up


def infer_arch(shapes: Mapping[str, Sequence[int]], prefix: str) -> DRNArch:
    """Shape of the network whose stages have keys ``<prefix><i>.``; KeyError where a needed key is absent."""
    depths = [0, 0, 0, 0]
    for stage in range(4):
        while f"{prefix}{stage + 3}.{depths[stage]}.conv1.weight" in shapes:
            depths[stage] += 1
    convs = [f"{i}.0.weight" for i in (1, 2)] + [f"{i}.0.conv1.weight" for i in (3, 4, 5, 6)]
    convs += [f"{i}.0.weight" for i in (7, 8)]
    return DRNArch(
        bottleneck=f"{prefix}3.0.conv3.weight" in shapes,
        depths=(depths[0], depths[1], depths[2], depths[3]),
        channels=tuple(shapes[prefix + conv][0] for conv in convs),
    )
