"""Which numbers another machine changes, and which ``trainer.deterministic`` keeps.

Another processor is imitated: the libraries are told by their variables to use older instructions, which a real one
would make them do; it has one thread, unless a row says otherwise. Operations are those of training, each on the
same inputs; runs are those of train.py on embedded images. Deterministic ones have the variables of
``ffl.training.determinism`` on top of the other machine's, as train.py sets them.

What cannot be imitated is the maker of a processor, by which MKL chooses too.
"""

import sys

from ffl.training.determinism import VARIABLES, fix_instructions

if __name__ == "__main__":
    fix_instructions(sys.argv[2:])  # before torch is imported, as train.py does

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ffl.errors import UserError
from scripts.benchmarks.timing import Conditions

ROOT = Path(__file__).resolve().parents[2]
# MKL_ENABLE_INSTRUCTIONS is for Intel's processors, on which MKL_CBWR would do the same; GLIBC_TUNABLES moves exp and
# its like in glibc. NumPy has called its instructions otherwise since 2.4.
NUMPY_AVX512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4"
HERE = {"OMP_NUM_THREADS": "1"}
MACHINES: dict[str, dict[str, str]] = {
    "AVX2": {
        **HERE,
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "NPY_DISABLE_CPU_FEATURES": NUMPY_AVX512,
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F",
    },
    "SSE4.2": {
        **HERE,
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "MKL_CBWR": "COMPATIBLE",
        "NPY_DISABLE_CPU_FEATURES": f"{NUMPY_AVX512} AVX2 FMA3 X86_V3",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA",
    },
    "two threads": {"OMP_NUM_THREADS": "2"},
}
MODELS = ("ae", "vae", "pix2pix", "spade", "stylegan2")
STEPS, SMALL_STEPS = 20, 2


def operations() -> dict[str, Tensor]:
    """Results of the operations of training: each from the same inputs, which no random generator makes."""
    generator = np.random.Generator(np.random.PCG64(0))
    left, right, images, features, weight = (
        torch.from_numpy(generator.integers(-999, 1000, shape).astype(np.float32) / 1000)
        for shape in ((128, 1000), (1000, 512), (8, 3, 64, 64), (4, 64, 32, 32), (32, 64, 3, 3))
    )
    features.requires_grad_()
    weight.requires_grad_()
    convolved = F.conv2d(features, weight, padding=1)
    parameter = torch.nn.Parameter(right.clone())
    optimizer = torch.optim.Adam([parameter], fused=True)
    for _ in range(3):
        parameter.grad = parameter.detach().square()
        optimizer.step()
    return {
        "matrix product (MKL)": left @ right,
        "convolution (oneDNN)": convolved.detach(),
        "its gradients (oneDNN)": torch.cat(
            [gradient.flatten() for gradient in torch.autograd.grad(convolved.square().sum(), [features, weight])]
        ),
        "Fourier transform": torch.view_as_real(torch.fft.rfft2(images, norm="ortho")),
        "sum": right.square().sum().reshape(1),
        "batch normalisation": F.batch_norm(features.detach(), None, None, training=True),
        "exponential": left.exp(),
        "softmax": left.softmax(1),
        "normal numbers": torch.randn(10_000, generator=torch.Generator().manual_seed(0)),
        "Adam": parameter.detach(),
    }


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """A row per operation and per run on each other machine, without ``trainer.deterministic`` and with it.

    A difference is the norm of that of the results, relative to their own.
    """
    if conditions.device.type != "cpu":
        raise UserError("determinism is measured of the CPU; set accelerator=cpu")
    models = [model for model in MODELS if model in conditions.models][: 1 if conditions.small else None]
    with tempfile.TemporaryDirectory() as place:
        here = [_results(HERE, fixed, models, Path(place), conditions.small) for fixed in (False, True)]
        for machine, variables in MACHINES.items():
            there = [_results(variables, fixed, models, Path(place), conditions.small) for fixed in (False, True)]
            for name in here[0]:
                row: dict[str, Any] = {"of": name, "machine": machine}
                for prefix, ours, theirs in zip(("", "deterministic_"), here, there, strict=True):
                    difference = (ours[name].double() - theirs[name].double()).norm() / ours[name].double().norm()
                    row[f"{prefix}equal"] = torch.equal(ours[name], theirs[name])
                    row[f"{prefix}difference"] = difference.item()
                yield row


def _results(
    variables: Mapping[str, str], deterministic: bool, models: list[str], folder: Path, small: bool
) -> dict[str, Tensor]:
    """What operations give, and the weights that runs end with, in processes with these environment variables."""
    word = f"trainer.deterministic={str(deterministic).lower()}"
    path = folder / "operations.pt"
    run_python(["-m", "scripts.benchmarks.determinism", str(path), word], variables)
    found: dict[str, Tensor] = torch.load(path, weights_only=True)
    for model in models:
        steps = SMALL_STEPS if small else STEPS
        words = [f"model={model}", "debug=smoke", "loss.ffl=true", f"trainer.steps={steps}", "trainer.accelerator=cpu"]
        words += ["model.vgg_weight=0"] if model == "spade" else []
        with tempfile.TemporaryDirectory(dir=folder) as outputs:
            place = [f"output_root={outputs}", f"cache_dir={outputs}/cache", "name=run"]
            run_python(["train.py", *words, *place, word], variables)
            state = torch.load(Path(outputs) / "run/checkpoints/last.pt", weights_only=True)["model"]
        weights = [value.flatten() for value in state.values() if value.is_floating_point()]
        found[f"{model}, weights after {steps} steps"] = torch.cat(weights)
    return found


def run_python(words: list[str], variables: Mapping[str, str]) -> None:
    """Run python with these words in the checkout, as on the machine that the environment variables imitate.

    Raises:
        UserError: if it fails, with its last line.
    """
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES} | dict(variables)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"python {' '.join(words)}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


if __name__ == "__main__":
    if sys.argv[2] == "trainer.deterministic=true":
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
    torch.save(operations(), sys.argv[1])
