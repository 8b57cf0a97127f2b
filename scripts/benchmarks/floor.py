"""Training steps of StyleGAN2 and SPADE, beside the time of their convolutions alone.

The floor of a step: every convolution and matrix product of the learned layers that it executes, forward, backward and
in second derivatives, is recorded with its shapes, strides, groups, memory layout and type, and all are executed again
in the same order on random tensors, with nothing between them. Low-pass filters, which are convolutions as well, do
not count. A step is all of its phases, the optimisers' and the moving averages; regularisers that are not due in every
step count by their share.
"""

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ffl.training.model import Batch, Phase
from ffl.training.objective import Objective
from ffl.training.program import compose
from ffl.training.randomness import seed_weights
from ffl.training.step import TrainingStep
from models import build_model
from scripts.benchmarks.settings import Settings
from scripts.benchmarks.targets import at_most, shown
from scripts.benchmarks.timing import Action, Times, alternate

aten = torch.ops.aten
GROUPS = {aten.convolution.default: 8, aten.convolution_backward.default: 9}  # which argument tells the groups
WEIGHT = {aten.convolution.default: 1, aten.convolution_backward.default: 2}
PRODUCTS = (aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default)
# How the profiler calls them, and where their weight is among the arguments; None: they have none.
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
LARGEST_RATIO = 1.5


@dataclass(frozen=True)
class Case:
    """A model at a size.

    Attributes:
        model: name.
        overrides: of configs/train.yaml.
        size: of the square images.
        batch_size: images of a step.
        rounds: the usual number.
    """

    model: str
    overrides: tuple[str, ...]
    size: int
    batch_size: int
    rounds: int


CASES = (
    Case("stylegan2", ("dataset=celeba_64", "scale=cpu"), 64, 16, 10),
    Case("stylegan2", ("dataset=celeba_hq", "model.channel_base=16384"), 256, 4, 1),
    Case("spade", ("dataset=celeba_mask_hq", "scale=cpu"), 128, 4, 10),
    Case("spade", ("dataset=celeba_mask_hq", "model.vgg_weight=0"), 128, 1, 5),
)
SMALL = {
    "stylegan2": ("model.latent_dim=8", "model.channel_base=128", "model.channel_max=8"),
    "spade": ("model.ngf=2", "model.ndf=2", "model.hidden_channels=4"),
}


def measure(settings: Settings) -> list[dict[str, Any]]:
    """One row per case; prints each with the operators that the step spends its time in."""
    rows = []
    names = settings.chosen(tuple(dict.fromkeys(case.model for case in CASES)))
    for case in CASES:
        if case.model in names:
            rows.append(_measure_case(case, settings))
    return rows


def _measure_case(case: Case, settings: Settings) -> dict[str, Any]:
    if settings.small:
        case = replace(case, overrides=(*case.overrides, *SMALL[case.model]), size=32, batch_size=2)
    step, phases = make_step(case, settings.device)
    kinds = step_kinds(phases)
    step(0)  # what is made in the first step only
    floors = {number: record(functools.partial(step, number)) for number in kinds}
    actions: dict[str, Action] = {}
    for number in kinds:
        actions[f"step {number}"] = functools.partial(step, number)
        actions[f"floor {number}"] = floors[number]
    times = alternate(actions, settings.rounds_or(case.rounds), settings.device)
    mean = Times({word: _mean_step(times, word, kinds) for word in ("step", "floor")})
    row: dict[str, Any] = {
        "model": case.model,
        "shape": f"{case.size}x{case.size}, batch {case.batch_size}",
        "overrides": list(case.overrides),
        "step_s": mean.seconds("step"),
        "floor_s": mean.seconds("floor"),
        "ratio": mean.ratio("step", "floor"),
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
        "profile": operator_shares(lambda: step(max(kinds, key=lambda number: kinds[number])), settings.device),
    }
    row["targets"] = [at_most("step over its convolutions", row["ratio"], LARGEST_RATIO)]
    print(f"{case.model} {row['shape']}: {row['step_s']:.4f} s, convolutions alone {row['floor_s']:.4f} s")
    print(f"  {shown(row['targets'][0])}")
    for kind in row["kinds"]:
        print(f"  {kind['ratio']:.3f} where these are due: {', '.join(kind['phases'])}")
    for entry in row["profile"]:
        print(f"  {entry['share']:6.1%}  {entry['operator']}", flush=True)
    return row


