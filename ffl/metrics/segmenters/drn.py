"""Dilated residual networks, variant D (Yu, Koltun and Funkhouser, "Dilated Residual Networks", CVPR 2017).

Keys of the state dict are those of the official repository (fyu/drn), so its weight files load as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ffl.metrics.segmenters.blocks import conv_bn_relu, residual_stage
from ffl.state_dicts import StateDict, load_strict

CHANNELS = (16, 32, 64, 128, 256, 512, 512, 512)
FIXED_KERNEL = "up.weight"


@dataclass(frozen=True)
class DRNArch:
    """Shape of a DRN-D.

    Attributes:
        bottleneck: whether the residual blocks are bottlenecks.
        depths: number of blocks in the four residual stages.
        channels: width of layer1 ... layer8 (for bottlenecks the inner width).
    """

    bottleneck: bool
    depths: tuple[int, ...]
    channels: tuple[int, ...] = CHANNELS


def drn_stages(arch: DRNArch) -> list[nn.Sequential]:
    """layer0 ... layer8. Layers 2, 3 and 4 halve the size; the later ones dilate instead, by 2, 4, 2 and 1.

    layer0 takes RGB, (N, 3, H, W); layer8 gives (N, channels[7], H / 8, W / 8), rounded up.
    """
    c1, c2, c3, c4, c5, c6, c7, c8 = arch.channels
    depths, bottleneck = arch.depths, arch.bottleneck
    expansion = 4 if bottleneck else 1
    return [
        conv_bn_relu(3, c1, 7),
        conv_bn_relu(c1, c1, 3),
        conv_bn_relu(c1, c2, 3, stride=2),
        residual_stage(c2, c3, depths[0], stride=2, bottleneck=bottleneck),
        residual_stage(expansion * c3, c4, depths[1], stride=2, bottleneck=bottleneck),
        residual_stage(expansion * c4, c5, depths[2], dilation=2, bottleneck=bottleneck),
        residual_stage(expansion * c5, c6, depths[3], dilation=4, bottleneck=bottleneck),
        conv_bn_relu(expansion * c6, c7, 3, dilation=2),
        conv_bn_relu(c7, c8, 3),
    ]


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
        self.num_classes = num_classes
        self.base = nn.Sequential(*drn_stages(arch))
        self.seg = nn.Conv2d(arch.channels[7], num_classes, 1)
        self.up: nn.Module
        if torch_up:
            self.up = nn.UpsamplingBilinear2d(scale_factor=8)
        else:
            up = nn.ConvTranspose2d(
                num_classes, num_classes, 16, stride=8, padding=4, groups=num_classes, bias=False
            ).requires_grad_(False)
            # Bilinear interpolation by 8, as the official code fills this layer.
            triangle = 1 - (torch.arange(16, dtype=torch.float64) / 8 - 15 / 16).abs()
            up.weight.copy_(torch.outer(triangle, triangle).expand_as(up.weight))
            self.up = up

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


def drn_from_state_dict(
    state_dict: Mapping[str, Tensor], *, torch_up: bool | None = None, pool_size: int = 28
) -> DRNSeg | DRN:
    """A dilated residual network in evaluation mode, its shape read from the weights.

    Args:
        state_dict: official weights: keys ``base.<i>...``, ``seg`` (segmentation) or ``layer<i>...``, ``fc``
            (classification).
        torch_up: which upsampling a segmentation network uses, see ``DRNSeg``. None decides by whether there
            is an ``up.weight``; False also takes weights without it, since that kernel is a constant.
        pool_size: see ``DRN``; classification only.
    Raises:
        UserError: the keys or shapes are not those of a DRN-D.
    """
    classifier = any(key.removeprefix("module.") == "layer0.0.weight" for key in state_dict)
    kind = "DRN-D classifier" if classifier else "DRN-D segmentation"
    state = StateDict(kind, state_dict)
    prefix = "layer" if classifier else "base."
    residual = (3, 4, 5, 6)
    convs = {stage: f"{prefix}{stage}.0.{'conv1.' if stage in residual else ''}weight" for stage in range(1, 9)}
    arch = DRNArch(
        bottleneck=f"{prefix}3.0.conv3.weight" in state.tensors,
        depths=tuple(state.count(f"{prefix}{stage}.{{}}.conv1.weight") for stage in residual),
        channels=tuple(state.shape(key)[0] for key in convs.values()),
    )
    network: DRNSeg | DRN
    if classifier:
        network = DRN(arch, state.shape("fc.weight")[0], pool_size)
    else:
        # Weights without the kernel may be of either network; unless told, we take the one that has no kernel.
        torch_up = FIXED_KERNEL not in state.tensors if torch_up is None else torch_up
        network = DRNSeg(arch, state.shape("seg.weight")[0], torch_up)
    load_strict(network, state.tensors, kind, optional=(FIXED_KERNEL,))
    return network.requires_grad_(False).eval()
