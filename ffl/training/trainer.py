"""The training loop: one linear pass over steps, for every model.

The loop owns device, learning rate, logging and checkpoints, and ``TrainingStep`` what happens within a step; models
know nothing of them. Everything that is drawn at random derives from (seed, step, shard, part), so that a run that was
cut and resumed ends with the bits of the unbroken one.
"""

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ffl.errors import UserError
from ffl.files import report_failed_writes
from ffl.images import from_uint8
from ffl.training import distributed
from ffl.training.checkpoint import load_model_state, load_newest, load_optimizers, model_state, save_checkpoint
from ffl.training.compiling import compile_networks
from ffl.training.config import Accelerator, TrainerConfig
from ffl.training.determinism import check_instructions, deterministic_algorithms
from ffl.training.loader import IndexedImages, Loader
from ffl.training.logger import Logger
from ffl.training.model import Batch, Model
from ffl.training.precision import allow_tf32, lacks_bfloat16
from ffl.training.preemption import StopSignals
from ffl.training.run_directory import RunDirectory, Status
from ffl.training.step import TrainingStep

log = logging.getLogger(__name__)

GRID_IMAGES = 8
ADVICE = "what was saved before is whole: make room, and the same command with resume=auto continues"


@dataclass(frozen=True)
class TrainingSummary:
    """How a run ended, for the lines that train.py prints last."""

    step: int
    images: int
    seconds: float
    losses: dict[str, float]
    gradient_share: dict[str, float]
    loss_weight: dict[str, float]
    best_error: float | None


