"""LPIPS (Zhang et al. 2018) with AlexNet: the network of the ``lpips`` package, never downloaded."""

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
from ffl.weights import describe_state_dict, describe_weights, load_weights

VERSION = "0.1"

# Layers of torchvision's AlexNet that form each slice of the package's network, by their index in ``features``.
_SLICES = {0: "slice1", 3: "slice2", 6: "slice3", 8: "slice4", 10: "slice5"}


def _backbone(alexnet: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's AlexNet keys under the names that the package gives them; the classifier is left out."""
    renamed = {}
    for index, part in _SLICES.items():
        for leaf in ("weight", "bias"):
            key = f"features.{index}.{leaf}"
            if key not in alexnet:
                raise UserError(f"weights alexnet: key {key} is missing; the file is not torchvision's AlexNet")
            renamed[f"net.{part}.{index}.{leaf}"] = alexnet[key]
    return renamed


def _linear_heads() -> dict[str, Tensor]:
    """The trained 1×1 convolutions that ship inside the package."""
    path = Path(lpips_package.__file__).parent / "weights" / f"v{VERSION}" / "alex.pth"
    return torch.load(path, map_location="cpu", weights_only=True)


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
    if state_dict is None:
        state_dict = {**_backbone(load_weights("alexnet", verify_weights)), **_linear_heads()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        network = lpips_package.LPIPS(pretrained=False, net="alex", version=VERSION, pnet_rand=True, verbose=False)
    try:
        missing, unexpected = network.load_state_dict(dict(state_dict), strict=False)
    except RuntimeError as error:
        raise UserError(f"LPIPS weights do not fit: {' '.join(str(error).split())}") from error
    # The constants of the input scaling and the second name of each head (``lins``) need not be given.
    absent = [key for key in missing if not key.startswith(("scaling_layer.", "lins."))]
    if absent or unexpected:
        raise UserError(f"LPIPS weights do not fit: missing {absent or 'none'}, unexpected {unexpected or 'none'}")
    return network.eval().requires_grad_(False)


class LPIPS(PairMetric):
    """Mean over images of the LPIPS distance, AlexNet, version 0.1, on images in [-1, 1].

    Args:
        state_dict: weights under the ``lpips`` package's keys instead of the published ones.
        verify_weights: whether the AlexNet file must be the published one.
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
