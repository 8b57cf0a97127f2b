"""Metrics beside what others use: the authors' per-image code, pytorch-fid, scikit-image."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from ffl.metrics.frechet import frechet_distance
from ffl.metrics.inception import InceptionFID, load_inception
from ffl.metrics.pixel import lfd, psnr
from ffl.metrics.ssim import ssim
from scripts.benchmarks import authors
from scripts.benchmarks.settings import Settings
from scripts.benchmarks.targets import at_least, at_most, shown
from scripts.benchmarks.timing import alternate

Pair = Callable[[Tensor, Tensor], Tensor]

# Image size and count.
PAIRS = ((64, 128), (256, 32))
SMALL_PAIRS = ((16, 2),)
PAIR_ROUNDS = 15
SPEEDUPS: dict[str, tuple[Pair, Callable[..., float], float]] = {
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


def measure(settings: Settings) -> list[dict[str, Any]]:
    """One row per metric and size; prints each."""
    sizes = SMALL_PAIRS if settings.small else PAIRS
    rows = [_pair_metric(name, size, count, settings) for size, count in sizes for name in SPEEDUPS]
    if settings.device.type == "cpu":  # the distance is computed there in any case
        rows.append(_frechet(settings))
    rows.append(_features(settings))
    return rows


def _row(metric: str, targets: list[dict[str, Any]], **values: Any) -> dict[str, Any]:
    row = {"metric": metric, **values, "targets": targets}
    print(
        f"{metric:<18} {values['ours_s']:.4g} s, {values['peer']} {values['peer_s']:.4g} s  "
        + "  ".join(shown(target) for target in targets),
        flush=True,
    )
    return row


def _pair_metric(name: str, size: int, count: int, settings: Settings) -> dict[str, Any]:
    from skimage.metrics import structural_similarity

    ours, theirs, bound = SPEEDUPS[name]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, count, 3, size, size), generator=generator, dtype=torch.uint8)
    fake, real = images.to(settings.device)
    pairs = list(zip(*images.permute(0, 1, 3, 4, 2).contiguous().numpy(), strict=True))
    published = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 255, "channel_axis": 2}

    def run_ours() -> Tensor:
        return ours(fake, real)

    def run_authors() -> list[float]:
        return [theirs(*pair) for pair in pairs]

    def run_skimage() -> list[float]:
        return [structural_similarity(*pair, **published) for pair in pairs]

    actions: dict[str, Callable[[], object]] = {"ours": run_ours, "authors": run_authors}
    if name == "ssim":
        actions["skimage"] = run_skimage
    times = alternate(actions, settings.rounds_or(PAIR_ROUNDS), settings.device)
    return _row(
        f"{name} {size}x{size}",
        [at_least("speed-up", times.ratio("authors", "ours"), bound)],
        size=size,
        images=count,
        peer="the authors' code, rewritten",
        ours_s=times.seconds("ours"),
        peer_s=times.seconds("authors"),
        **({"skimage_s": times.seconds("skimage")} if name == "ssim" else {}),
        difference=float(np.abs(np.array(run_authors()) - run_ours().cpu().numpy()).max()),
    )


def _frechet(settings: Settings) -> dict[str, Any]:
    from pytorch_fid.fid_score import calculate_frechet_distance

    dims, vectors = (16, 32) if settings.small else (DIMS, VECTORS)
    generator = torch.Generator().manual_seed(0)
    gaussians: list[np.ndarray] = []
    for _ in range(2):
        # Products of normal numbers: eigenvalues that spread, as those of image features do.
        mixed = torch.randn(dims, dims, generator=generator) / dims**0.5
        features = (torch.randn(vectors, dims, generator=generator) @ mixed).double()
        gaussians += [features.mean(0).numpy(), torch.cov(features.T).numpy()]
    values: dict[str, float] = {}

    def keep(name: str, function: Callable[..., float]) -> Callable[[], None]:
        return lambda: values.update({name: float(function(*gaussians))})

    actions = {"ours": keep("ours", frechet_distance), "pytorch_fid": keep("pytorch_fid", calculate_frechet_distance)}
    times = alternate(actions, settings.rounds_or(FRECHET_ROUNDS), settings.device)
    difference = abs(values["ours"] / values["pytorch_fid"] - 1)
    return _row(
        "frechet distance",
        [
            at_least("speed-up", times.ratio("pytorch_fid", "ours"), FRECHET_SPEEDUP),
            at_most("relative difference", difference, FRECHET_DIFFERENCE),
        ],
        dims=dims,
        peer="pytorch-fid",
        ours_s=times.seconds("ours"),
        peer_s=times.seconds("pytorch_fid"),
    )


def _features(settings: Settings) -> dict[str, Any]:
    """From 8-bit images to Inception features. Both networks have the same random weights: speed does not depend on
    them, and nothing is downloaded."""
    from pytorch_fid import inception as peer

    torch.manual_seed(0)
    state = {key: value.clone() for key, value in InceptionFID().state_dict().items()}
    with mock.patch.object(peer, "load_state_dict_from_url", return_value=state):
        theirs = peer.InceptionV3().to(settings.device).eval()
    ours = load_inception(state).to(settings.device)
    count = 1 if settings.small else INCEPTION_BATCH
    images = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, device=settings.device)
    features: dict[str, Tensor] = {}

    @torch.no_grad()
    def run_ours() -> None:
        features["ours"] = ours.features(images)["2048"]

    @torch.no_grad()
    def run_theirs() -> None:
        features["theirs"] = theirs(images / 255)[0][..., 0, 0]

    times = alternate({"ours": run_ours, "theirs": run_theirs}, settings.rounds_or(INCEPTION_ROUNDS), settings.device)
    scale = features["theirs"].abs().max()
    return _row(
        "inception features",
        [at_most("time over pytorch-fid's", times.ratio("ours", "theirs"), 1.0)],
        images=count,
        peer="pytorch-fid",
        ours_s=times.seconds("ours"),
        peer_s=times.seconds("theirs"),
        difference=float((features["ours"] - features["theirs"]).abs().max() / scale),
    )