class Trainer:
    """Trains a model. Everything that training needs is checked here, before a run directory is made.

    Args:
        model: with initial weights.
        loader: training batches.
        validation: images that choose ``best.pt``, or None: then best is last.
        config: the ``trainer`` section.
        seed: of the run.
    Raises:
        UserError: if the device, or a pretrained network that the model's losses need, is not there; or if numbers were
            to be those of other machines and libraries were loaded otherwise.
    """

    def __init__(
        self, model: Model, loader: Loader, validation: IndexedImages | None, config: TrainerConfig, seed: int
    ) -> None:
        # A number of threads deals out a sum, and changes its last bits: it must not be the machine's.
        if config.threads is not None or config.deterministic:
            torch.set_num_threads(config.threads or 1)
        allow_tf32(config.tf32)
        self.device = choose_device(config.accelerator)
        if config.deterministic:
            check_instructions(self.device.type, config.precision)
        if self.device.type == "cpu" and config.precision == "bf16" and lacks_bfloat16():
            log.warning(
                "trainer.precision=bf16: this processor has no instructions for it (AVX512-BF16, AMX), so that it will "
                "be slower than fp32"
            )

        # Optimisers hold the parameters that they are given, so that the model has to be on its device by then.
        self.model = model.to(self.device)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        self.training_step = TrainingStep(model, seed, config.precision, config.clip_grad_norm)
        if config.compile:
            compile_networks(model, self.device)

        # A number of steps overrides the epochs: small test runs, and comparisons with runs that count steps.
        self.loader = loader
        self.validation = validation
        self.config = config
        self.seed = seed
        self.total_steps = config.steps if config.steps is not None else config.epochs * loader.steps_per_epoch
        self.start = 0
        self.seconds = 0.0  # that earlier sessions of the run took
        self.best_error: float | None = None

    @distributed.share_errors()
    def resume(self, run: RunDirectory) -> None:
        """Continue from the newest intact checkpoint of a run where there is one.

        On another number of shards (processes times ``trainer.accumulate``) the run goes on with the same images in
        each step, but with other noise and other groups for what is computed within a shard.

        Raises:
            UserError: if there are only damaged ones, or processes do not find the same one.
        """
        # Take the checkpoint before the last one where that is damaged. Older versions noted no shards.
        shards = self.loader.num_shards
        paths = run.weights()
        if any(path.is_file() for path in paths):
            path, state = load_newest(paths)
            load_model_state(self.model, state["model"], path)
            load_optimizers(self.training_step.optimizers, state["optimizers"], path)
            self.training_step.precision.load_state(state.get("scalers", {}))
            self.training_step.objective.load_state(state.get("objective", {}))
            self.start, self.best_error = state["step"], state["best_error"]
            shards = state.get("num_shards", shards)
            if shards != self.loader.num_shards:
                log.warning(
                    "%s was trained on %s shards and goes on with %s (processes times trainer.accumulate): "
                    "same images, other noise within a step",
                    run.path,
                    shards,
                    self.loader.num_shards,
                )

        # Machines that do not share a file system would each start a run of their own.
        if distributed.on_main(lambda: self.start) != self.start:
            raise UserError(f"{run.path}: process 0 sees another checkpoint; all machines must share output_root")

        # The log may be ahead of the checkpoint, and its status behind it, if the session before was killed.
        if distributed.rank() == 0:
            run.rewind_log(self.start)
            if self.start:
                known = run.status()
                self.seconds = known.seconds if known is not None else run.logged_seconds()
                run.write_status(self.status(self.start, self.seconds, shards))

    def fit(self, run: RunDirectory) -> TrainingSummary:
        """Run the remaining steps, writing everything into ``run``.

        Raises:
            UserError: if a loss becomes infinite or NaN, or the directory cannot be written, or an operation has no
                way that ``trainer.deterministic`` allows.
            Preempted: if a signal said to stop; the run is saved.
        """
        config, loader, model, writes = self.config, self.loader, self.model, distributed.rank() == 0
        objective = self.training_step.objective
        # The log has one learning rate, that of the first phase; the others keep their ratio to it.
        base_lr = self.training_step.phases[0].lr
        began = time.perf_counter()
        model.train()
        # Signals first: one that comes while the log files are opened must find the run ready to save itself.
        with (
            StopSignals() as signals,
            report_failed_writes(run.path, ADVICE),
            deterministic_algorithms(config.deterministic),
            contextlib.closing(Logger(run, self.start, self.total_steps, loader.batch_size)) as logger,
        ):
            for step, shards in loader.batches(self.start, self.total_steps):
                done = step + 1
                ends = done == self.total_steps
                reports = ends or done % config.log_every == 0
                saves = ends or done % config.checkpoint_every == 0

                # Set the learning rate anew: it is a function of the step, and resuming has no schedule to restore.
                lr_factor = learning_rate_factor(
                    step // loader.steps_per_epoch,
                    math.ceil(self.total_steps / loader.steps_per_epoch),
                    config.epochs,
                    config.lr_decay_epochs,
                )
                for optimizer in self.training_step.optimizers.values():
                    for group in optimizer.param_groups:
                        group["lr"] = group["initial_lr"] * lr_factor

                # Update the weights. Losses stay on the device until the next report, so that no step waits for them.
                # The gradient shares cost a backward pass for each term, and are measured where they are reported.
                batches = {shard: self.to_device(batch) for shard, batch in shards.items()}
                losses, gradient_share = self.training_step.run(step, batches, measure=reports)

                # Running statistics are those of each process's shards; all go on with those of process 0.
                distributed.broadcast_buffers(model)
                model.finish_step(done * loader.batch_size, loader.batch_size)
                logger.step(done, losses)

                # Report before saving: a checkpoint is only written after its losses were seen to be finite.
                asked = [] if ends else signals.asked()
                if reports or saves or asked:
                    logger.report(gradient_share, lr_factor * base_lr, objective.weights())

                # Show the same images each time, so that one can see them change.
                if writes and (ends or done % config.image_every == 0):
                    images = self.validation if self.validation is not None else loader.dataset
                    logger.samples(done, *self.generate(images, 0, min(GRID_IMAGES, len(images))))

                if writes and (saves or asked):
                    # Choose the best model. A run that is cut does not choose at the cut, so that it ends with the
                    # best.pt of the unbroken run. It is written first: last.pt names the error of a file that is there.
                    if saves:
                        error = self.validation_error()
                        if error is not None:
                            logger.validation_error(done, error)
                        if error is None or self.best_error is None or error < self.best_error:
                            self.best_error = error
                            best = {"step": done, "model": model_state(model), "validation_error": error}
                            save_checkpoint(run.best, best)

                    # Save all that the rest of the run depends on, and say how far that is.
                    state = {
                        "step": done,
                        "best_error": self.best_error,
                        "model": model_state(model),
                        "optimizers": {
                            name: optimizer.state_dict() for name, optimizer in self.training_step.optimizers.items()
                        },
                        "scalers": self.training_step.precision.state(),
                        "objective": objective.state(),
                        "num_shards": loader.num_shards,
                    }
                    save_checkpoint(run.last, state, run.previous)
                    seconds = self.seconds + time.perf_counter() - began
                    run.write_status(self.status(done, seconds, loader.num_shards))

                # Stop where a signal asked for it, all processes together, once the file is there.
                if asked:
                    distributed.barrier()
                    names = " and ".join(number.name for number in asked)
                    signals.forward(
                        asked,
                        f"stopped by {names} at step {done} of {self.total_steps}, which {run.last} holds; the same "
                        "command with resume=auto continues",
                    )
        return TrainingSummary(
            step=self.total_steps,
            images=self.total_steps * loader.batch_size,
            seconds=time.perf_counter() - began,
            losses=logger.latest,
            gradient_share=logger.latest_shares,
            loss_weight=objective.weights(),
            best_error=self.best_error,
        )

    def status(self, step: int, seconds: float, shards: int) -> Status:
        """The status of a run of this trainer after ``step`` steps, in ``seconds`` over all sessions, on ``shards``."""
        return Status(
            step=step,
            total=self.total_steps,
            finished=step >= self.total_steps,
            images=step * self.loader.batch_size,
            seconds=seconds,
            shards=shards,
        )

    def validation_error(self) -> float | None:
        """Mean of ``Model.errors`` over held-out images; None without a target."""
        count = min(self.config.val_images, len(self.validation)) if self.validation is not None else 0
        if self.validation is None or not count or self.model.tasks[0] == "synthesis":
            return None
        # In float64, so that the choice of the best model does not depend on how the images are batched.
        total = 0.0
        for first in range(0, count, self.loader.batch_size):
            batch, fake = self.generate(self.validation, first, min(first + self.loader.batch_size, count))
            with use_evaluation_mode(self.model):
                total += self.model.errors(batch, fake).double().sum().item()
        return total / count

    def generate(self, images: IndexedImages, first: int, last: int) -> tuple[Batch, Tensor]:
        """The batch of the images [first, last) on the device, and what the model in evaluation mode makes of it."""
        batch = self.to_device(images.batch(np.arange(first, last), None))
        with use_evaluation_mode(self.model):
            return batch, self.model.generate(batch, self.model.tasks[0], self.seed)

    def to_device(self, batch: dict[str, Any]) -> Batch:
        """A data set's batch on the model's device, in the memory layout of the run."""
        return to_device(batch, self.device, self.config.channels_last)


