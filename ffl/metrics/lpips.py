"""LPIPS (Zhang et al. 2018) with AlexNet: the network of the ``lpips`` package, never downloaded.

With φl the activations after AlexNet's l-th convolution, scaled to length 1 along their channels, and wl trained
weights of these channels,

    LPIPS(x, y) = sum over l of the mean over positions of wl · (φl(x) - φl(y))²
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lpips as lpips_package
import torch
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.images import from_uint8
from ffl.metrics.base import Description, PairMetric, check_images, check_pairs
from ffl.state_dicts import load_strict
from ffl.weights import describe_state_dict, describe_weights, load_weights

VERSION = "0.1"

# Layers of torchvision's AlexNet that form each slice of the package's network, by their index in ``features``.
SLICES = {0: "slice1", 3: "slice2", 6: "slice3", 8: "slice4", 10: "slice5"}


def untrained_lpips() -> nn.Module:
    """The package's network with random weights."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        return lpips_package.LPIPS(pretrained=False, net="alex", version=VERSION, pnet_rand=True, verbose=False)


def build_lpips(state_dict: Mapping[str, Tensor] | None = None, verify_weights: bool = True) -> nn.Module:
    """The package's LPIPS network in evaluation mode, without gradients.

    Args:
        state_dict: all its weights under the package's keys; None takes the published ones: AlexNet's convolutions
            from ``$FFL_WEIGHTS``, the linear heads from the package.
        verify_weights: whether the AlexNet file must be the published one.
    Returns:
        Module of two float (N, 3, H, W) images in [-1, 1] to (N, 1, 1, 1) distances.
    Raises:
        UserError: if weights are absent or do not fit.
    """
    # The package would download AlexNet from torchvision; its own heads are small and come with it.
    if state_dict is None:
        alexnet = load_weights("alexnet", verify_weights)
        heads = Path(lpips_package.__file__).parent / "weights" / f"v{VERSION}" / "alex.pth"
        published = torch.load(heads, map_location="cpu", weights_only=True)
        for index, part in SLICES.items():
            for leaf in ("weight", "bias"):
                key = f"features.{index}.{leaf}"
                if key not in alexnet:
                    raise UserError(f"weights alexnet: key {key} is missing; the file is not torchvision's AlexNet")
                published[f"net.{part}.{index}.{leaf}"] = alexnet[key]
        state_dict = published
    network = untrained_lpips()
    # The constants of the input scaling and the second name of each head (``lins``) need not be given.
    constants = ("scaling_layer.", "lins.")
    names = {key: key for key in network.state_dict() if key in state_dict or not key.startswith(constants)}
    return load_strict(network, state_dict, "LPIPS (AlexNet)", names).eval().requires_grad_(False)


class LPIPS(PairMetric):
    """Mean over images of the LPIPS distance, AlexNet, version 0.1, on images in [-1, 1].

    Args:
        state_dict: weights under the ``lpips`` package's keys instead of the published ones.
        verify_weights: whether the AlexNet file must be the published one.
    Raises:
        MissingWeights: the published file is wanted and not there.
        UserError: the weights do not fit.

    Examples:
        >>> metric = LPIPS(state_dict=untrained_lpips().state_dict())
        >>> images = torch.arange(3 * 64 * 64).view(1, 3, 64, 64).to(torch.uint8)
        >>> metric.update(images, images)
        >>> metric.compute().item()
        0.0
    """

    name = "lpips"
    label = "LPIPS"
    tasks = ("reconstruction",)
    higher_is_better = False

    def __init__(
        self, state_dict: Mapping[str, Tensor] | None = None, verify_weights: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.network = build_lpips(state_dict, verify_weights)
        self._weights = describe_weights("alexnet") if state_dict is None else describe_state_dict(state_dict)

    def per_image(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pairs(self.name, fake, real)
        check_images(self.name, fake, channels=3)
        with torch.autocast(fake.device.type, enabled=False):
            return self.network(from_uint8(fake), from_uint8(real)).flatten().double()

    def protocol(self) -> Description:
        return {"network": "AlexNet", "version": VERSION, "range": "[-1, 1]", "average": "over images", **self._weights}
