"""Features of a pretrained VGG network (Simonyan and Zisserman, 2015), frozen, for perceptual distances.

``vgg16`` and ``vgg19`` are torchvision's, trained on ImageNet. ``stlpips_vgg`` is the VGG-16 of ST-LPIPS, trained on
ImageNet and then on judgements of people, whose poolings are anti-aliased; its features are other ones.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ffl.networks.stlpips import BlurDownsample

Architecture = Literal["vgg16", "vgg19", "stlpips_vgg"]

# Convolutions in each stage; 2x2 max pooling ends a stage.
CONVOLUTIONS: dict[Architecture, tuple[int, ...]] = {
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
    "stlpips_vgg": (2, 2, 3, 3, 3),
}


def layout(architecture: Architecture) -> dict[str, str]:
    """Layers in their order: "relu<stage>_<i>" or "pool<stage>" to the key that its weights have, or would have.

    The key of a ReLU layer is that of the convolution before it.
    """
    keys: dict[str, str] = {}
    index = 0
    for stage, num_convolutions in enumerate(CONVOLUTIONS[architecture], start=1):
        prefix = f"net.slice{stage}" if architecture == "stlpips_vgg" else "features"
        for i in range(1, num_convolutions + 1):
            keys[f"relu{stage}_{i}"] = f"{prefix}.{index}"
            index += 2
        keys[f"pool{stage}"] = f"{prefix}.{index}"
        index += 2 if architecture == "stlpips_vgg" else 1  # a maximum and a blur, or a maximum alone
    return keys


class VGGFeatures(nn.Module):
    """Outputs of chosen ReLU layers.

    The weights are buffers outside the state dict: they follow the module to a device or dtype, but are
    neither trained nor written to checkpoints.

    Args:
        state_dict: torchvision's weights of the architecture (``features.<i>.weight`` and ``.bias``), or for
            "stlpips_vgg" those of ``vgg_shift_tolerant.pth`` (``net.slice<s>.<i>.weight`` and ``.bias``); other keys
            are ignored.
        architecture: "vgg16", "vgg19" or "stlpips_vgg".
        layers: names such as "relu3_1" (first ReLU of the third stage), in the order of the network.
    Raises:
        ValueError: for a layer that the architecture doesn't have, or layers out of order.
        KeyError: for a weight that is not in ``state_dict``.

    Examples:
        >>> import torch
        >>> first_layer = {"features.0.weight": torch.randn(64, 3, 3, 3), "features.0.bias": torch.zeros(64)}
        >>> [features.shape for features in VGGFeatures(first_layer, "vgg16", ["relu1_1"])(torch.zeros(2, 3, 8, 8))]
        [torch.Size([2, 64, 8, 8])]
    """

    def __init__(self, state_dict: Mapping[str, Tensor], architecture: Architecture, layers: Sequence[str]) -> None:
        super().__init__()
        keys = layout(architecture)
        known = [name for name in keys if name.startswith("relu")]
        if not layers or list(layers) != [name for name in known if name in layers]:
            raise ValueError(f"layers must be an ordered choice of {', '.join(known)}; got {list(layers)}")
        self.layers = tuple(layers)
        # Layers behind the last one asked for are left out: relu2_2 takes 4 of the 13 convolutions of VGG-16.
        names = list(keys)
        self.steps = names[: names.index(layers[-1]) + 1]
        for name in self.steps:
            if name in known:
                for part in ("weight", "bias"):
                    value = state_dict[f"{keys[name]}.{part}"].detach().clone()
                    self.register_buffer(f"{name}_{part}", value, persistent=False)

        antialiased = nn.Sequential(nn.MaxPool2d(2, stride=1), BlurDownsample())
        self.pool = antialiased if architecture == "stlpips_vgg" else nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W), normalised as the caller's method wants, to one (N, C, h, w) per layer."""
        features, x = [], images
        for name in self.steps:
            if name.startswith("pool"):
                x = self.pool(x)
                continue
            x = F.relu(F.conv2d(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"), padding=1))
            if name in self.layers:
                features.append(x)
        return features
