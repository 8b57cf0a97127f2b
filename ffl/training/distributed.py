"""Several processes as one run: started by torchrun or by Slurm's srun, each with its share of every batch.

Gradients are averaged after each phase's backward passes, without a wrapper around the model, so that every phase works
alike, double backward included. Elsewhere there is one process, and everything here does nothing.
"""

import contextlib
import hashlib
import itertools
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from ffl.errors import UserError

T = TypeVar("T")

JOINING = timedelta(minutes=5)  # how long to wait for processes that do not start
WAITING = timedelta(hours=2)  # and for one that works alone, on a validation or the statistics of real images
FIRST_PORT, NUM_PORTS = 20_000, 10_000  # where the processes of a Slurm job meet, by its number

_base_store: dist.Store | None = None
_run_store: dist.Store | None = None
_runs = itertools.count()


def start(device: torch.device) -> None:
    """Join the other processes of the run; a single process has none.

    Raises:
        UserError: if they do not come.
    """
    global _base_store, _run_store
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if _announced("WORLD_SIZE", 1) == 1 or dist.is_initialized():
        return
    rank, world_size = _announced("RANK", 0), _announced("WORLD_SIZE", 1)
    try:
        if _base_store is None:
            _base_store = next(rendezvous("env://", rank, world_size, timeout=JOINING))[0]
        # The jobs of a sweep meet in the same store, one after the other.
        _run_store = dist.PrefixStore(f"run{next(_runs)}", _base_store)
        # Small decisions travel between CPUs, so that they wait for no GPU.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=WAITING, store=_run_store, rank=rank, world_size=world_size)
    except (RuntimeError, ValueError) as error:  # torch's DistError is a RuntimeError
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = str(error).split("\n")[0][:200]
        raise UserError(
            f"process {rank} of {world_size} did not meet the others at {where} ({reason}); see that all were started"
        ) from None


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


def share(items: Sequence[T]) -> Sequence[T]:
    """Those of some items that are this process's: every so manyth, none missing and none twice over all processes."""
    return items[rank() :: world_size()]


def announced_rank() -> int:
    """Number of this process among those that were started together, joined or not."""
    return _announced("RANK", 0)


def local_rank() -> int:
    """Number of this process on its machine: which GPU is its own."""
    return _announced("LOCAL_RANK", 0)


def _announced(variable: str, default: int) -> int:
    """What torchrun, or else srun, says of this process in the environment."""
    _translate_slurm(os.environ)
    return int(os.environ.get(variable, default))


def _translate_slurm(variables: "os._Environ[str] | dict[str, str]") -> None:
    """Name what srun says of a task the way torchrun does.

    Only inside a job step: a batch script, or a shell of ``salloc``, is one process whatever its job holds. Tasks meet
    on the step's first machine, unless MASTER_ADDR and MASTER_PORT name another place.
    """
    if "WORLD_SIZE" in variables or int(variables.get("SLURM_STEP_NUM_TASKS", "1")) == 1:
        return
    nodes = variables.get("SLURM_STEP_NODELIST", "localhost")
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    port = FIRST_PORT + int(variables.get("SLURM_JOB_ID", "0")) % NUM_PORTS
    variables.setdefault("MASTER_ADDR", "".join(part or "" for part in first.groups()) if first else nodes)
    variables.setdefault("MASTER_PORT", str(port))
    variables["RANK"] = variables["SLURM_PROCID"]
    variables["LOCAL_RANK"] = variables["SLURM_LOCALID"]
    variables["WORLD_SIZE"] = variables["SLURM_STEP_NUM_TASKS"]


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


def wait() -> None:
    """Wait until all processes are here: their programs, not their GPUs."""
    any_of([False])


def any_of(flags: list[bool]) -> list[bool]:
    """Whether each flag is true in any process; all must ask."""
    if world_size() == 1:
        return flags
    values = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return values.bool().tolist()


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
    _in_one_message(gradients, average)


def share_buffers(module: nn.Module) -> None:
    """Give every process the buffers of process 0: running statistics and the like are those of its shares."""
    if world_size() == 1:
        return
    buffers = list(module.buffers())
    for dtype in sorted({buffer.dtype for buffer in buffers}, key=str):
        _in_one_message([buffer for buffer in buffers if buffer.dtype == dtype], lambda flat: dist.broadcast(flat, 0))


def _in_one_message(tensors: list[Tensor], send: Callable[[Tensor], Any]) -> None:
    """Let ``send`` change the tensors, of one type, in place and all at once."""
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    send(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


@contextlib.contextmanager
def lost_processes(advice: str) -> Iterator[None]:
    """Turn the failure to reach another process into one line that ends with ``advice``.

    Raises:
        UserError: if another process ended, or its machine or the network did.
    """
    global _run_store
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        if not _agent_keeps_store():
            _run_store = None  # it may have been that process that kept it
        raise UserError(
            f"a process of this run ended, and the other {world_size() - 1} end with it; "
            f"if it left a message, that stands in this output. {advice}"
        ) from None


def first_to_say(text: str) -> bool:
    """Whether no other process of the run has said this yet: what all would say alike is said once."""
    if _run_store is None:
        return True
    key = f"said/{hashlib.sha256(text.encode()).hexdigest()}"
    try:
        first = _run_store.add(key, 1) == 1
        if not _agent_keeps_store() and _announced("RANK", 0) == 0:  # the store ends with this process: others may ask
            patience = time.monotonic() + 2
            while _run_store.add(key, 0) < _announced("WORLD_SIZE", 1) and time.monotonic() < patience:
                time.sleep(0.01)
        return first
    except RuntimeError:
        return True


def _agent_keeps_store() -> bool:
    """Whether torchrun keeps the store, which then outlives every process of the run; process 0 does otherwise."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes; keys and arithmetic of ``BatchNorm2d`` otherwise.

    Unlike ``torch.nn.SyncBatchNorm`` it also runs on a CPU. Its processes must hold equally many images. Statistics
    are computed in float32 where ``x`` has 16 bits.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) of this process to the same shape."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        full = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean = differentiable.all_reduce(full.mean((0, 2, 3))) / world_size()
        centred = full - mean.view(1, -1, 1, 1)
        variance = differentiable.all_reduce(centred.square().mean((0, 2, 3))) / world_size()
        self._track(mean.detach(), variance.detach(), world_size() * x.numel() // x.shape[1])
        normalised = centred * torch.rsqrt(variance + self.eps).view(1, -1, 1, 1)
        if self.affine:
            normalised = normalised * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return normalised.to(x.dtype)

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
