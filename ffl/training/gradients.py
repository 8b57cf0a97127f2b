"""How much each term of a loss pulls on the generated images: what a loss weight is chosen by."""

import torch
from torch import Tensor


def gradient_shares(terms: dict[str, Tensor], fake: Tensor | None) -> dict[str, float]:
    """Each term's share of the gradient norm at the generator's output.

    A term's value says little about its pull: the focal weight makes the frequency term small in value, and its
    gradient concentrated. Share of term i: ‖∂L_i/∂fake‖ / Σ_j ‖∂L_j/∂fake‖.

    Args:
        terms: weighted scalar losses that are about to be differentiated; their graph is kept.
        fake: the generator's output in that graph, or None.
    Returns:
        Shares that add up to 1, by term; empty where no term reaches ``fake``.
    """
    if fake is None or not fake.requires_grad:
        return {}
    norms = {}
    for name, term in terms.items():
        if not term.requires_grad:
            continue
        (gradient,) = torch.autograd.grad(term, fake, retain_graph=True, allow_unused=True)
        norms[name] = 0.0 if gradient is None else gradient.double().norm().item()
    total = sum(norms.values())
    return {name: norm / total for name, norm in norms.items()} if total > 0 else {}
