"""How strongly each loss pulls at the generated image, and a weight that sets itself by it.

The value of a loss says little about its pull: the focal weights make the frequency term small in value, and its
gradient concentrated. What counts is its share of the gradient at the generator's output x: for losses L_i with their
weights,

    share_i = ‖∂L_i/∂x‖ / Σ_j ‖∂L_j/∂x‖

A loss L of weight w beside others has the share t where

    w = t / (1 - t) · Σ_j ‖∂L_j/∂x‖ / ‖∂L/∂x‖    (j over the others)
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def gradient_share(terms: Mapping[str, Tensor], output: Tensor) -> dict[str, float]:
    """Each loss's share of the gradient at the generator's output.

    Costs a backward pass from each loss to ``output``. The graph is kept, and no ``.grad`` is touched.

    Args:
        terms: scalar losses by name, with their weights, before ``backward``.
        output: the generator's output that they were computed from, of any shape.
    Returns:
        Shares by name, which add up to 1; empty where no term depends on ``output``.

    Examples:
        >>> output = torch.zeros(4, requires_grad=True)
        >>> gradient_share({"a": 3 * output.sum(), "b": -output.sum()}, output)
        {'a': 0.75, 'b': 0.25}
    """
    norms = {name: gradient_norm(term, output) for name, term in terms.items() if term.requires_grad}
    total = sum(norms.values())
    return {name: norm / total for name, norm in norms.items()} if total > 0 else {}


def gradient_norm(term: Tensor, output: Tensor) -> float:
    """‖∂term/∂output‖ of a scalar; 0 where it does not depend on ``output``."""
    if not (term.requires_grad and output.requires_grad):
        return 0.0
    (gradient,) = torch.autograd.grad(term, output, retain_graph=True, allow_unused=True)
    return 0.0 if gradient is None else gradient.double().norm().item()


class GradientShare(nn.Module):
    """Weights a loss so that it holds a chosen share of the gradient at the generator's output.

    The weight is measured in the first call, and again in each ``every``-th call in training mode; in between it is a
    constant. Readings are averaged as logarithms, log w ← momentum · log w + (1 - momentum) · log(reading), since the
    weight is a ratio. The state is in the state dict. Where ``torch.distributed`` is initialised, all processes use the
    reading of process 0, and must call alike.

    A reading costs a backward pass from each loss to the output: little, unless it leads through a network such as a
    discriminator.

    Args:
        target: share of the weighted loss, above 0 and below 1; 0.5 pulls as much as all other losses together.
        every: calls from one reading to the next.
        momentum: of the running average; 0 takes each reading as it is.
    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> from ffl import FocalFrequencyLoss
        >>> share, frequency = GradientShare(target=0.5), FocalFrequencyLoss()
        >>> real, fake = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16, requires_grad=True)
        >>> pixel = (fake - real).square().mean()
        >>> weighted = share(frequency(fake, real), others=[pixel], output=fake)
        >>> {name: round(value, 6) for name, value in gradient_share({"pixel": pixel, "ffl": weighted}, fake).items()}
        {'pixel': 0.5, 'ffl': 0.5}
        >>> (pixel + weighted).backward()
    """

    weight: Tensor
    calls: Tensor
    readings: Tensor

    def __init__(self, target: float = 0.5, every: int = 10, momentum: float = 0.5) -> None:
        super().__init__()
        if not 0 < target < 1:
            raise ValueError(f"target must be above 0 and below 1, got {target}")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}")
        self.target = target
        self.every = every
        self.momentum = momentum
        self.register_buffer("weight", torch.ones(()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("readings", torch.zeros((), dtype=torch.int64))

    def forward(self, term: Tensor, others: Sequence[Tensor], output: Tensor) -> Tensor:
        """The weighted loss.

        Args:
            term: scalar loss, without a weight.
            others: the other scalar losses, with their weights; one at least must depend on ``output``.
            output: the generator's output that all of them were computed from.
        Returns:
            ``weight * term``; no gradient passes through the weight.
        Raises:
            ValueError: if there are no other losses.
        """
        if self.training:
            if self.calls % self.every == 0 or not self.readings:
                self.read(term, others, output)
            self.calls += 1
        return self.apply_to(term)

    def apply_to(self, term: Tensor) -> Tensor:
        """``weight * term`` with the weight as it stands, in the term's type."""
        return self.weight.to(term) * term

    def read(self, term: Tensor, others: Sequence[Tensor], output: Tensor) -> None:
        """Measure, and move the weight; arguments as of ``forward``.

        A reading without a finite value, such as that of a loss which is 0, leaves the weight as it is.
        """
        if not others:
            raise ValueError("others is empty: a loss holds a share beside other losses")
        # Process 0 measures and all take its weight, so that they stay one model; the others need no gradients.
        joined = dist.is_available() and dist.is_initialized()
        if not joined or dist.get_rank() == 0:
            # The gradient of a mean over pixels is small for each of them and would underflow in float16. A common
            # factor leaves the ratio alone.
            factor = float(output.numel())
            own = gradient_norm(factor * term, output)
            pull = sum(gradient_norm(factor * other, output) for other in others)
            if own > 0 and pull > 0 and math.isfinite(own + pull):
                reading = math.log(self.target / (1 - self.target) * pull / own)
                if self.readings:
                    reading = self.momentum * math.log(self.weight.item()) + (1 - self.momentum) * reading
                self.weight.fill_(math.exp(reading))
                self.readings += 1
        if joined and dist.get_world_size() > 1:
            for value in (self.weight, self.readings):
                dist.broadcast(value, src=0)

    def extra_repr(self) -> str:
        return f"target={self.target}, every={self.every}, momentum={self.momentum}"
