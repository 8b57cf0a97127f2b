"""ST-LPIPS (Ghildyal and Liu, ECCV 2022): LPIPS on networks whose subsampling is anti-aliased, so that a shift by a
pixel, which nobody sees, hardly changes it.

With φl the activations at the end of stage l, scaled to length 1 along their channels, and wl trained weights of
these channels, none negative,

    d(x, y) = sum over l of the mean over positions of wl · (φl(x) - φl(y))²

Trunks and weights w were trained on the judgements of people in BAPPS (Zhang et al. 2018).
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffl.state_dicts import load_strict
from ffl.weights import load_weights

StlpipsNetwork = Literal["alex", "vgg"]

# The statistics of ImageNet for images in [-1, 1]; LPIPS rounds them to three digits, as torchvision does.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)

EPSILON = 1e-10  # added to the length of a vector of activations before the division by it
MIN_SIZE: dict[StlpipsNetwork, int] = {"alex": 21, "vgg": 18}  # smaller images leave less than the blur reflects


class BlurDownsample(nn.Module):
    """Halves height and width: the binomial filter (1, 2, 1)ᵀ(1, 2, 1) / 16 at every second position (Zhang 2019).

    Two pixels are reflected at each border: (N, C, H, W) to (N, C, (H + 3) // 2, (W + 3) // 2).
    """

    def forward(self, x: Tensor) -> Tensor:
        binomial = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device) / 4
        channels = x.shape[1]
        kernel = torch.outer(binomial, binomial).expand(channels, 1, 3, 3)
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=channels)


def alex_layers() -> list[list[nn.Module]]:
    """The five stages of AlexNet; its strides of 4 and 2 are replaced by strides of 1 and a blur."""
    return [
        [nn.Conv2d(3, 64, 11, padding=2), BlurDownsample(), nn.ReLU()],
        [nn.MaxPool2d(3, stride=1), BlurDownsample(), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()],
        [nn.MaxPool2d(3, stride=1), BlurDownsample(), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()],
    ]


def vgg_layers() -> list[list[nn.Module]]:
    """The five stages of VGG-16; the maximum of 2×2 is taken everywhere, then blurred and halved."""
    stages: list[list[nn.Module]] = []
    channels = 3
    for width, num_convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        stage: list[nn.Module] = [nn.MaxPool2d(2, stride=1), BlurDownsample()] if stages else []
        for _ in range(num_convolutions):
            stage += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        stages.append(stage)
    return stages


class ShiftTolerantLPIPS(nn.Module):
    """The distance, with random weights; ``load_stlpips`` gives the trained one.

    Args:
        network: "alex" or "vgg".

    Examples:
        >>> distance = ShiftTolerantLPIPS("alex")
        >>> x, y = torch.rand(2, 4, 3, 32, 32) * 2 - 1
        >>> distance(x, x).tolist(), tuple(distance.per_layer(x, y).shape)
        ([0.0, 0.0, 0.0, 0.0], (4, 5))
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: StlpipsNetwork) -> None:
        super().__init__()
        if network not in get_args(StlpipsNetwork):
            raise ValueError(f"network must be one of {', '.join(get_args(StlpipsNetwork))}, got {network!r}")
        self.network = network
        stages = alex_layers() if network == "alex" else vgg_layers()
        self.trunk = nn.ModuleList(nn.Sequential(*stage) for stage in stages)
        widths = [[layer for layer in stage if isinstance(layer, nn.Conv2d)][-1].out_channels for stage in stages]
        self.heads = nn.ParameterList(nn.Parameter(torch.rand(width)) for width in widths)
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances of pairs of images.

        Args:
            x: float (N, 3, H, W) in [-1, 1], RGB; H and W at least ``MIN_SIZE`` of the network.
            y: the same shape.
        Returns:
            (N,), at least 0; the order of the two images does not matter.
        Raises:
            ValueError: for another shape, or smaller images.
        """
        return self.per_layer(x, y).sum(1)

    def per_layer(self, x: Tensor, y: Tensor) -> Tensor:
        """The five terms of the distance, (N, 5); arguments as of ``forward``."""
        smallest = MIN_SIZE[self.network]
        if x.ndim != 4 or x.shape[1] != 3 or x.shape != y.shape or min(x.shape[-2:]) < smallest:
            raise ValueError(
                f"ST-LPIPS ({self.network}) takes two (N, 3, H, W) of one shape, H and W at least {smallest}, "
                f"got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        # Both images of each pair go through the network in one batch.
        features = (torch.cat([x, y]) - self.shift) / self.scale
        terms = []
        for stage, weights in zip(self.trunk, self.heads, strict=True):
            features = stage(features)
            directions = features / (features.square().sum(1, keepdim=True).sqrt() + EPSILON)
            difference_x, difference_y = directions.chunk(2)
            squares = (difference_x - difference_y).square()
            terms.append(torch.einsum("nchw,c->n", squares, weights) / squares[0, 0].numel())
        return torch.stack(terms, 1)


def published_keys(distance: ShiftTolerantLPIPS) -> dict[str, str]:
    """Keys of the published file to those of this module; theirs number the layers of all stages together."""
    keys = {f"lin{i}.model.1.weight": f"heads.{i}" for i in range(len(distance.heads))}
    position = 0
    for stage, layers in distance.trunk.named_children():
        for i, layer in layers.named_children():
            for leaf in layer.state_dict():
                keys[f"net.slice{int(stage) + 1}.{position}.{leaf}"] = f"trunk.{stage}.{i}.{leaf}"
            position += 1
    return keys


def random_weights(network: StlpipsNetwork) -> dict[str, Tensor]:
    """A state dict as ``load_stlpips`` takes it, with random values, for trials without the package."""
    distance = ShiftTolerantLPIPS(network)
    own = distance.state_dict()
    return {theirs: own[ours] for theirs, ours in published_keys(distance).items()}


def load_stlpips(
    network: StlpipsNetwork, state_dict: Mapping[str, Tensor] | None = None, verify_weights: bool = True
) -> ShiftTolerantLPIPS:
    """The trained distance in evaluation mode, without gradients of its weights.

    Args:
        network: "alex" or "vgg".
        state_dict: all its weights under the keys of ``<network>_shift_tolerant.pth``; None reads that file from the
            installed package stlpips-pytorch.
        verify_weights: whether the file must be the published one.
    Raises:
        MissingWeights: the package is wanted and not installed.
        UserError: the weights do not fit.
    """
    distance = ShiftTolerantLPIPS(network)
    weights = load_weights(f"stlpips_{network}", verify_weights) if state_dict is None else state_dict
    # The file also holds the constants of this module.
    load_strict(
        distance, weights, f"ST-LPIPS ({network})", published_keys(distance), ignored=(".filt", ".shift", ".scale")
    )
    # Weights that are laid out channels last make the activations so too: a fifth more images a second on a CPU.
    return distance.eval().requires_grad_(False).to(memory_format=torch.channels_last)
