"""Metrics beside what others use: the authors' per-image code, pytorch-fid, torch-fidelity, scikit-image, lpips."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from ffl.images import from_uint8
from ffl.metrics.features import EfficientNetFeatures
from ffl.metrics.frechet import frechet_distance
from ffl.metrics.inception import InceptionFID, Preprocess, load_inception
from ffl.metrics.lpips import untrained_lpips
from ffl.metrics.pixel import lfd, psnr
from ffl.metrics.ssim import ssim
from ffl.networks import efficientnet_lite, stlpips
from scripts.benchmarks import authors
from scripts.benchmarks.rows import at_least, at_most
from scripts.benchmarks.timing import Action, Conditions, alternate

# Image size and count.
PAIRS = ((64, 128), (256, 32))
SMALL_PAIRS = ((16, 2),)
PAIR_ROUNDS = 15
# Ours, the authors', smallest speed-up.
PAIR_METRICS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[..., float], float]] = {
    "psnr": (psnr, authors.psnr, 3.0),
    "lfd": (lfd, authors.lfd, 3.0),
    "ssim": (ssim, authors.ssim, 4.0),
}

DIMS = 2048
VECTORS = 4096
FRECHET_ROUNDS = 3
FRECHET_SPEEDUP = 4.0
FRECHET_DIFFERENCE = 1e-6

INCEPTION_BATCH = 16
INCEPTION_ROUNDS = 5
EFFICIENTNET_SPEEDUP = 3.0
STLPIPS_IMAGES_PER_SECOND = 50.0  # at 64x64 on one core


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """One row per metric and size."""
    from pytorch_fid import inception as pytorch_fid
    from pytorch_fid.fid_score import calculate_frechet_distance
    from skimage.metrics import structural_similarity
    from torch_fidelity import feature_extractor_inceptionv3 as torch_fidelity

    device, small = conditions.device, conditions.small
    values: dict[str, Any] = {}

    def keep(name: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Compute what is timed, and remember it: that both are equal is part of the measurement."""
        values[name] = function(*arguments)

    # Metrics of image pairs, whole batches of ours beside one pair at a time.
    published = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 255, "channel_axis": 2}
    for size, count in SMALL_PAIRS if small else PAIRS:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (2, count, 3, size, size), generator=generator, dtype=torch.uint8)
        pairs = list(zip(*images.permute(0, 1, 3, 4, 2).contiguous().numpy(), strict=True))
        for name, (ours, theirs, speedup) in PAIR_METRICS.items():
            actions: dict[str, Action] = {
                "ours": partial(keep, "ours", ours, *images.to(device)),
                "peer": partial(keep, "peer", of_each, theirs, pairs),
            }
            if name == "ssim":
                actions["skimage"] = partial(of_each, partial(structural_similarity, **published), pairs)
            times = alternate(actions, conditions.rounds or PAIR_ROUNDS, device)
            yield {
                "metric": f"{name} {size}x{size}",
                "size": size,
                "images": count,
                "peer": "the authors' code, rewritten",
                **times.medians(),
                "difference": float(np.abs(np.array(values["peer"]) - values["ours"].cpu().numpy()).max()),
                "targets": [at_least("speed-up", times.ratio("peer", "ours"), speedup)],
            }

    # The Fréchet distance, which is computed on the CPU in any case.
    if device.type == "cpu":
        dims, vectors = (16, 32) if small else (DIMS, VECTORS)
        generator = torch.Generator().manual_seed(0)
        gaussians: list[np.ndarray] = []
        for _ in range(2):
            # Products of normal numbers: eigenvalues that spread, as those of image features do.
            mixed = torch.randn(dims, dims, generator=generator) / dims**0.5
            features = (torch.randn(vectors, dims, generator=generator) @ mixed).double()
            gaussians += [features.mean(0).numpy(), torch.cov(features.T).numpy()]
        actions = {
            "ours": partial(keep, "ours", frechet_distance, *gaussians),
            "peer": partial(keep, "peer", calculate_frechet_distance, *gaussians),
        }
        times = alternate(actions, conditions.rounds or FRECHET_ROUNDS, device)
        difference = abs(float(values["ours"]) / float(values["peer"]) - 1)
        yield {
            "metric": "frechet distance",
            "dims": dims,
            "peer": "pytorch-fid",
            **times.medians(),
            "targets": [
                at_least("speed-up", times.ratio("peer", "ours"), FRECHET_SPEEDUP),
                at_most("relative difference", difference, FRECHET_DIFFERENCE),
            ],
        }

    # From 8-bit images to Inception features. Both networks have the same random weights: speed does not depend on
    # them, and nothing is downloaded.
    torch.manual_seed(0)
    state = {key: value.clone() for key, value in InceptionFID().state_dict().items()}
    with mock.patch.object(pytorch_fid, "load_state_dict_from_url", return_value=state):
        by_pytorch_fid = pytorch_fid.InceptionV3().to(device).eval()
    with mock.patch.object(torch_fidelity, "load_state_dict_from_url", return_value=state):
        by_torch_fidelity = torch_fidelity.FeatureExtractorInceptionV3("inception", ["2048"]).to(device).eval()
    network = load_inception(state).to(device)
    count = 1 if small else INCEPTION_BATCH
    batch = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, device=device)
    peers: dict[str, tuple[Preprocess, Callable[[], Tensor]]] = {
        "pytorch-fid": ("pytorch_fid", lambda: by_pytorch_fid(batch / 255)[0][..., 0, 0]),
        "torch-fidelity": ("torch_fidelity", lambda: by_torch_fidelity(batch)[0]),
    }
    for peer, (preprocess, features) in peers.items():
        actions = {
            "ours": partial(keep, "ours", lambda preprocess=preprocess: network.features(batch, preprocess)["2048"]),
            "peer": partial(keep, "peer", features),
        }
        with torch.no_grad():
            times = alternate(actions, conditions.rounds or INCEPTION_ROUNDS, device)
        error = (values["ours"] - values["peer"]).abs().max() / values["peer"].abs().max()
        yield {
            "metric": "inception features" if peer == "pytorch-fid" else f"inception features of {peer}",
            "images": count,
            "peer": peer,
            **times.medians(),
            "images_per_second": count / times.seconds("ours"),
            "difference": float(error),
            "targets": [at_most(f"time over {peer}'s", times.ratio("ours", "peer"), 1.0)],
        }

    # The embedded networks beside those that they stand in for, from the same 8-bit images; random weights again.
    extractor = EfficientNetFeatures(efficientnet_lite.load_efficientnet_lite0(efficientnet_lite.random_weights()), {})
    extractor.to(device)
    actions = {
        "ours": lambda: extractor.compute(batch)["features"],
        "peer": lambda: network.features(batch)["2048"],
    }
    with torch.no_grad():
        times = alternate(actions, conditions.rounds or INCEPTION_ROUNDS, device)
    yield {
        "metric": "efficientnet-lite0 features",
        "images": count,
        "peer": "our Inception",
        **times.medians(),
        "images_per_second": count / times.seconds("ours"),
        "targets": [at_least("images over Inception's", times.ratio("peer", "ours"), EFFICIENTNET_SPEEDUP)],
    }

    distance = stlpips.load_stlpips("alex", stlpips.random_weights("alex")).to(device)
    lpips = untrained_lpips().to(device).eval()
    real = batch.flip(3)
    actions = {
        "ours": lambda: distance(from_uint8(batch), from_uint8(real)),
        "peer": lambda: lpips(from_uint8(batch), from_uint8(real)),
    }
    with torch.no_grad():
        times = alternate(actions, conditions.rounds or INCEPTION_ROUNDS, device)
    yield {
        "metric": "st-lpips (alex) 64x64",
        "images": count,
        "peer": "lpips (alex)",
        **times.medians(),
        "targets": [at_least("generated images a second", count / times.seconds("ours"), STLPIPS_IMAGES_PER_SECOND)],
    }


def of_each(metric: Callable[..., float], pairs: Sequence[tuple[authors.Pixels, ...]]) -> list[float]:
    """The values of a metric that takes one pair at a time."""
    return [metric(*pair) for pair in pairs]
