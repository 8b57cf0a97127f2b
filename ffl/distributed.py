"""Several processes as one run: started by torchrun, each with its share of every batch.

Gradients are averaged after each phase's backward passes, without a wrapper around the model, so that every phase works
alike, double backward included. Outside torchrun there is one process, and everything here does nothing.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch import Tensor, nn

from ffl.errors import UserError

T = TypeVar("T")


def start(device: torch.device) -> None:
    """Join the other processes that torchrun started; a single process has none."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def stop() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, 0 the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def on_main(function: Callable[[], T]) -> T:
    """Call ``function`` in process 0 alone and give its result to all, or its UserError."""
    if world_size() == 1:
        return function()
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = function()
        except UserError as error:
            outcome[1] = str(error)
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise UserError(outcome[1])
    return outcome[0]


def average(tensor: Tensor) -> Tensor:
    """Mean of a tensor over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
        tensor /= world_size()
    return tensor


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes, in one message."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = average(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def share_buffers(module: nn.Module) -> None:
    """Give every process the buffers of process 0: running statistics and the like are those of its shares."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes; keys and arithmetic of ``BatchNorm2d`` otherwise.

    Unlike ``torch.nn.SyncBatchNorm`` it also runs on a CPU. Its processes must hold equally many images.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) of this process to the same shape."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        mean = differentiable.all_reduce(x.mean((0, 2, 3))) / world_size()
        centred = x - mean.view(1, -1, 1, 1)
        variance = differentiable.all_reduce(centred.square().mean((0, 2, 3))) / world_size()
        self._track(mean.detach(), variance.detach(), world_size() * x.numel() // x.shape[1])
        normalised = centred * torch.rsqrt(variance + self.eps).view(1, -1, 1, 1)
        if self.affine:
            return normalised * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return normalised

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics, the variance by its unbiased estimate as ``BatchNorm2d`` does."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), momentum)
