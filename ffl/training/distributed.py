"""Several processes as one run: started by torchrun or by Slurm's srun, each with its part of every batch.

Gradients are averaged after each phase's backward passes, without a wrapper around the model, so that every phase works
alike, double backward included. In a single process every function here returns at once.

Process 0 alone prints and writes. An error is printed by the process that raises it, unless it is a ``SharedError``,
which all processes raise and process 0 prints.
"""

import contextlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from ffl.errors import SharedError, UserError

T = TypeVar("T")

JOIN_TIMEOUT = timedelta(minutes=5)  # for processes that do not start
WORK_TIMEOUT = timedelta(hours=2)  # for one that works alone, on a validation or the bytes of real images
FIRST_PORT, NUM_PORTS = 20_000, 10_000  # where the processes of a Slurm job meet, by its number

_base_store: dist.Store | None = None
_runs = itertools.count()


def start(device: torch.device) -> None:
    """Join the other processes of the run; a single process has none.

    Raises:
        UserError: if they do not come.
    """
    global _base_store
    # NCCL needs to know the GPU of each process before they meet.
    if device.type == "cuda":
        torch.cuda.set_device(device)
    rank, world_size = env_rank(), _environment_number("WORLD_SIZE", 1)
    if world_size == 1 or dist.is_initialized():
        return
    try:
        # All jobs of a sweep meet in the store of the first one, since its port is taken; a prefix keeps them apart.
        if _base_store is None:
            _base_store = next(rendezvous("env://", rank, world_size, timeout=JOIN_TIMEOUT))[0]
        store = dist.PrefixStore(f"run{next(_runs)}", _base_store)
        # Small decisions travel between CPUs, so that they wait for no GPU.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        with _no_greetings():
            dist.init_process_group(backend, timeout=WORK_TIMEOUT, store=store, rank=rank, world_size=world_size)
    except (RuntimeError, ValueError) as error:  # torch's DistError is a RuntimeError
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = str(error).split("\n")[0][:200]
        raise UserError(
            f"process {rank} of {world_size} did not meet the others at {where} ({reason}); see that all were started"
        ) from None


@contextlib.contextmanager
def _no_greetings() -> Iterator[None]:
    """Keep standard output for results: gloo says there that it is connected, in torch 2.8 to 2.10."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def stop() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def join_processes(device: torch.device, advice: str) -> Iterator[None]:
    """Join the other processes of the run, and leave them after the block.

    Args:
        device: of this process, see ``start``.
        advice: what to do if one of them is lost; ends the message.
    Raises:
        UserError: if they do not come, or one of them ended meanwhile, or its machine or the network did.
    """
    start(device)
    try:
        yield
    except RuntimeError as error:
        # gloo raises plain RuntimeErrors that have its name in them.
        if world_size() == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise UserError(
            f"a process of this run ended, and the other {world_size() - 1} end with it; "
            f"if it left a message, that stands in this output. {advice}"
        ) from None
    finally:
        stop()


def rank() -> int:
    """Number of this process, 0 the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(items: Sequence[T]) -> Sequence[T]:
    """The items that this process works on. Dealt out in turn, each item goes to exactly one process."""
    return items[rank() :: world_size()]


def env_rank() -> int:
    """Number of this process by its environment, which is known before the processes join."""
    return _environment_number("RANK", 0)


def local_rank() -> int:
    """Number of this process on its machine: which GPU is its own."""
    return _environment_number("LOCAL_RANK", 0)


def _environment_number(variable: str, default: int) -> int:
    """A variable that torchrun sets, or its equivalent of srun."""
    _translate_slurm(os.environ)
    return int(os.environ.get(variable, default))


