"""A metric's value does not depend on how images are dealt into batches and over processes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_networks import random_images, segmenter_weights, tiny_features
from torch import distributed as dist
from torch import multiprocessing as mp

from ffl.metrics import (
    FID,
    KID,
    METRICS,
    GenerativePrecision,
    GenerativeRecall,
    ImageMetric,
    InceptionScore,
    build_metric,
)

NUM_REAL, NUM_FAKE = 13, 11
# Images of rank 0 and 1: dealt in turn; all to rank 0.
SHARES = {"uneven": (slice(0, None, 2), slice(1, None, 2)), "one_idle": (slice(None), slice(0, 0))}
PIXEL_METRICS = ("psnr", "ssim", "lfd", "mse")
SEGMENTATION = {"miou", "accuracy", "accuracy_all"}


def metrics() -> list[ImageMetric]:
    """A metric of each class but LPIPS and ST-LPIPS, which average as PSNR does; the scores of both label sets."""
    extractor = tiny_features()
    sets = [
        FID(extractor=extractor, feature="64"),
        KID(extractor=extractor),
        GenerativePrecision(extractor=extractor, k=2),
        GenerativeRecall(extractor=extractor, k=2),
    ]
    plain = [METRICS[name]() for name in (*PIXEL_METRICS, "spectrum_distance", "spectrum_distance_top")]
    cityscapes: dict[str, Any] = {"label_set": "cityscapes", "state_dict": segmenter_weights("cityscapes")}
    ade20k = {"label_set": "ade20k", "state_dict": segmenter_weights("ade20k"), "short_sides": (32,)}
    scores = [build_metric(name, **options) for name in sorted(SEGMENTATION) for options in (cityscapes, ade20k)]
    return [*sets, InceptionScore(3, extractor=extractor), *plain, *scores]


def measure(share: slice, size: int = 2) -> dict[str, float]:
    """All metrics of a share of the images, given in batches of ``size``."""
    real, fake = random_images(0, NUM_REAL), random_images(1, NUM_FAKE, 16, 30, 220)
    classes = {"cityscapes": 34, "ade20k": 151}
    labels = {name: random_images(2, NUM_FAKE, 16, 0, count)[:, 0].long() for name, count in classes.items()}
    positions = torch.arange(NUM_FAKE)[share]
    batches = positions.split(size) if len(positions) else []
    values = {}
    for metric in metrics():
        label_set = metric.labels.name if metric.inputs == "labels" else ""
        name = f"{metric.name} {label_set}".strip()
        for chosen in batches:
            if metric.inputs == "pairs":
                metric.update(fake[chosen], real[chosen])
            elif metric.inputs == "fakes":
                metric.update(fake[chosen], positions=chosen)
            elif metric.inputs == "labels":
                metric.update(fake[chosen], labels[label_set][chosen])
            else:
                metric.update(fake[chosen], real=False)
        if metric.inputs == "sets" and len(positions):
            for images in real[share].split(size + 1):
                metric.update(images, real=True)
        values[name] = metric.compute().item()
        values[f"{name} again"] = metric.compute().item()
        if metric.inputs == "sets":
            values[f"{name} floor"] = metric.floor()
    return values


def check(values: dict[str, float], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        # Inception features and spectra are float32 and depend on the batch in the last bits; sums are float64 or
        # integers.
        exact = name.split()[0] in SEGMENTATION.union(PIXEL_METRICS)
        assert values[name] == pytest.approx(value, rel=1e-13 if exact else 1e-6), name


@pytest.mark.parametrize("size", [1, 5, 13])
def test_batch_size_does_not_matter(size: int) -> None:
    check(measure(slice(None), size), measure(slice(None)))


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    values = {name: measure(shares[rank]) for name, shares in SHARES.items()}

    arrival = InceptionScore(3, extractor=tiny_features())  # no positions: dealt in turn, as DistributedSampler does
    for images in random_images(1, NUM_FAKE, 16, 30, 220)[rank::2].split(4):
        arrival.update(images)
    values["arrival"] = {"is": arrival.compute().item()}
    Path(folder, f"{rank}.json").write_text(json.dumps(values))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, float]]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(run_rank, args=(str(folder),), nprocs=2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("share", SHARES)
def test_two_ranks_equal_one(of_ranks: list[dict[str, dict[str, float]]], share: str) -> None:
    expected = measure(slice(None))
    for rank in range(2):
        check(of_ranks[rank][share], expected)


def test_order_of_arrival_is_that_of_a_distributed_sampler(of_ranks: list[dict[str, dict[str, float]]]) -> None:
    assert of_ranks[0]["arrival"]["is"] == pytest.approx(measure(slice(None))["is"], rel=1e-7)
