"""Loss and training steps on a GPU under each setting that people choose there, with synchronised timers.

Peak memory is that of the allocator. Every step has the weights, the batch and the random numbers of the first one.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from ffl import FocalFrequencyLoss
from ffl.errors import UserError
from ffl.training.precision import allow_tf32
from scripts.benchmarks.steps import step_on_random_images
from scripts.benchmarks.timing import Action, Conditions, Times, alternate, differentiate, peak_memory

# Model: data set that its options are taken from, size and batch size of the paper (Appendix B.1) on one GPU.
STEPS = {
    "ae": ("celeba", 64, 128),
    "vae": ("celeba", 64, 128),
    "pix2pix": ("facades", 256, 1),
    "spade": ("cityscapes", 256, 4),
    "stylegan2": ("celeba_hq", 256, 8),
}
SHAPES = ((128, 3, 64, 64), (8, 3, 256, 256), (2, 3, 1024, 1024))
SETTINGS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "tf32": {"tf32": True},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "bf16 channels last": {"precision": "bf16", "channels_last": True},
    "bf16 channels last, compiled": {"precision": "bf16", "channels_last": True, "compiled": True},
}
OWN_PRECISION = ("fp32", "tf32")  # what StyleGAN2 takes: it has float16 layers of its own and differentiates twice
ROUNDS = 20


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """One row per shape of the loss, and one per model.

    Raises:
        UserError: the device is no GPU.
    """
    if conditions.device.type != "cuda":
        raise UserError("gpu: there is none here, or it was not chosen; try accelerator=cuda where one is")
    for shape in SHAPES:
        yield {"shape": list(shape), **time_loss(shape, conditions)}
    for model in STEPS:
        if model in conditions.models:
            yield {"model": model, **time_steps(model, conditions)}


def time_loss(shape: tuple[int, ...], conditions: Conditions) -> dict[str, Any]:
    """Forward and backward of the loss as it is, compiled, and replayed as a CUDA graph."""
    device = conditions.device
    fake, real = torch.rand(2, *shape, device=device)
    fake.requires_grad_()
    ours = FocalFrequencyLoss()
    compiled = torch.compile(ours)

    actions: dict[str, Action] = {
        name: partial(differentiate, loss, fake, real) for name, loss in (("eager", ours), ("compiled", compiled))
    }
    if device.type == "cuda":
        # A graph is captured after a few runs on a stream of its own, as torch's documentation asks for.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                actions["eager"]()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            actions["eager"]()
        actions["graph"] = graph.replay
    actions["pair"] = lambda: torch.fft.irfft2(torch.fft.rfft2(real), s=real.shape[-2:])
    times = alternate(actions, conditions.rounds or ROUNDS, device)
    return {**times.medians(), "peak_bytes": peak_memory(actions["eager"], device)}


def time_steps(model: str, conditions: Conditions) -> dict[str, Any]:
    """Training steps with FFL under each setting, in turn, and the images per second of each."""
    dataset, size, batch_size = STEPS[model]
    if conditions.small:
        size, batch_size = min(size, 64), 2
    overrides = [f"model={model}", f"dataset={dataset}", "loss.ffl=true"]
    if model == "spade":
        overrides.append("model.vgg_weight=0")  # its weights may not be there
    device = conditions.device
    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    failed: dict[str, str] = {}
    for name, setting in SETTINGS.items():
        if model == "stylegan2" and name not in OWN_PRECISION:
            continue
        options = {key: value for key, value in setting.items() if key != "tf32"}
        # One setting that a GPU cannot run leaves the others; each has the memory for itself.
        allow_tf32(setting.get("tf32", False))
        try:
            step, _ = step_on_random_images(overrides, size, batch_size, device, **options)
            memory[name] = peak_memory(partial(step, 0), device)
            seconds |= alternate({name: partial(step, 0)}, conditions.rounds or ROUNDS, device).rounds
        except (RuntimeError, UserError) as error:
            failed[name] = " ".join(str(error).split())[:120]
        finally:
            allow_tf32(False)
    times = Times(seconds)
    return {
        "size": size,
        "batch": batch_size,
        "images_per_second": {name: batch_size / times.seconds(name) for name in seconds},
        "peak": {f"{name}_bytes": number for name, number in memory.items()},
        **({"failed": failed} if failed else {}),
    }
