"""UPerNet on a ResNet encoder (Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018).

State dicts have the keys of CSAILVision/semantic-segmentation-pytorch, whose ADE20K weights are two files.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffl.errors import UserError
from ffl.metrics.segmenters.blocks import conv3x3, conv_bn_relu, residual_stage
from ffl.state_dicts import StateDict, load_strict

POOL_SCALES = (1, 2, 3, 6)
# What CSAIL's batch normalisation keeps besides the usual, not read in evaluation.
BOOKKEEPING = ("._tmp_running_mean", "._tmp_running_var", "._running_iter")


class ResNetEncoder(nn.Module):
    """ResNet with bottlenecks whose stem is three 3x3 convolutions (64, 64, 128), the first with stride 2.

    Args:
        depths: blocks per stage; (3, 4, 23, 3) is ResNet-101.
        channels: inner width of the stages; outputs have four times as many channels.
    """

    def __init__(self, depths: Sequence[int] = (3, 4, 23, 3), channels: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, 64, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = conv3x3(64, 64)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = conv3x3(64, 128)
        self.bn3 = nn.BatchNorm2d(128)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = residual_stage(128, channels[0], depths[0])
        self.layer2 = residual_stage(4 * channels[0], channels[1], depths[1], stride=2)
        self.layer3 = residual_stage(4 * channels[1], channels[2], depths[2], stride=2)
        self.layer4 = residual_stage(4 * channels[2], channels[3], depths[3], stride=2)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of the four stages, at 1/4, 1/8, 1/16 and 1/32 of the size of normalised images."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.maxpool(self.relu(self.bn3(self.conv3(x))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


class UPerNetDecoder(nn.Module):
    """Pyramid pooling on the deepest features, a feature pyramid over all of them, and one classifier.

    Args:
        num_classes: number of classes.
        in_channels: channels of the encoder's features, shallow to deep.
        ppm_dim: channels of each pooled branch.
        fpn_dim: channels of the feature pyramid.
    """

    def __init__(
        self,
        num_classes: int = 150,
        in_channels: Sequence[int] = (256, 512, 1024, 2048),
        ppm_dim: int = 512,
        fpn_dim: int = 512,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        deepest = in_channels[-1]
        self.ppm_conv = nn.ModuleList(conv_bn_relu(deepest, ppm_dim, 1) for _ in POOL_SCALES)
        self.ppm_last_conv = conv_bn_relu(deepest + len(POOL_SCALES) * ppm_dim, fpn_dim, 3)
        self.fpn_in = nn.ModuleList(conv_bn_relu(channels, fpn_dim, 1) for channels in in_channels[:-1])
        self.fpn_out = nn.ModuleList(nn.Sequential(conv_bn_relu(fpn_dim, fpn_dim, 3)) for _ in in_channels[:-1])
        self.conv_last = nn.Sequential(
            conv_bn_relu(len(in_channels) * fpn_dim, fpn_dim, 3), nn.Conv2d(fpn_dim, num_classes, 1)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Class scores at the size of the shallowest features: float (N, num_classes, H / 4, W / 4)."""
        deepest = features[-1]
        pooled = [deepest]
        for scale, conv in zip(POOL_SCALES, self.ppm_conv, strict=True):
            # The official order: resize, then convolve.
            pooled.append(conv(resize(F.adaptive_avg_pool2d(deepest, scale), deepest.shape[2:])))
        top = self.ppm_last_conv(torch.cat(pooled, dim=1))
        pyramid = [top]
        for level in reversed(range(len(features) - 1)):
            lateral = self.fpn_in[level](features[level])
            top = lateral + resize(top, lateral.shape[2:])
            pyramid.insert(0, self.fpn_out[level](top))
        fused = torch.cat([resize(level, pyramid[0].shape[2:]) for level in pyramid], dim=1)
        return self.conv_last(fused)


class UPerNet(nn.Module):
    """Encoder and decoder together.

    Args:
        encoder, decoder: the two parts, with matching channels.
    """

    def __init__(self, encoder: ResNetEncoder, decoder: UPerNetDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.num_classes = decoder.num_classes

    def forward(self, images: Tensor) -> Tensor:
        """Class scores at 1/4 of the size.

        Args:
            images: float (N, 3, H, W), RGB in [0, 1] less the ImageNet mean, over its standard deviation.
        Returns:
            float (N, num_classes, H / 4, W / 4), rounded up; softmax over dim 1 gives probabilities.
        """
        return self.decoder(self.encoder(images))

    def probabilities(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Probabilities (N, num_classes, *size): the scores are resized bilinearly before the softmax."""
        return torch.softmax(resize(self(images), size), dim=1)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, without antialiasing: (N, C, h, w) to (N, C, *size)."""
    return F.interpolate(x, list(size), mode="bilinear", align_corners=False)


def upernet_from_state_dict(state_dicts: Mapping[str, Mapping[str, Tensor]]) -> UPerNet:
    """UPerNet on a ResNet with bottlenecks, in evaluation mode, its shape read from the weights.

    Args:
        state_dicts: the two official files under "encoder" and "decoder".
    Raises:
        UserError: a part is missing, or its keys or shapes are not those of this network.
    """
    if set(state_dicts) != {"encoder", "decoder"}:
        raise UserError(f'UPerNet takes weights under "encoder" and "decoder", got {sorted(state_dicts)}')
    kinds = {part: f"UPerNet {part}" for part in state_dicts}
    states = {part: StateDict(kinds[part], state_dict) for part, state_dict in state_dicts.items()}
    stages, encoded, decoded = (1, 2, 3, 4), states["encoder"], states["decoder"]
    channels = [encoded.shape(f"layer{stage}.0.conv1.weight")[0] for stage in stages]
    encoder = ResNetEncoder([encoded.count(f"layer{stage}.{{}}.conv1.weight") for stage in stages], channels)
    decoder = UPerNetDecoder(
        num_classes=decoded.shape("conv_last.1.weight")[0],
        in_channels=[4 * width for width in channels],
        ppm_dim=decoded.shape("ppm_conv.0.0.weight")[0],
        fpn_dim=decoded.shape("ppm_last_conv.0.weight")[0],
    )
    load_strict(encoder, encoded.tensors, kinds["encoder"], ignored=BOOKKEEPING)
    load_strict(decoder, decoded.tensors, kinds["decoder"], ignored=BOOKKEEPING)
    return UPerNet(encoder, decoder).requires_grad_(False).eval()
