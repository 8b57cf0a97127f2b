"""What the trainer and the evaluator ask of a model.

A model is a ``torch.nn.Module`` that maps a batch to named losses and to images. It knows nothing of devices,
precision, distribution, checkpoints or logs, which the trainer owns.

A batch is a dict:

- ``image``   float (N, 3, H, W) in [-1, 1], the real images
- ``source``  float (N, 3, H, W) in [-1, 1], translation only: what to translate
- ``label``   int64 (N, H, W), semantic synthesis and segmentation; ``instance`` int64 (N, H, W) beside it where known
- ``index``   int64 (N,), position in the data set: what per-image randomness of an evaluation is derived from
- ``fake``    float (N, 3, H, W) in [-1, 1], put there by ``prepare``: the generator's output of this iteration
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

Batch = dict[str, Any]
Task = Literal["reconstruction", "synthesis", "translation", "semantic", "segmentation"]


@dataclass
class Phase:
    """One update of an iteration: which parameters move, and how.

    Attributes:
        name: passed to ``Model.losses``; also the prefix of its losses in the logs.
        parameters: what the optimiser owns.
        lr: learning rate of Adam.
        betas: of Adam.
        eps: of Adam.
        interval: it is due in every step whose number is a multiple of this (lazy regularisation).
        optimizer: phases that name the same one share it, with the settings of the first; "" is the phase's own.
    """

    name: str
    parameters: Iterable[nn.Parameter]
    lr: float
    betas: tuple[float, float]
    eps: float = 1e-8
    interval: int = 1
    optimizer: str = ""

    def __post_init__(self) -> None:
        self.parameters = list(self.parameters)
        self.optimizer = self.optimizer or self.name


class Model(nn.Module, ABC):
    """Base of every method of the paper: networks plus the losses of one iteration.

    Attributes:
        tasks: what ``generate`` can do, the first is what evaluation does unless told otherwise.
        inputs: keys of the batch that training needs.
        generates_with: attributes of the networks that ``generate`` needs, which alone are exported; () for all.
        own_precision: it runs layers in float16 by itself, so that ``trainer.precision`` has to stay fp32.
        second_order: its losses contain gradients, through which compiled networks cannot be differentiated.
    """

    tasks: ClassVar[tuple[Task, ...]]
    inputs: ClassVar[frozenset[str]] = frozenset({"image"})
    generates_with: ClassVar[tuple[str, ...]] = ()
    own_precision: ClassVar[bool] = False
    second_order: ClassVar[bool] = False

    @abstractmethod
    def phases(self) -> list[Phase]:
        """The updates of one iteration, in their order."""

    def prepare(self, batch: Batch) -> Batch:
        """Work that several phases share, done once per iteration: adds ``fake``, one-hot labels and the like."""
        return batch

    @abstractmethod
    def losses(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Named scalar terms whose sum the phase minimises.

        Args:
            batch: what ``prepare`` returned.
            phase: name of the phase.
        """

    def finish_step(self, images_seen: int, batch_size: int) -> None:
        """Called after all updates of a step: moving averages of weights and the like. ``images_seen`` includes it."""

    def protocol(self, task: Task) -> dict[str, str | float | bool]:
        """Facts about ``generate`` that readers of its numbers must know; they go into the records of an evaluation."""
        return {}

    def errors(self, batch: Batch, fake: Tensor) -> Tensor:
        """What chooses the best checkpoint, lower is better: (N,), the mean squared error of each image.

        Args:
            batch: held-out items.
            fake: what ``generate`` made of them, (N, 3, H, W) in [-1, 1].
        """
        return (fake - batch["image"]).double().square().mean((1, 2, 3))

    @abstractmethod
    def generate(self, batch: Batch, task: Task, seed: int) -> Tensor:
        """Images for evaluation, float (N, 3, H, W) in [-1, 1]; of a segmenter, which makes none, its label maps.

        Depends on each image's own inputs, its ``index`` and ``seed`` only: never on the batch it comes in.
        """


def init_normal(network: nn.Module, std: float = 0.02) -> None:
    """Appendix B.1: weights of linear and convolution layers from N(0, std²), batch norm scales from N(1, std²)."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1.0, std)
            nn.init.zeros_(module.bias)


def latent_noise(index: Tensor, seed: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise that depends on (seed, image index) alone.

    A counter-based generator gives every image its own stream, so results don't depend on batch size or on the number
    of ranks.

    Args:
        index: int64 (N,), non-negative.
        seed: of the evaluation.
        shape: of one image's noise.
    Returns:
        float32 (N, *shape) on the device of ``index``.
    """
    # NumPy's Philox draws the same numbers on every machine and device, which torch does not promise.
    rows = [
        np.random.Generator(np.random.Philox(key=[seed, i])).standard_normal(shape, np.float32) for i in index.tolist()
    ]
    return torch.from_numpy(np.stack(rows)).to(index.device)
