"""Our autoencoder in training, epoch by epoch, as train.py runs it but for its logs and checkpoints."""

import time
from collections.abc import Iterator
from pathlib import Path

import torch

from datasets import build_dataset
from ffl.training.loader import Loader
from ffl.training.objective import Objective
from ffl.training.program import compose
from ffl.training.randomness import seed_weights
from ffl.training.step import TrainingStep
from ffl.training.trainer import to_device
from models import build_model
from scripts.benchmarks.timing import synchronise


def train_ours(
    overrides: list[str], data_root: Path, cache_dir: Path, device: torch.device, batch_size: int
) -> Iterator[int]:
    """Train with the focal frequency loss.

    Args:
        overrides: of configs/train.yaml, such as dataset=celeba.
        data_root: folder that holds one folder per data set.
        cache_dir: for decoded images.
        device: to train on.
        batch_size: of a step.
    Yields:
        After each epoch, the images that it trained on; without end.
    """
    config = compose("train", ["model=ae", "loss.ffl=true", *overrides])
    dataset = build_dataset(split="train", data_root=data_root, cache_dir=cache_dir, **config["dataset"])
    seed_weights(config["seed"])
    model = build_model(**config["model"], image_size=dataset.image_size, objective=Objective(**config["loss"]))
    model.to(device).train()
    training_step = TrainingStep(model, config["seed"])
    loader = Loader(dataset, batch_size, config["seed"])
    start = 0
    while True:
        for step, shards in loader.batches(start, start + loader.steps_per_epoch):
            batches = {shard: to_device(batch, device) for shard, batch in shards.items()}
            training_step.run(step, batches)
        start += loader.steps_per_epoch
        yield loader.steps_per_epoch * batch_size


def epoch_seconds(training: Iterator[int], epochs: int, device: torch.device) -> list[tuple[float, int]]:
    """Seconds and images of each epoch; what comes before the first step belongs to the first epoch."""
    measured = []
    for _ in range(epochs):
        began = time.perf_counter()
        images = next(training)
        synchronise(device)
        measured.append((time.perf_counter() - began, images))
    return measured
