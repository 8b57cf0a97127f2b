"""The training loop: one linear pass over steps, for every model.

A step is: one batch, ``prepare`` once, then each phase's losses, backward and update. The loop owns device, precision,
randomness, learning rate, logging and checkpoints; models know nothing of them. A batch may be worked on in shards, by
several processes or by one in turn; gradients are means over the shards, which are the same either way.
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
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.files import failed_writes
from ffl.images import from_uint8
from ffl.training import distributed
from ffl.training.checkpoint import load_model_state, load_newest, load_optimizers, model_state, save_checkpoint
from ffl.training.compiling import compile_networks
from ffl.training.config import Accelerator, TrainerConfig
from ffl.training.gradients import gradient_shares
from ffl.training.loader import Images, Loader
from ffl.training.logger import Logger
from ffl.training.model import Batch, Model, Phase
from ffl.training.precision import Precision, allow_tf32, at_least_float32, replace_overflow
from ffl.training.preemption import StopSignals
from ffl.training.randomness import seed_step
from ffl.training.run_directory import RunDirectory, Status

log = logging.getLogger(__name__)

GRID_IMAGES = 8
SAFE = "what was saved before is whole: make room, and the same command with resume=auto continues"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: what the summary prints."""

    step: int
    images: int
    seconds: float
    losses: dict[str, float]
    gradient_share: dict[str, float]
    best_error: float | None


def to_device(batch: dict[str, Any], device: torch.device, channels_last: bool = False) -> Batch:
    """Move a data set's batch to the device; uint8 images cross as bytes and become float in [-1, 1] there."""
    moved: Batch = {}
    for key, value in batch.items():
        if isinstance(value, Tensor):
            value = value.to(device, non_blocking=True)
            if value.dtype == torch.uint8:
                value = from_uint8(value)
            if channels_last and value.ndim == 4:
                value = value.contiguous(memory_format=torch.channels_last)
        moved[key] = value
    return moved


