"""Numbers that a step is computed in: float32, or mixed with bfloat16 or float16 (``trainer.precision``).

Mixed precision is torch's autocast around the networks: weights, optimiser state and losses stay float32. Gradients
that pass through float16 would underflow, so the loss is multiplied before the backward pass and the gradients are
divided after it, by a factor that halves whenever one of them overflows; the update is then left out.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ffl.training.config import PrecisionName
from ffl.training.model import Batch

DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast, loss scaling and the optimiser's step.

    Args:
        name: "fp32" for no autocast, "bf16" or "fp16".
        device: of the model.
        optimizers: names of its optimisers; each has a loss scale of its own, since their gradients differ in size.
        clip_grad_norm: limit of the gradient norm of an update, over all its parameters; None for no limit.
    """

    def __init__(
        self,
        name: PrecisionName = "fp32",
        device: torch.device | None = None,
        optimizers: Iterable[str] = (),
        clip_grad_norm: float | None = None,
    ) -> None:
        self.dtype = DTYPES.get(name)
        self.device_type = "cpu" if device is None else device.type
        self.clip_grad_norm = clip_grad_norm
        # bfloat16 has the exponents of float32, so that its gradients need no scale.
        scaled = optimizers if name == "fp16" else ()
        self.scalers = {optimizer: torch.amp.GradScaler(self.device_type) for optimizer in scaled}

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Around the forward pass of networks."""
        return torch.autocast(self.device_type, self.dtype) if self.dtype is not None else contextlib.nullcontext()

    def scale(self, optimizer: str, loss: Tensor) -> Tensor:
        """A loss times the scale of an optimiser."""
        return self.scalers[optimizer].scale(loss) if optimizer in self.scalers else loss

    def step(self, name: str, optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
        """Update from gradients of a scaled loss: divide, clip, step unless one is infinite or NaN, adapt the scale.

        Gradients must be those of all processes already, so that all of them step or none does.
        """
        # The limit is one of the true gradient, so that the scale has to go first.
        scaler = self.scalers.get(name)
        if scaler is not None:
            scaler.unscale_(optimizer)
        if self.clip_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.clip_grad_norm)
        # A scaler leaves the step out where a gradient overflowed, and halves its scale.
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()

    def state(self) -> dict[str, dict[str, Any]]:
        """Scales by optimiser, for a checkpoint."""
        return {name: scaler.state_dict() for name, scaler in self.scalers.items()}

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Restore the scales that ``state`` returned."""
        for name, scaler in self.scalers.items():
            if name in state:
                scaler.load_state_dict(state[name])


def at_least_float32(tensors: Batch) -> Batch:
    """16-bit floating tensors as float32, the rest as it is: losses are computed in full precision."""
    half = (torch.float16, torch.bfloat16)
    return {
        key: value.float() if isinstance(value, Tensor) and value.dtype in half else value
        for key, value in tensors.items()
    }


def replace_overflow(parameters: Iterable[nn.Parameter]) -> None:
    """Gradients on a GPU that overflowed in float16 layers without loss scaling: NaN to 0, infinity to 100,000.

    What the official programs do for networks with ``Model.own_precision``. A NaN in the loss still ends the run.
    """
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_cuda:
            torch.nan_to_num(parameter.grad, nan=0.0, posinf=1e5, neginf=-1e5, out=parameter.grad)


def lacks_bfloat16(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether this machine's processor is known to have no instructions for bfloat16, which are then emulated.

    Args:
        cpuinfo: file that lists what the processor has; where there is none, nothing is known.
    """
    try:
        words = set(Path(cpuinfo).read_text().split())
    except OSError:
        return False
    return not words & {"avx512_bf16", "amx_bf16", "bf16"}  # of x86 processors, and of ARM ones


def allow_tf32(allowed: bool) -> None:
    """Whether matrix products and convolutions of float32 may run as TensorFloat-32 (Ampere GPUs and newer).

    It keeps 10 of 23 bits of the mantissa. torch allows it for convolutions unless told otherwise.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