@contextlib.contextmanager
def use_evaluation_mode(model: Model) -> Iterator[None]:
    """Evaluate for a moment: dropout is off, batch norm uses its running statistics, and nothing is differentiated."""
    model.eval()
    with torch.no_grad():
        yield
    model.train()


def to_device(batch: dict[str, Any], device: torch.device, channels_last: bool = False) -> Batch:
    """Move a data set's batch to the device; uint8 images cross as bytes and become float in [-1, 1] there."""
    moved: Batch = {}
    for key, value in batch.items():
        if isinstance(value, Tensor):
            # Bytes cross to the device, a quarter of the floats that they become there.
            value = value.to(device, non_blocking=True)
            if value.dtype == torch.uint8:
                value = from_uint8(value)
            if channels_last and value.ndim == 4:
                value = value.contiguous(memory_format=torch.channels_last)
        moved[key] = value
    return moved


def choose_device(name: str) -> torch.device:
    """The device that ``trainer.accelerator`` or ``accelerator`` names; "auto" prefers a GPU.

    Raises:
        UserError: if there is no such device, or none that is this process's own.
    """
    names = get_args(Accelerator)
    if name not in names:
        raise UserError(f"accelerator={name}: expected {', '.join(names[:-1])} or {names[-1]}")
    # "auto" may fall back to the CPU; "cuda" must not, since the user waits for a GPU's speed.
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("cuda: this machine has no usable CUDA device; choose cpu or auto")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # One GPU for each process of the machine.
    own, count = distributed.local_rank(), torch.cuda.device_count()
    if own >= count:
        raise UserError(
            f"{name}: process {own} of this machine has no GPU of its own among {count}; start fewer, or choose cpu"
        )
    return torch.device("cuda", own)


def learning_rate_factor(epoch: int, run_epochs: int, epochs: int, decay_epochs: int) -> float:
    """Constant, then linear to zero over the last ``decay_epochs``, changed once an epoch: the schedule of pix2pix.

    Args:
        epoch: counted from 0.
        run_epochs: that the run has; ``trainer.steps`` can make them more or fewer than ``epochs``.
        epochs: that the schedule is for. A shorter run follows its beginning, a longer one decays at its own end.
        decay_epochs: length of the decay.
    Returns:
        1 while constant; the factor of the last epoch is 1 / (decay_epochs + 1).
    """
    decayed = max(0, epoch + 1 - (max(epochs, run_epochs) - decay_epochs))
    return 1.0 - decayed / (decay_epochs + 1)
