"""Stand-ins for the pretrained networks: small, fast, exact to the last bits; and images for them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffl.metrics.features import InceptionFeatures
from ffl.metrics.inception import FEATURE_DIMS
from ffl.metrics.segmenters import DRNArch, DRNSeg, ResNetEncoder, UPerNet, UPerNetDecoder

SMALL_DRN = DRNArch(True, (1, 1, 2, 1), (4, 4, 6, 6, 8, 8, 8, 8))


class TinyInception(nn.Module):
    """Fixed random projections of 8×8 thumbnails."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.weights = {
            name: torch.randn(192, dims, dtype=torch.float64, generator=generator) / 192**0.5
            for name, dims in FEATURE_DIMS.items()
        }
        self.calls = 0

    def features(self, images: Tensor, preprocess: str) -> dict[str, Tensor]:
        self.calls += 1
        small = F.adaptive_avg_pool2d(images.double() / 32, 8).flatten(1)
        return {name: (small @ weight).relu().float() for name, weight in self.weights.items()}


def tiny_features() -> InceptionFeatures:
    return InceptionFeatures(TinyInception(), "pytorch_fid", {"weights_sha256": "tiny"})  # type: ignore[arg-type]


def small_upernet(classes: int = 150) -> UPerNet:
    encoder = ResNetEncoder((1, 1, 2, 1), (4, 4, 4, 6))
    return UPerNet(encoder, UPerNetDecoder(classes, (16, 16, 16, 24), ppm_dim=4, fpn_dim=6)).eval()


def segmenter_weights(label_set: str, classes: int | None = None) -> dict[str, Any]:
    """What ``Segmenter.load`` takes, of a small network with seeded weights."""
    torch.manual_seed(1)
    if label_set == "cityscapes":
        return DRNSeg(SMALL_DRN, classes or 19).state_dict()
    network = small_upernet(classes or 150)
    return {"encoder": network.encoder.state_dict(), "decoder": network.decoder.state_dict()}


def random_images(seed: int, count: int, size: int = 16, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, 3, size, size), dtype=torch.uint8, generator=generator)
