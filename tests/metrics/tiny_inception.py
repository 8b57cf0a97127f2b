"""A stand-in for the Inception network: fixed random projections of 8×8 thumbnails, fast and exact to the last bits."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffl.metrics.inception import FEATURE_DIMS
from ffl.metrics.inception_features import InceptionFeatures


class TinyInception(nn.Module):
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


def random_images(seed: int, count: int, size: int = 16, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, 3, size, size), dtype=torch.uint8, generator=generator)