def make_step(case: Case, device: torch.device) -> tuple[Callable[[int], None], list[Phase]]:
    """A function that does the training step of a number on random images, and the model's phases."""
    size, batch_size = case.size, case.batch_size
    config = compose("train", [f"model={case.model}", *case.overrides])
    seed_weights(config["seed"])
    model = build_model(**config["model"], image_size=(size, size), objective=Objective(**config["loss"]))
    model.to(device).train()
    training_step = TrainingStep(model, config["seed"])
    images = torch.rand(batch_size, 3, size, size, device=device) * 2 - 1
    batch: Batch = {"image": images}
    if "label" in model.inputs:
        coarse = torch.randint(0, config["model"]["label_channels"], (batch_size, size // 8, size // 8))
        batch["label"] = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2).to(device)

    def step(number: int) -> None:
        training_step.run(number, {0: dict(batch)})
        model.finish_step((number + 1) * batch_size, batch_size)

    return step, training_step.phases


def due(phases: Iterable[Phase], number: int) -> list[str]:
    """Names of the phases of a step."""
    return [phase.name for phase in phases if number % phase.interval == 0]


def step_kinds(phases: list[Phase]) -> dict[int, float]:
    """Steps with different phases: the number of the first of each kind, and the share of steps that are like it."""
    period = math.lcm(*(phase.interval for phase in phases))
    kinds = [tuple(due(phases, number)) for number in range(period)]
    return {kinds.index(kind): count / period for kind, count in Counter(kinds).items()}


def _mean_step(times: Times, word: str, kinds: dict[int, float]) -> list[float]:
    """Seconds of the mean step in each round."""
    columns = [[share * seconds for seconds in times.rounds[f"{word} {number}"]] for number, share in kinds.items()]
    return [sum(parts) for parts in zip(*columns, strict=True)]


def record(action: Action) -> "Replay":
    """Run ``action`` and note the convolutions and products of learned layers in it."""
    replay = Replay()
    with replay.recording():
        action()
    return replay


class Replay:
    """Convolutions and matrix products, to be executed again on random tensors of the same kind.

    Tensors of one shape, layout and type in one place among the arguments are the same one, which saves memory; called,
    it executes them all.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], list[Any], dict[str, Any]]] = []
        self._tensors: dict[tuple[Any, ...], Tensor] = {}

    def recording(self) -> TorchDispatchMode:
        """A context in which what is executed is noted."""
        return _Recorder(self)

    def add(self, operator: Callable[..., Any], arguments: Iterable[Any], options: dict[str, Any]) -> None:
        """Note one call."""
        own = [self._tensor(value, i) if isinstance(value, Tensor) else value for i, value in enumerate(arguments)]
        self.calls.append((operator, own, options))

    def _tensor(self, like: Tensor, position: int) -> Tensor:
        key = (like.shape, like.stride(), like.dtype, position)
        if key not in self._tensors:
            self._tensors[key] = torch.randn_like(like)
        return self._tensors[key]

    @torch.no_grad()
    def __call__(self) -> None:
        for operator, arguments, options in self.calls:
            operator(*arguments, **options)


class _Recorder(TorchDispatchMode):
    def __init__(self, replay: Replay) -> None:
        super().__init__()
        self.replay = replay

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in PRODUCTS or (func in GROUPS and not _filters(args[WEIGHT[func]].shape, args[GROUPS[func]])):
            self.replay.add(func, args, kwargs or {})
        return result


def _filters(weight: Iterable[int], groups: int) -> bool:
    """Whether a convolution filters each channel by itself, as no learned layer of these networks does."""
    out_channels, in_channels, *_ = weight
    return groups > 1 and groups == out_channels and in_channels == 1


def operator_shares(action: Action, device: torch.device) -> list[dict[str, Any]]:
    """Where the time of ``action`` goes: learned layers, low-pass filters, then the largest of the rest."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities, record_shapes=True) as profiler:
        action()
    spent: defaultdict[str, float] = defaultdict(float)
    for event in profiler.key_averages(group_by_input_shape=True):
        time = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        spent[_group(event.key, event.input_shapes)] += time
    total = sum(spent.values())
    largest = sorted(spent, key=lambda name: spent[name], reverse=True)[:PROFILE_ROWS]
    return [{"operator": name, "share": spent[name] / total} for name in largest]


def _group(name: str, shapes: list[list[int]]) -> str:
    if name.startswith("autograd::") or name.endswith("Backward"):
        return "autograd"
    if name not in PROFILED:
        return name
    place = PROFILED[name]
    weight = shapes[place] if place is not None and place < len(shapes) else []
    filters = len(weight) == 4 and weight[1] == 1 and weight[2] > 1 and weight[0] > 1
    return "low-pass filters" if filters else "convolutions and products of learned layers"
