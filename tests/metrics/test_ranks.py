"""Two processes give the values of one, with uneven shares and with a rank that saw nothing."""

import json
import socket
from pathlib import Path

import pytest
import torch
from tiny_inception import random_images, tiny_features
from torch import distributed as dist
from torch import multiprocessing as mp

from ffl.metrics import (
    FID,
    KID,
    LFD,
    MSE,
    PSNR,
    SSIM,
    ImageMetric,
    InceptionScore,
    SpectrumDistance,
    SpectrumDistanceTop,
)

NUM_REAL, NUM_FAKE = 13, 11
# Images of rank 0 and 1: dealt in turn; all to rank 0.
SHARES = {"uneven": (slice(0, None, 2), slice(1, None, 2)), "one_idle": (slice(None), slice(0, 0))}


def metrics() -> list[ImageMetric]:
    extractor = tiny_features()
    inception = [
        FID(extractor=extractor, feature="64"),
        KID(extractor=extractor),
        InceptionScore(3, extractor=extractor),
    ]
    return [*inception, PSNR(), SSIM(), LFD(), MSE(), SpectrumDistance(), SpectrumDistanceTop()]


def measure(share: slice) -> dict[str, float]:
    real, fake = random_images(0, NUM_REAL), random_images(1, NUM_FAKE, 16, 30, 220)
    positions = torch.arange(NUM_FAKE)[share]
    values = {}
    for metric in metrics():
        batches = list(fake[share].split(2)) if len(positions) else []
        if metric.inputs == "pairs":
            for images, other in zip(batches, real[:NUM_FAKE][share].split(2), strict=False):
                metric.update(images, other)
        elif metric.inputs == "fakes":
            for images, places in zip(batches, positions.split(2), strict=False):
                metric.update(images, positions=places)
        else:
            for images in batches:
                metric.update(images, real=False)
            for images in real[share].split(3) if len(positions) else []:
                metric.update(images, real=True)
        values[metric.name] = metric.compute().item()
        values[f"{metric.name} again"] = metric.compute().item()
    return values


def run_rank(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(run_rank, args=(port, str(folder)), nprocs=2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("share", SHARES)
def test_two_ranks_equal_one(of_ranks: list[dict[str, dict[str, float]]], share: str) -> None:
    expected = measure(slice(None))
    for rank in range(2):
        for name, value in expected.items():
            # Inception features and spectra are float32 and depend on the batch in the last bits; sums are float64.
            tolerance = 1e-13 if name.split()[0] in {"psnr", "ssim", "lfd", "mse"} else 1e-6
            assert of_ranks[rank][share][name] == pytest.approx(value, rel=tolerance), (rank, name)


def test_order_of_arrival_is_that_of_a_distributed_sampler(of_ranks: list[dict[str, dict[str, float]]]) -> None:
    assert of_ranks[0]["arrival"]["is"] == pytest.approx(measure(slice(None))["is"], rel=1e-7)
