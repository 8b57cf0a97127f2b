"""ST-LPIPS (Ghildyal and Liu 2022) as metrics: LPIPS on networks that hardly see a shift by a pixel.

The equation and the networks are in ``ffl.networks.stlpips``. Values are not comparable with those of LPIPS, though
both judge alike: asked which of two distorted patches of BAPPS is closer to the original, they agree with people
equally often (69.8 % against 70.0 %, as the paper reports).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ffl.images import from_uint8
from ffl.metrics.base import Description, PairMetric, check_images, check_pairs
from ffl.networks.stlpips import MIN_SIZE, StlpipsNetwork, load_stlpips
from ffl.weights import describe_state_dict, describe_weights


class STLPIPS(PairMetric):
    """Mean over images of the ST-LPIPS distance, AlexNet, on images in [-1, 1] of at least 21×21 pixels.

    Args:
        state_dict: weights under the keys of the published file instead of the published ones.
        verify_weights: whether the file in the installed package stlpips-pytorch must be the published one.
    Raises:
        MissingWeights: the package is wanted and not installed.
        UserError: the weights do not fit.

    Examples:
        >>> from ffl.networks.stlpips import random_weights
        >>> metric = STLPIPS(state_dict=random_weights("alex"))
        >>> images = torch.arange(3 * 64 * 64).view(1, 3, 64, 64).to(torch.uint8)
        >>> metric.update(images, images)
        >>> metric.compute().item()
        0.0
    """

    name = "stlpips_alex"
    label = "ST-LPIPS"
    digits = 3
    tasks: ClassVar[tuple[str, ...]] = ("reconstruction", "translation", "semantic")
    higher_is_better = False
    network: ClassVar[StlpipsNetwork] = "alex"
    min_size = MIN_SIZE["alex"]

    def __init__(
        self, state_dict: Mapping[str, Tensor] | None = None, verify_weights: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.distance = load_stlpips(self.network, state_dict, verify_weights)
        name = f"stlpips_{self.network}"
        self._weights = describe_weights(name) if state_dict is None else describe_state_dict(state_dict)

    def per_image(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pairs(self.name, fake, real)
        check_images(self.name, fake, channels=3)
        with torch.autocast(fake.device.type, enabled=False):
            return self.distance(from_uint8(fake), from_uint8(real)).double()

    def protocol(self) -> Description:
        network = {"alex": "AlexNet", "vgg": "VGG-16"}[self.network]
        about = {"network": f"{network}, anti-aliased, trained on BAPPS", "range": "[-1, 1]", "average": "over images"}
        return {**about, **self._weights}


class VggSTLPIPS(STLPIPS):
    """Mean over images of the ST-LPIPS distance, VGG-16, on images in [-1, 1] of at least 18×18 pixels.

    It costs five times as much as AlexNet's. Arguments and errors are those of ``STLPIPS``.
    """

    name = "stlpips_vgg"
    label = "ST-LPIPS (VGG)"
    tasks = ()
    network = "vgg"
    min_size = MIN_SIZE["vgg"]
