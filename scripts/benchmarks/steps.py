"""Training steps as train.py does them, without its logs and checkpoints: what every benchmark of training repeats."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from datasets import build_dataset
from ffl.training.compiling import compile_networks
from ffl.training.config import PrecisionName
from ffl.training.loader import Loader
from ffl.training.model import Batch, Phase
from ffl.training.objective import Objective
from ffl.training.program import Config, compose
from ffl.training.randomness import seed_weights
from ffl.training.step import TrainingStep
from ffl.training.trainer import to_device
from models import build_model
from scripts.benchmarks.timing import synchronise


def build_step(
    config: Config,
    image_size: tuple[int, int],
    device: torch.device,
    *,
    precision: PrecisionName = "fp32",
    channels_last: bool = False,
    compiled: bool = False,
) -> TrainingStep:
    """The model of a configuration, with its initial weights and its optimisers.

    Args:
        config: composed from configs/train.yaml.
        image_size: (H, W) of the images.
        device: to train on.
        precision, channels_last, compiled: as the trainer's keys.
    """
    seed_weights(config["seed"])
    model = build_model(**config["model"], image_size=image_size, objective=Objective(**config["loss"]))
    model = model.to(device).train()
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        compile_networks(model, device)
    return TrainingStep(model, config["seed"], precision)


def step_on_random_images(
    overrides: list[str], size: int, batch_size: int, device: torch.device, **options: Any
) -> tuple[Callable[[int], None], list[Phase]]:
    """A training step without a data set.

    Args:
        overrides: of configs/train.yaml, such as model=ae.
        size: height and width of the images.
        batch_size: images of a step.
        device: to train on.
        options: of ``build_step``.
    Returns:
        A function that does the step of a number, and the model's phases.
    """
    config = compose("train", overrides)
    training_step = build_step(config, (size, size), device, **options)
    model = training_step.model
    batch: Batch = {"image": torch.rand(batch_size, 3, size, size, device=device) * 2 - 1}
    if options.get("channels_last"):
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
    if "source" in model.inputs:
        batch["source"] = batch["image"].flip(3)
    if "label" in model.inputs:
        # Regions of 8 x 8 pixels, since real label maps have regions.
        coarse = torch.randint(0, config["model"]["label_channels"], (batch_size, size // 8, size // 8))
        batch["label"] = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2).to(device)

    def step(number: int) -> None:
        training_step.run(number, {0: dict(batch)})
        model.finish_step((number + 1) * batch_size, batch_size)

    return step, training_step.phases


def train_epochs(
    overrides: list[str], data_root: Path, cache_dir: Path, device: torch.device, batch_size: int
) -> Iterator[int]:
    """Train the autoencoder with the focal frequency loss on a data set.

    Args:
        overrides: of configs/train.yaml, such as dataset=celeba.
        data_root: folder that holds one folder per data set.
        cache_dir: for decoded images.
        device: to train on.
        batch_size: images of a step.
    Yields:
        After each epoch, the images that it trained on; without end.
    """
    config = compose("train", ["model=ae", "loss.ffl=true", *overrides])
    dataset = build_dataset(split="train", data_root=data_root, cache_dir=cache_dir, **config["dataset"])
    training_step = build_step(config, dataset.image_size, device)
    loader = Loader(dataset, batch_size, config["seed"])
    start = 0
    while True:
        for number, shards in loader.batches(start, start + loader.steps_per_epoch):
            training_step.run(number, {shard: to_device(batch, device) for shard, batch in shards.items()})
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
