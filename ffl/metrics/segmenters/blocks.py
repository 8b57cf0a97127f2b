"""Stages of residual blocks (He et al., 2016) of both segmentation networks; the blocks are torchvision's."""

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias, padded so that stride 1 keeps the size."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False)


def conv_bn_relu(
    in_channels: int, channels: int, kernel_size: int, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Convolution without bias, padded so that stride 1 keeps the size, batch normalisation and ReLU."""
    padding = kernel_size // 2 * dilation
    conv = nn.Conv2d(in_channels, channels, kernel_size, stride, padding, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def residual_stage(
    in_channels: int, channels: int, depth: int, stride: int = 1, dilation: int = 1, bottleneck: bool = True
) -> nn.Sequential:
    """``depth`` residual blocks: (N, in_channels, H, W) to (N, e channels, H / s, W / s), rounded up.

    Args:
        in_channels: of the input.
        channels: inner width of the blocks; e is 4 for bottlenecks and 1 for basic blocks.
        depth: number of blocks.
        stride: s, of the first block.
        dilation: of all 3x3 convolutions.
        bottleneck: whether a block is a 1x1, a 3x3 and a 1x1 convolution instead of two 3x3 ones.
    """
    out_channels = 4 * channels if bottleneck else channels
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))
    blocks = []
    for index in range(depth):
        first = {"inplanes": in_channels, "stride": stride, "downsample": shortcut}
        options = first if index == 0 else {"inplanes": out_channels}
        if bottleneck:
            blocks.append(Bottleneck(planes=channels, dilation=dilation, **options))
        else:
            block = BasicBlock(planes=channels, **options)
            for conv in (block.conv1, block.conv2):  # torchvision's constructor refuses to dilate these
                conv.dilation = conv.padding = (dilation, dilation)
            blocks.append(block)
    return nn.Sequential(*blocks)
