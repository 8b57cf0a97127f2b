"""Networks as code that torch generates for them, which is what ``trainer.compile`` switches on."""

import torch

from ffl.errors import UserError
from ffl.training.model import Model


def compile_networks(model: Model, device: torch.device) -> None:
    """Have a model's networks compiled when they are first called; keys of the state dict stay as they are.

    Args:
        model: on ``device``. Its objective is left out: it is a handful of operations on the output.
        device: that the code is for.
    Raises:
        UserError: if torch cannot generate code here.
    """

    # Compile a small function first, so that a missing compiler is found before anything is written.
    @torch.compile
    def increment(x: torch.Tensor) -> torch.Tensor:
        return x * 2 + 1

    try:
        increment(torch.ones(8, device=device))
    except Exception as error:  # each backend raises its own
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"trainer.compile=true: torch cannot compile for this {device.type} ({reason}); install a C++ compiler, "
            "or set trainer.compile=false"
        ) from None
    for name, network in model.named_children():
        if name != "objective":
            network.compile()
