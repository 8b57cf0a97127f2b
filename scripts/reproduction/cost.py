"""What a training step costs: seconds here, measured, and operations, counted."""

import math
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ffl.training.model import Batch, Model, Phase
from ffl.training.objective import Objective
from ffl.training.program import Config
from ffl.training.randomness import seed_weights
from ffl.training.step import TrainingStep
from ffl.training.trainer import choose_device
from models import MODELS, build_model

WARM_UP, TIMED = 2, 3
PATIENCE = 10.0  # seconds that timing a model may take, about

_measured: dict[str, tuple[float, str]] = {}


def measured_step(config: Config) -> tuple[float, str]:
    """Seconds of a training step on random images, and how they were measured.

    The median of a few steps after two for warming up, fewer where they are slow; phases that are not due in every
    step count by their share. Where one step would take too long, two smaller batches are timed and the time taken to
    grow along a line. Models of one size whose losses differ in numbers alone are timed once.

    Raises:
        UserError: if the model needs weights that are not there.
    """
    loss, batch_size = config["loss"], int(config["trainer"]["batch_size"])
    terms = (loss["ffl"], loss["transform"], bool(loss["perceptual"]), bool(loss["spectral_regularization"]))
    key = repr((config["model"], image_size(config), batch_size, terms))
    if key not in _measured:
        _measured[key] = _measure(config, batch_size)
    return _measured[key]


def _measure(config: Config, batch_size: int) -> tuple[float, str]:
    small, larger = 4, 16
    if batch_size > small:
        first = _timed(config, small)
        if batch_size > larger and first * batch_size / small > PATIENCE:
            slope = max(0.0, _timed(config, larger) - first) / (larger - small)
            return first + slope * (batch_size - small), f"batches of {small} and {larger}"
    return _timed(config, batch_size), "measured"


def _timed(config: Config, batch_size: int) -> float:
    if config["trainer"]["threads"] is not None:
        torch.set_num_threads(config["trainer"]["threads"])
    device = choose_device(config["trainer"]["accelerator"])
    seed_weights(config["seed"])
    objective = Objective(**config["loss"])
    model: Model = build_model(**config["model"], image_size=image_size(config), objective=objective).to(device)
    model.train()
    training_step = TrainingStep(model, config["seed"])
    batch = random_batch(config, batch_size, device)
    total, steps = 0.0, due_steps(training_step.phases)
    for step, weight in steps.items():
        seconds: list[float] = []
        while len(seconds) < 2 or (len(seconds) < WARM_UP + TIMED and sum(seconds) < PATIENCE):
            began = time.perf_counter()
            training_step.run(step, {0: batch})
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - began)
        total += weight * statistics.median(seconds[min(WARM_UP, len(seconds) - 1) :])
    return total / sum(steps.values())


def image_size(config: Config) -> tuple[int, int]:
    """(H, W) of a configuration's images; frames of Cityscapes are twice as wide as high."""
    height = int(config["dataset"]["image_size"])
    return height, 2 * height if config["dataset"]["name"] == "cityscapes" else height


def random_batch(config: Config, batch_size: int, device: torch.device) -> Batch:
    """Random items with all that the model trains on."""
    height, width = image_size(config)
    batch: Batch = {
        "image": torch.rand(batch_size, 3, height, width, device=device) * 2 - 1,
        "index": torch.arange(batch_size, device=device),
    }
    inputs = MODELS[config["model"]["name"]].inputs
    if "source" in inputs:
        batch["source"] = batch["image"].flip(3)
    if "label" in inputs:
        labels = config["model"]["label_channels"]
        batch["label"] = torch.randint(labels, (batch_size, height, width), device=device)
        batch["instance"] = torch.randint(100, (batch_size, height, width), device=device)
    return batch


def due_steps(phases: Sequence[Phase]) -> dict[int, int]:
    """A step for each set of phases that are due together, and in how many of a period's steps they are."""
    period = math.lcm(*(phase.interval for phase in phases))
    due = {step: frozenset(p.name for p in phases if step % p.interval == 0) for step in range(period)}
    first = {names: step for step, names in reversed(due.items())}
    return {first[names]: count for names, count in Counter(due.values()).items()}


_flops: dict[str, float] = {}


def image_flops(config: Config) -> float:
    """Floating point operations of a training step per image, two to a multiplication with addition.

    Counted on tensors without content, without the extra terms of the loss, which add little, and without networks
    that have to be downloaded.
    """
    # A term of its own, as there are no extra ones, and none that needs a download.
    switched = {key: value for key, value in {"mse_weight": 1.0, "vgg_weight": 0.0}.items() if key in config["model"]}
    model_config: dict[str, Any] = {**config["model"], **switched}
    key = repr((model_config, image_size(config)))
    if key not in _flops:
        with warnings.catch_warnings(), FakeTensorMode(allow_non_fake_inputs=True):
            warnings.simplefilter("ignore", UserWarning)  # copying a network without content
            model = build_model(**model_config, image_size=image_size(config), objective=Objective())
            model.train()
            training_step = TrainingStep(model, config["seed"])
            batch_size = min(int(config["trainer"]["batch_size"]), 8)
            batch = random_batch(config, batch_size, torch.device("cpu"))
            steps = due_steps(training_step.phases)
            total = 0.0
            for step, weight in steps.items():
                with _CountFlops() as counter:
                    training_step.run(step, {0: batch})
                total += weight * counter.total
        _flops[key] = total / sum(steps.values()) / batch_size
    return _flops[key]


class _CountFlops(TorchDispatchMode):
    """Adds up the matrix products and convolutions inside."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0  # there is no content to decide by: a test of it, such as whether to clamp, says no
        out = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func.overloadpacket)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out
