"""Training steps of StyleGAN2 and SPADE, beside the time of their convolutions alone.

The floor of a step: every convolution and matrix product of the learned layers that it executes, forward, backward and
in second derivatives, is recorded with its shapes, strides, groups, memory layout and type, and all are executed again
in the same order on random tensors, with nothing between them. Low-pass filters, which are convolutions as well, do
not count. A step is all of its phases, the optimisers' and the moving averages; regularisers that are not due in every
step count by their share.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ffl.training.model import Phase
from scripts.benchmarks.rows import at_most
from scripts.benchmarks.steps import step_on_random_images
from scripts.benchmarks.timing import Action, Conditions, alternate

# Model, overrides of configs/train.yaml, image size, batch size, rounds.
CASES: tuple[tuple[str, tuple[str, ...], int, int, int], ...] = (
    ("stylegan2", ("dataset=celeba_64", "scale=cpu"), 64, 16, 10),
    ("stylegan2", ("dataset=celeba_hq", "model.channel_base=16384"), 256, 4, 1),
    ("spade", ("dataset=celeba_mask_hq", "scale=cpu"), 128, 4, 10),
    ("spade", ("dataset=celeba_mask_hq", "model.vgg_weight=0"), 128, 1, 5),
)
SMALL = {
    "stylegan2": ("model.latent_dim=8", "model.channel_base=128", "model.channel_max=8"),
    "spade": ("model.ngf=2", "model.ndf=2", "model.hidden_channels=4", "model.vgg_downscale=1"),
}
LARGEST_RATIO = 1.5

aten = torch.ops.aten
# Which arguments of a convolution are its weight and its groups.
CONVOLUTIONS = {aten.convolution.default: (1, 8), aten.convolution_backward.default: (2, 9)}
PRODUCTS = (aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default)
# What the profiler calls them, and where their weight is among the arguments; None: they have none.
PROFILED = {
    "aten::mkldnn_convolution": 1,
    "aten::cudnn_convolution": 1,
    "aten::cudnn_convolution_transpose": 1,
    "aten::_slow_conv2d_forward": 1,
    "aten::_slow_conv2d_backward": 2,
    "aten::_convolution": 1,
    "aten::convolution_backward": 2,
    **dict.fromkeys(("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"), None),
}
PROFILE_ROWS = 8


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """One row per case, with the operators that the step spends its time in."""
    device = conditions.device
    for model, overrides, size, batch_size, rounds in CASES:
        if model not in conditions.models:
            continue
        if conditions.small:
            overrides, size, batch_size = (*overrides, *SMALL[model]), 32, 2
        step, phases = step_on_random_images([f"model={model}", *overrides], size, batch_size, device)
        step(0)  # what is made in the first step only

        # Record the floor of each kind of step, and time both in turn.
        kinds = step_kinds(phases)
        actions: dict[str, Action] = {}
        for number in kinds:
            with Replay() as floor:
                step(number)
            actions |= {f"step {number}": partial(step, number), f"floor {number}": floor}
        times = alternate(actions, conditions.rounds or rounds, device)

        # The mean step of each round: its kinds by their shares.
        mean = times.weighted(["step", "floor"], kinds)

        ratio = mean.ratio("step", "floor")
        usual = max(kinds, key=lambda number: kinds[number])
        yield {
            "model": model,
            "shape": f"{size}x{size}, batch {batch_size}",
            "overrides": list(overrides),
            **mean.medians(),
            "ratio": ratio,
            "kinds": [
                {
                    "phases": due(phases, number),
                    "share_of_steps": share,
                    "step_s": times.seconds(f"step {number}"),
                    "floor_s": times.seconds(f"floor {number}"),
                    "ratio": times.ratio(f"step {number}", f"floor {number}"),
                }
                for number, share in kinds.items()
            ],
            "profile": operator_shares(partial(step, usual), device),
            "targets": [at_most("step over its convolutions", ratio, LARGEST_RATIO)],
        }

        # The next case needs the memory.
        del step, actions, floor


def due(phases: Sequence[Phase], number: int) -> list[str]:
    """Names of the phases of a step."""
    return [phase.name for phase in phases if number % phase.interval == 0]


def step_kinds(phases: Sequence[Phase]) -> dict[int, float]:
    """Steps with different phases: the number of the first of each kind, and the share of steps that are like it."""
    period = math.lcm(*(phase.interval for phase in phases))
    kinds = [tuple(due(phases, number)) for number in range(period)]
    return {kinds.index(kind): count / period for kind, count in Counter(kinds).items()}


class Replay(TorchDispatchMode):
    """Notes the convolutions and matrix products of learned layers inside its context; called, it executes them again.

    They run on random tensors of the same kind. Tensors of one shape, layout and type in one place among the arguments
    are the same one, which saves memory.

    Attributes:
        calls: operators with their arguments.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], list[Any], dict[str, Any]]] = []
        self._tensors: dict[tuple[Any, ...], Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        learned = func in PRODUCTS
        if func in CONVOLUTIONS:
            # A convolution that filters each channel by itself is a low-pass filter: no learned layer here does so.
            weight, groups = (args[place] for place in CONVOLUTIONS[func])
            learned = not (groups > 1 and weight.shape[:2] == (groups, 1))
        if learned:
            own = [self._tensor(value, i) if isinstance(value, Tensor) else value for i, value in enumerate(args)]
            self.calls.append((func, own, kwargs or {}))
        return result

    def _tensor(self, like: Tensor, position: int) -> Tensor:
        key = (like.shape, like.stride(), like.dtype, position)
        if key not in self._tensors:
            self._tensors[key] = torch.randn_like(like)
        return self._tensors[key]

    @torch.no_grad()
    def __call__(self) -> None:
        for operator, arguments, options in self.calls:
            operator(*arguments, **options)


def operator_shares(action: Action, device: torch.device) -> list[dict[str, Any]]:
    """Where the time of ``action`` goes: the largest groups of operators, each with its share.

    Learned layers are one group, low-pass filters and the bookkeeping of autograd are others.
    """
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities, record_shapes=True) as profiler:
        action()
    spent: defaultdict[str, float] = defaultdict(float)
    for event in profiler.key_averages(group_by_input_shape=True):
        group = event.key
        if group.startswith("autograd::") or group.endswith("Backward"):
            group = "autograd"
        elif group in PROFILED:
            place = PROFILED[group]
            weight = event.input_shapes[place] if place is not None and place < len(event.input_shapes) else []
            filters = len(weight) == 4 and weight[1] == 1 and weight[2] > 1 and weight[0] > 1
            group = "low-pass filters" if filters else "convolutions and products of learned layers"
        spent[group] += event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
    total = sum(spent.values())
    largest = sorted(spent, key=lambda group: spent[group], reverse=True)[:PROFILE_ROWS]
    return [{"operator": group, "share": spent[group] / total} for group in largest]
