"""One training iteration as ``ffl.training.model`` promises it to models, without a trainer."""

import torch
from torch import Tensor

from ffl.training.model import Batch, Model

Optimizers = dict[str, torch.optim.Adam]


def optimizers(model: Model) -> Optimizers:
    """Adam for every phase, in the order of the phases."""
    return {
        phase.name: torch.optim.Adam(list(phase.parameters), phase.lr, phase.betas, phase.eps)
        for phase in model.phases()
    }


def iterate(model: Model, phases: Optimizers, batch: Batch) -> dict[str, Tensor]:
    """Update every phase once; other phases' parameters are constants meanwhile. Returns "phase/term" losses."""
    batch = model.prepare(batch)
    losses = {}
    for name, optimizer in phases.items():
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in own)
        terms = model.losses(batch, name)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        losses |= {f"{name}/{term}": value.detach() for term, value in terms.items()}
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return losses