def choose_device(name: str) -> torch.device:
    """The device that ``trainer.accelerator`` or ``accelerator`` names; "auto" prefers a GPU."""
    names = get_args(Accelerator)
    if name not in names:
        raise UserError(f"accelerator={name}: expected {', '.join(names[:-1])} or {names[-1]}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("cuda: this machine has no usable CUDA device; choose cpu or auto")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    own, count = distributed.local_rank(), torch.cuda.device_count()
    if own >= count:
        raise UserError(
            f"{name}: process {own} of this machine has no GPU of its own among {count}; start fewer, or choose cpu"
        )
    return torch.device("cuda", own)


class Trainer:
    """Trains a model; everything it needs is there before a run directory is made.

    Args:
        model: with initial weights.
        loader: training batches.
        validation: images that choose ``best.pt``, or None: then best is last.
        config: the ``trainer`` section.
        seed: of the run.
    Raises:
        UserError: if the device, or a pretrained network that the model's losses need, is not there.
    """

    def __init__(
        self,
        model: Model,
        loader: Loader,
        validation: Images | None,
        config: TrainerConfig,
        seed: int,
    ) -> None:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        allow_tf32(config.tf32)
        self.device = choose_device(config.accelerator)
        self.model = model.to(self.device)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        self.loader = loader
        self.validation = validation
        self.config = config
        self.seed = seed
        self.phases = model.phases()
        self.optimizers = make_optimizers(self.phases)
        self.precision = Precision(config.precision, self.device, self.optimizers, config.clip_grad_norm)
        if config.compile:
            compile_networks(model, self.device)
        self.total_steps = config.steps if config.steps is not None else config.epochs * loader.steps_per_epoch
        self.start = 0
        self.seconds = 0.0  # that earlier sessions of the run took
        self.best_error: float | None = None

    def resume(self, run: RunDirectory) -> None:
        """Continue from the newest intact checkpoint of a run where there is one.

        On another number of shards (processes times ``trainer.accumulate``) the run goes on with the same images in
        each step, but with other noise and other groups for what is computed within a shard.

        Raises:
            UserError: if there are only damaged ones, or processes do not find the same one.
        """
        paths, shards = [run.last, run.previous], self.loader.num_shards
        if any(path.is_file() for path in paths):
            path, state = load_newest(paths)
            load_model_state(self.model, state["model"], path)
            load_optimizers(self.optimizers, state["optimizers"], path)
            self.precision.load_state(state.get("scalers", {}))
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
        if distributed.on_main(lambda: self.start) != self.start:
            raise UserError(f"{run.path}: process 0 sees another checkpoint; all machines must share output_root")
        if distributed.rank() == 0:
            run.rewind_log(self.start)
            if self.start:
                known = run.status()
                self.seconds = known.seconds if known is not None else run.logged_seconds()
                # A session that was killed between a checkpoint and its status left the two apart.
                run.write_status(self._status(self.start, self.seconds, shards))

    def fit(self, run: RunDirectory) -> Outcome:
        """Run the remaining steps, writing everything into ``run``.

        Raises:
            UserError: if a loss becomes infinite or NaN, or the directory cannot be written.
            Preempted: if a signal said to stop; the run is saved.
        """
        config, began = self.config, time.perf_counter()
        self.model.train()
        with contextlib.ExitStack() as stack:
            signals = stack.enter_context(StopSignals())
            stack.enter_context(failed_writes(run.path, SAFE))
            logger = Logger(run, self.start, self.total_steps, self.loader.batch_size)
            stack.callback(logger.close)
            for step, shards in self.loader.batches(self.start, self.total_steps):
                done = step + 1
                lr_factor = self._set_learning_rate(step)
                reports = done % config.log_every == 0 or done == self.total_steps
                terms, gradient_share = update(
                    self.model,
                    self.phases,
                    self.optimizers,
                    {shard: self._to_device(batch) for shard, batch in shards.items()},
                    self.seed,
                    step,
                    measure=reports,
                    precision=self.precision,
                )
                distributed.share_buffers(self.model)
                self.model.finish_step(done * self.loader.batch_size, self.loader.batch_size)
                logger.step(done, terms)
                saves = done % config.checkpoint_every == 0 or done == self.total_steps
                asked = signals.asked() if done < self.total_steps else []
                if reports or saves or asked:  # a checkpoint is only written after its losses were seen to be finite
                    logger.report(gradient_share, lr_factor * self.phases[0].lr)
                if distributed.rank() == 0 and (done % config.image_every == 0 or done == self.total_steps):
                    self._show_samples(logger, done)
                if distributed.rank() == 0 and (saves or asked):
                    self._save(run, logger, done, chooses=saves)
                    run.write_status(
                        self._status(done, self.seconds + time.perf_counter() - began, self.loader.num_shards)
                    )
                if asked:
                    distributed.wait()  # nobody leaves before the file is there
                    names = " and ".join(number.name for number in asked)
                    signals.hand_on(
                        asked,
                        f"stopped by {names} at step {done} of {self.total_steps}, which {run.last} holds; the same "
                        "command with resume=auto continues",
                    )
        return Outcome(
            step=self.total_steps,
            images=self.total_steps * self.loader.batch_size,
            seconds=time.perf_counter() - began,
            losses=logger.latest,
            gradient_share=logger.latest_shares,
            best_error=self.best_error,
        )

    def _status(self, step: int, seconds: float, shards: int) -> Status:
        return Status(
            step=step,
            total=self.total_steps,
            finished=step >= self.total_steps,
            images=step * self.loader.batch_size,
            seconds=seconds,
            shards=shards,
        )

    def _to_device(self, batch: dict[str, Any]) -> Batch:
        return to_device(batch, self.device, self.config.channels_last)

    def _set_learning_rate(self, step: int) -> float:
        """Set every optimiser's rate for a step; returns its factor."""
        factor = learning_rate_factor(
            step // self.loader.steps_per_epoch,
            math.ceil(self.total_steps / self.loader.steps_per_epoch),
            self.config.epochs,
            self.config.lr_decay_epochs,
        )
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        return factor

    def _save(self, run: RunDirectory, logger: Logger, step: int, chooses: bool) -> None:
        """Write ``last.pt``; where it ``chooses`` also ``best.pt``, if the model is the best so far.

        A run that is cut does not choose at the cut, so that it ends with the ``best.pt`` of the unbroken run.
        """
        error = self._validation_error() if chooses else None
        improved = chooses and (error is None or self.best_error is None or error < self.best_error)
        if error is not None:
            logger.error(step, error)
            self.best_error = min(error, self.best_error) if self.best_error is not None else error
        state = {
            "step": step,
            "best_error": self.best_error,
            "model": model_state(self.model),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "scalers": self.precision.state(),
            "num_shards": self.loader.num_shards,
        }
        if improved:  # first, so that best_error in last.pt is never that of a file not yet written
            save_checkpoint(run.best, {"step": step, "model": state["model"], "validation_error": error})
        save_checkpoint(run.last, state, run.previous)

    @torch.no_grad()
    def _validation_error(self) -> float | None:
        """Mean squared error of generated against held-out images, in [-1, 1] units; None without a target."""
        count = min(self.config.val_images, len(self.validation)) if self.validation is not None else 0
        if not count or self.model.tasks[0] == "synthesis":
            return None
        total = 0.0
        with evaluating(self.model):
            for first in range(0, count, self.loader.batch_size):
                batch = self._validation_batch(first, min(first + self.loader.batch_size, count))
                fake = self.model.generate(batch, self.model.tasks[0], self.seed)
                total += (fake - batch["image"]).double().square().mean((1, 2, 3)).sum().item()
        return total / count

    def _validation_batch(self, first: int, last: int) -> Batch:
        assert self.validation is not None
        return self._to_device(self.validation.batch(np.arange(first, last), None))

    @torch.no_grad()
    def _show_samples(self, logger: Logger, step: int) -> None:
        images = self.validation if self.validation is not None else self.loader.dataset
        batch = self._to_device(images.batch(np.arange(min(GRID_IMAGES, len(images))), None))
        with evaluating(self.model):
            fake = self.model.generate(batch, self.model.tasks[0], self.seed)
        logger.images(step, batch, fake)


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


def update(
    model: Model,
    phases: list[Phase],
    optimizers: dict[str, torch.optim.Adam],
    shards: dict[int, Batch],
    seed: int,
    step: int,
    measure: bool = False,
    precision: Precision | None = None,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """One iteration: every due phase once, over all shards of the batch that this process has.

    Args:
        model: in training mode.
        phases: its phases.
        optimizers: from ``make_optimizers``.
        shards: parts of the step's batch by number, on the model's device.
        seed: of the run.
        step: counted from 0, for randomness and for phases that are not due in every step.
        measure: also measure each term's share of the gradient at the generator's output, on the first shard.
        precision: of the networks; None for float32.
    Returns:
        Losses as scalars on the device, means over the shards, and the gradient shares, both named ``phase/term``.
    Raises:
        UserError: if all losses of a phase are off.
    """
    precision = precision or Precision()
    all_terms: dict[str, Tensor] = {}
    gradient_share: dict[str, float] = {}
    prepared: dict[int, Batch] = {}
    for shard, batch in shards.items():
        seed_step(seed, step, shard, 0)
        with precision.autocast():
            prepared[shard] = at_least_float32(model.prepare(batch))
    for part, phase in enumerate(phases, 1):
        if step % phase.interval:
            continue
        optimizer = optimizers[phase.optimizer]
        optimizer.zero_grad(set_to_none=True)
        with only_trainable(model, optimizer):
            for shard, batch in prepared.items():
                seed_step(seed, step, shard, part)
                with precision.autocast():
                    terms = at_least_float32(model.losses(batch, phase.name))
                if not terms:
                    raise UserError(f"{phase.name}: every loss is off; give one of them a weight, or set loss.ffl=true")
                if measure and shard == min(prepared):
                    scaled = {name: precision.scale(phase.optimizer, term) for name, term in terms.items()}
                    measured = gradient_shares(scaled, batch.get("fake"))
                    gradient_share |= {f"{phase.name}/{name}": share for name, share in measured.items()}
                loss = torch.stack(list(terms.values())).sum() / len(prepared)
                precision.scale(phase.optimizer, loss).backward()
                for name, term in terms.items():
                    key, value = f"{phase.name}/{name}", term.detach() / len(prepared)
                    all_terms[key] = all_terms[key] + value if key in all_terms else value
        distributed.average_gradients(phase.parameters)
        if model.own_precision:
            replace_overflow(phase.parameters)
        precision.step(phase.optimizer, optimizer, phase.parameters)
    return all_terms, gradient_share


def make_optimizers(phases: list[Phase]) -> dict[str, torch.optim.Adam]:
    """One Adam per optimiser name; the fused implementation is the same arithmetic in fewer passes over memory."""
    optimizers: dict[str, torch.optim.Adam] = {}
    for phase in phases:
        if phase.optimizer not in optimizers:
            groups = [{"params": list(phase.parameters), "initial_lr": phase.lr}]
            optimizers[phase.optimizer] = torch.optim.Adam(
                groups, lr=phase.lr, betas=phase.betas, eps=phase.eps, fused=True
            )
    return optimizers


@contextlib.contextmanager
def only_trainable(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let gradients flow into one phase's parameters alone: another phase's are constants meanwhile."""
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the former mode after."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