def _translate_slurm(variables: "os._Environ[str] | dict[str, str]") -> None:
    """Set torchrun's variables from srun's.

    Only inside a job step: a batch script, or a shell of ``salloc``, is one process whatever its job holds. Tasks meet
    on the step's first machine, unless MASTER_ADDR and MASTER_PORT name another place.
    """
    if "WORLD_SIZE" in variables or int(variables.get("SLURM_STEP_NUM_TASKS", "1")) == 1:
        return
    # The list reads like gpu[003-006,9]; its first machine is known to all tasks without asking.
    nodes = variables.get("SLURM_STEP_NODELIST", "localhost")
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    # A port by the job's number keeps jobs apart that share a machine.
    port = FIRST_PORT + int(variables.get("SLURM_JOB_ID", "0")) % NUM_PORTS
    variables.setdefault("MASTER_ADDR", "".join(part or "" for part in first.groups()) if first else nodes)
    variables.setdefault("MASTER_PORT", str(port))
    variables["RANK"] = variables["SLURM_PROCID"]
    variables["LOCAL_RANK"] = variables["SLURM_LOCALID"]
    variables["WORLD_SIZE"] = variables["SLURM_STEP_NUM_TASKS"]


def on_main(function: Callable[[], T]) -> T:
    """Call ``function`` in process 0 alone and return its result in all.

    Raises:
        SharedError: in all processes, if it raises a UserError.
    """
    result: list[Any] = [None]
    with share_errors():
        if rank() == 0:
            result[0] = function()
    if world_size() > 1:
        dist.broadcast_object_list(result, src=0)
    return result[0]


@contextlib.contextmanager
def share_errors() -> Iterator[None]:
    """Let a UserError of any process inside the block end all of them; all processes must enter it together.

    Raises:
        SharedError: in all processes, with the message of the first that has one.
    """
    own = None
    try:
        yield
    except SharedError:  # a block inside this one has told all processes
        raise
    except UserError as error:
        if world_size() == 1:
            raise
        own = str(error)
    # Every process comes here, with or without an error of its own, and so waits for the slowest.
    if world_size() > 1:
        messages: list[str | None] = [None] * world_size()
        dist.all_gather_object(messages, own)
        for message in messages:
            if message is not None:
                raise SharedError(message)


def barrier() -> None:
    """Wait until all processes are here: their programs, not their GPUs."""
    all_reduce_any([False])


def all_reduce_any(flags: list[bool]) -> list[bool]:
    """Whether each flag is true in any process; all must ask."""
    if world_size() == 1:
        return flags
    # A tensor on the CPU goes through gloo, so that the processes do not wait for their GPUs.
    values = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return values.bool().tolist()


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """Replace a tensor by its mean over all processes."""
    if world_size() > 1:
        dist.all_reduce(tensor)
        tensor /= world_size()
    return tensor


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes, in one message."""
    if world_size() == 1:
        return
    # A phase may leave parameters without a gradient; they are the same ones in all processes.
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    _send_flattened(gradients, all_reduce_mean)


def broadcast_buffers(module: nn.Module) -> None:
    """Give every process the buffers of process 0, since each has running statistics of its own shards."""
    if world_size() == 1:
        return
    # One message for each type; sorted, so that all processes send them in the same order.
    buffers = list(module.buffers())
    for dtype in sorted({buffer.dtype for buffer in buffers}, key=str):
        same = [buffer for buffer in buffers if buffer.dtype == dtype]
        _send_flattened(same, lambda flat: dist.broadcast(flat, 0))


def _send_flattened(tensors: list[Tensor], send: Callable[[Tensor], Any]) -> None:
    """Let ``send`` change tensors of one type in place as a single flat tensor: one message costs less than many."""
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    send(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes; keys and arithmetic of ``BatchNorm2d`` otherwise.

    Unlike ``torch.nn.SyncBatchNorm`` it also runs on a CPU. Its processes must hold equally many images. Statistics
    are computed in float32 where ``x`` has 16 bits.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) of this process to the same shape."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        # Statistics are those of all processes. The all-reduce passes gradients on, since each image moves them.
        full = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean = differentiable.all_reduce(full.mean((0, 2, 3))) / world_size()
        centred = full - mean.view(1, -1, 1, 1)
        variance = differentiable.all_reduce(centred.square().mean((0, 2, 3))) / world_size()
        # Running statistics move as those of BatchNorm2d do, the variance by its unbiased estimate.
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            count = world_size() * x.numel() // x.shape[1]
            self.running_mean.lerp_(mean.detach(), momentum)
            self.running_var.lerp_(variance.detach() * count / max(count - 1, 1), momentum)
        normalised = centred * torch.rsqrt(variance + self.eps).view(1, -1, 1, 1)
        if self.affine:
            normalised = normalised * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return normalised.to(x.dtype)
