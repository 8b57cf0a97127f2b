"""Every method as a network of a few channels, a batch for it, the gradients of one of its steps; and a data set."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ffl.training.model import Batch, Model
from ffl.training.objective import Objective
from ffl.training.precision import Precision
from ffl.training.randomness import seed_weights
from ffl.training.step import TrainingStep
from models import build_model

SMALL: dict[str, dict[str, Any]] = {
    "ae": {"hidden_dim": 16},
    "vae": {"channels": 8, "latent_dim": 8},
    "pix2pix": {"ngf": 4, "ndf": 4, "dropout": False},
    "spade": {
        "label_channels": 4,
        "instance_edges": False,
        "ngf": 4,
        "ndf": 4,
        "hidden_channels": 8,
        "vgg_weight": 0.0,
    },
    "stylegan2": {"latent_dim": 16, "channel_base": 256, "channel_max": 16, "mbstd_group": 2},
    "segmenter": {"label_set": "photos", "channels": 4, "levels": 2},
}


def small_model(name: str, size: int = 32, **loss: Any) -> Model:
    """A model with the same fresh weights at every call; ``loss`` are arguments of its objective."""
    seed_weights(0)
    objective = Objective(ffl=True, **{"weight": 10.0, **loss})
    return build_model(name=name, image_size=(size, size), objective=objective, **SMALL[name])


def small_batch(size: int = 32) -> Batch:
    """Four items with all that any model trains on, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    image, source = torch.rand(2, 4, 3, size, size, generator=generator) * 2 - 1
    label = torch.randint(0, 4, (4, size, size), generator=generator)
    return {"image": image, "source": source, "label": label, "index": torch.arange(4)}


def in_double(batch: Batch) -> Batch:
    """The batch with its floating tensors in float64."""
    return {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}


def step_gradients(
    model: Model, shards: Mapping[int, Batch], precision: Precision | None = None
) -> list[dict[str, torch.Tensor]]:
    """Gradients by parameter of each phase of one step, as its optimiser gets them: summed, without a loss scale.

    The learning rates are zero, so that all phases see the same weights. Gradients are what can be compared: an
    optimiser amplifies rounding. The first step of Adam is g / |g|, which turns a relative error of 4e-5 in the
    gradients of SPADE, where a tenth of a percent change their sign, into one of 2e-2.
    """
    training_step = TrainingStep(model.train(), seed=0)
    if precision is not None:
        training_step.precision = precision
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen: list[dict[str, torch.Tensor]] = []

    def keep(optimizer: torch.optim.Optimizer, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        seen.append({names[id(p)]: p.grad.detach().clone() for p in parameters if p.grad is not None})

    for optimizer in training_step.optimizers.values():
        optimizer.param_groups[0]["lr"] = 0.0
        optimizer.register_step_pre_hook(keep)
    training_step.run(0, dict(shards))
    assert len(seen) == len(training_step.phases)
    return seen


def flat(gradients: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """All gradients as one vector of float64."""
    return torch.cat([gradients[name].double().flatten() for name in sorted(gradients)])


class NumberedImages:
    """A data set whose items are their numbers."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: np.ndarray, seed: int | None) -> dict[str, Any]:
        return {"index": torch.from_numpy(indices), "seed": seed}
