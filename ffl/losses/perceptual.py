"""Perceptual loss (Johnson et al., ECCV 2016), compared in Table 7."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffl.losses.vgg import VGGFeatures
from ffl.weights import load_weights

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

PerceptualNetwork = Literal["vgg16", "stlpips_vgg"]


class PerceptualLoss(nn.Module):
    r"""Feature reconstruction loss on a trained VGG-16.

    $$
    L = \sum_j \lambda_j \frac{1}{C_j H_j W_j} \| \phi_j(\mathrm{fake}) - \phi_j(\mathrm{real}) \|_2^2,
    $$

    averaged over the images, where $\phi_j$ are the activations of layer j for images normalised to
    the statistics of ImageNet. The paper of the focal frequency loss does not name its layer; the default is
    relu2_2, which Johnson et al. use where an image is to be recovered (super-resolution), not restyled.

    The network of the paper is torchvision's, trained on ImageNet, whose weights have to be downloaded. That of
    ST-LPIPS, which installs with pip, is another one with values of its own: see ``ffl.losses.vgg``.

    The network is frozen, ends at the last layer named, and is no part of the state dict.

    Args:
        state_dict: weights of the network, at least those of its convolutions up to the last layer, under the keys
            of the published file; None loads the published ones.
        layers: names among relu1_1 to relu5_3, in the order of the network.
        layer_weights: $\lambda_j$, one per layer; None means 1 each.
        network: "vgg16" (torchvision's) or "stlpips_vgg".
    Raises:
        ValueError: unknown network, unknown, unordered or no layers, or a wrong number of weights for them.
        ffl.errors.UserError: ``state_dict`` is None and the published weights are not there.

    Examples:
        >>> import torch
        >>> from ffl import PerceptualLoss
        >>> first_layer = {"features.0.weight": torch.full((64, 3, 3, 3), 0.01), "features.0.bias": torch.zeros(64)}
        >>> loss = PerceptualLoss(first_layer, layers=["relu1_1"])
        >>> fake, real = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
        >>> loss(fake, fake)
        tensor(0.)
        >>> loss(fake, real) > 0
        tensor(True)
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        state_dict: Mapping[str, Tensor] | None = None,
        layers: Sequence[str] = ("relu2_2",),
        layer_weights: Sequence[float] | None = None,
        network: PerceptualNetwork = "vgg16",
    ) -> None:
        super().__init__()
        if network not in get_args(PerceptualNetwork):
            raise ValueError(f"network must be one of {', '.join(get_args(PerceptualNetwork))}, got {network!r}")
        if layer_weights is not None and len(layer_weights) != len(layers):
            raise ValueError(f"layer_weights must have one value per layer, got {layer_weights!r} for {layers!r}")
        self.layer_weights = (1.0,) * len(layers) if layer_weights is None else tuple(layer_weights)
        weights = load_weights(network) if state_dict is None else state_dict
        self.features = VGGFeatures(weights, network, layers)
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            fake: (N, 3, H, W) floating in [-1, 1], RGB; generated images.
            real: same shape; real images, taken as constant.
        Returns:
            Scalar, float32 or wider.
        Raises:
            TypeError: an input is not a floating tensor.
            ValueError: shapes do not fit.
        """
        for name, images in (("fake", fake), ("real", real)):
            if not images.is_floating_point():
                raise TypeError(f"{name} must be a floating tensor, got {images.dtype}")
        if fake.ndim != 4 or fake.shape[1] != 3 or fake.shape != real.shape or fake.shape[0] == 0:
            raise ValueError(
                "fake and real must have the same shape (N, 3, H, W), N at least 1, "
                f"got {tuple(fake.shape)} and {tuple(real.shape)}"
            )
        # Without a graph for the real images: half of the activations need not be kept for the backward pass.
        with torch.no_grad():
            real_features = self.features(self._normalise(real))
        fake_features = self.features(self._normalise(fake))
        distances = [
            weight * F.mse_loss(_widen(fake_feature), _widen(real_feature))
            for weight, fake_feature, real_feature in zip(self.layer_weights, fake_features, real_features, strict=True)
        ]
        return torch.stack(distances).sum()

    def _normalise(self, images: Tensor) -> Tensor:
        return ((images + 1) / 2 - self.mean) / self.std

    def extra_repr(self) -> str:
        return f"layer_weights={self.layer_weights}"


def _widen(features: Tensor) -> Tensor:
    """Half precision to float32, in which squares of activations neither overflow nor vanish."""
    return features.to(torch.promote_types(features.dtype, torch.float32))
