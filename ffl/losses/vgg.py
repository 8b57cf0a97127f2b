"""Features of a pretrained VGG network (Simonyan and Zisserman, 2015), frozen, for perceptual distances."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Architecture = Literal["vgg16", "vgg19"]

# Convolutions in each stage; 2x2 max pooling ends a stage.
CONVOLUTIONS: dict[Architecture, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


def layout(architecture: Architecture) -> dict[str, int]:
    """Layers in their order: "relu<stage>_<i>" or "pool<stage>" to an index into torchvision's ``features``.

    The index of a ReLU layer is that of the convolution before it.
    """
    indices: dict[str, int] = {}
    index = 0
    for stage, num_convolutions in enumerate(CONVOLUTIONS[architecture], start=1):
        for i in range(1, num_convolutions + 1):
            indices[f"relu{stage}_{i}"] = index
            index += 2
        indices[f"pool{stage}"] = index
        index += 1
    return indices


class VGGFeatures(nn.Module):
    """Outputs of chosen ReLU layers.

    The weights are buffers outside the state dict: they follow the module to a device or dtype, but are
    neither trained nor written to checkpoints.

    Args:
        state_dict: torchvision's weights of the architecture (``features.<i>.weight`` and ``.bias``); other
            keys are ignored.
        architecture: "vgg16" or "vgg19".
        layers: names such as "relu3_1" (first ReLU of the third stage), in the order of the network.
    Raises:
        ValueError: for a layer that the architecture doesn't have, or layers out of order.
        KeyError: for a weight that is not in ``state_dict``.

    Example:
        >>> import torch
        >>> first_layer = {"features.0.weight": torch.randn(64, 3, 3, 3), "features.0.bias": torch.zeros(64)}
        >>> [features.shape for features in VGGFeatures(first_layer, "vgg16", ["relu1_1"])(torch.zeros(2, 3, 8, 8))]
        [torch.Size([2, 64, 8, 8])]
    """

    def __init__(self, state_dict: Mapping[str, Tensor], architecture: Architecture, layers: Sequence[str]) -> None:
        super().__init__()
        indices = layout(architecture)
        known = [name for name in indices if name.startswith("relu")]
        if not layers or list(layers) != [name for name in known if name in layers]:
            raise ValueError(f"layers must be an ordered choice of {', '.join(known)}; got {list(layers)}")
        self.layers = tuple(layers)
        # Layers behind the last one asked for are left out: relu2_2 takes 4 of the 13 convolutions of VGG-16.
        names = list(indices)
        self.steps = names[: names.index(layers[-1]) + 1]
        for name in self.steps:
            if name in known:
                for part in ("weight", "bias"):
                    value = state_dict[f"features.{indices[name]}.{part}"].detach().clone()
                    self.register_buffer(f"{name}_{part}", value, persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W), normalised as the caller's method wants, to one (N, C, h, w) per layer."""
        features, x = [], images
        for name in self.steps:
            if name.startswith("pool"):
                x = F.max_pool2d(x, 2)
                continue
            x = F.relu(F.conv2d(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"), padding=1))
            if name in self.layers:
                features.append(x)
        return features
