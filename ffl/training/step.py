"""One iteration of training, the same for every model: what the trainer repeats and what benchmarks time."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.losses.weighting import gradient_share
from ffl.training import distributed
from ffl.training.config import PrecisionName
from ffl.training.model import Batch, Model, Phase
from ffl.training.objective import Objective
from ffl.training.precision import Precision, at_least_float32, replace_overflow
from ffl.training.randomness import seed_step


class TrainingStep:
    """A model with its optimisers; ``run`` does one iteration.

    A batch may be worked on in shards, by several processes or by one in turn. Gradients are means over all shards, so
    that both ways give the same update.

    Args:
        model: on its device, with its initial weights.
        seed: of the run; with the number of the step it says what dropout and noise draw.
        precision: of the networks, "fp32", "bf16" or "fp16".
        clip_grad_norm: limit of the gradient norm of an update, over all its parameters; None for no limit.
    """

    def __init__(
        self, model: Model, seed: int, precision: PrecisionName = "fp32", clip_grad_norm: float | None = None
    ) -> None:
        self.model = model
        self.seed = seed
        self.phases = model.phases()
        # One without terms stands for a model that has none.
        self.objective = next((module for module in model.modules() if isinstance(module, Objective)), Objective())
        self.optimizers = make_optimizers(self.phases)
        device = next(model.parameters()).device
        self.precision = Precision(precision, device, self.optimizers, clip_grad_norm)

    def run(
        self, step: int, shards: dict[int, Batch], measure: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Update the model, which is in training mode, once by every phase that is due.

        Args:
            step: counted from 0.
            shards: the parts of the step's batch that this process works on, by number, on the model's device.
            measure: also measure each term's share of the gradient at the generator's output, on the first shard.
        Returns:
            Losses as scalars on the device, means over these shards, and the gradient shares, both by ``phase/term``.
        Raises:
            UserError: if all losses of a phase are off.
        """
        losses: dict[str, Tensor] = {}
        shares: dict[str, float] = {}

        self.objective.start_step(step)

        # Do once what the phases share, above all generating the fake images.
        prepared: dict[int, Batch] = {}
        for shard, batch in shards.items():
            seed_step(self.seed, step, shard, 0)
            with self.precision.autocast():
                prepared[shard] = at_least_float32(self.model.prepare(batch))

        for part, phase in enumerate(self.phases, 1):
            if step % phase.interval:  # lazy regularisation: not due in every step
                continue
            optimizer = self.optimizers[phase.optimizer]

            # Accumulate gradients over the shards, into this phase's parameters alone. The others, such as those of the
            # discriminator in the generator's phase, would be computed and thrown away.
            optimizer.zero_grad(set_to_none=True)
            with train_only(self.model, optimizer):
                for shard, batch in prepared.items():
                    seed_step(self.seed, step, shard, part)
                    with self.precision.autocast():
                        terms = at_least_float32(self.model.losses(batch, phase.name))
                    if not terms:
                        raise UserError(
                            f"{phase.name}: every loss is off; give one of them a weight, or set loss.ffl=true"
                        )
                    if measure and shard == min(prepared) and "fake" in batch:
                        # Scaled as the loss is below: unscaled gradients underflow in float16.
                        scaled = {name: self.precision.scale(phase.optimizer, term) for name, term in terms.items()}
                        measured = gradient_share(scaled, batch["fake"])
                        shares |= {f"{phase.name}/{name}": share for name, share in measured.items()}
                    # Divided by the shards, so that accumulated gradients are those of the mean.
                    loss = torch.stack(list(terms.values())).sum() / len(prepared)
                    self.precision.scale(phase.optimizer, loss).backward()
                    for name, term in terms.items():
                        key, value = f"{phase.name}/{name}", term.detach() / len(prepared)
                        losses[key] = losses[key] + value if key in losses else value

            # Average over processes before anything looks at the gradients, so that all processes update alike.
            distributed.average_gradients(phase.parameters)
            if self.model.own_precision:
                replace_overflow(phase.parameters)
            self.precision.step(phase.optimizer, optimizer, phase.parameters)
        return losses, shares


def make_optimizers(phases: list[Phase]) -> dict[str, torch.optim.Adam]:
    """One Adam per optimiser name, with the settings of the first phase that names it."""
    optimizers: dict[str, torch.optim.Adam] = {}
    for phase in phases:
        if phase.optimizer not in optimizers:
            groups = [{"params": list(phase.parameters), "initial_lr": phase.lr}]
            # The fused implementation is the same arithmetic in fewer passes over memory.
            optimizers[phase.optimizer] = torch.optim.Adam(
                groups, lr=phase.lr, betas=phase.betas, eps=phase.eps, fused=True
            )
    return optimizers


@contextlib.contextmanager
def train_only(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Compute gradients for the parameters of one optimiser alone; the others of the model are constants meanwhile."""
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
