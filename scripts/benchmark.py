"""Measure speed and memory, beside the authors' code and other packages.

    python scripts/benchmark.py [SUBSET ...] [rounds=N] [threads=1,2] [accelerator=auto|cpu|cuda] [models=ae,vae]
                                [data_root=DIR] [json=FILE]

loss        forward and backward, beside the authors' package and one pair of transforms; peak memory
overhead    what it adds to a training step of a model at the paper's size (Appendix B.2)
throughput  the autoencoder on CelebA (data_root) end to end, beside the authors' recipe, rewritten
metrics     PSNR, SSIM, LFD, Fréchet distance and Inception features, beside what others use
floor       training steps of StyleGAN2 and SPADE, beside their convolutions alone
growth      cost against image size, batch and data set size; with json=FILE also growth.png and growth.md beside it

No subset: all of them. Peers are measured in the same process in turn; pip install '.[bench]' installs them. Measured
are the CPU and, where there is one, the GPU. threads= gives torch's thread counts on the CPU (1 and all): loss and
metrics are measured with each in turn, the other subsets with the last. small=true: tiny sizes, to see that everything
runs. Printed are medians over the rounds and whether each target holds.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# The profiler that measures memory would log each start and stop. Read once, when torch is imported.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from ffl.errors import UserError
from ffl.files import write_text
from ffl.training.program import run_script
from ffl.training.provenance import code_version, environment
from scripts.benchmarks.settings import Request, Settings, parse
from scripts.benchmarks.targets import shown
from scripts.benchmarks.timing import threads


def main(arguments: list[str]) -> None:
    """The program; ``arguments`` are its words."""
    request = parse(arguments)
    machine = environment()
    name = f"{machine['cpu']}, {machine['cores']} cores, GPU {machine['gpu'] or 'none'}, torch {machine['torch']}"
    print(name)
    results: dict[str, list[dict[str, Any]]] = {}
    for subset in request.subsets:
        try:
            results[subset] = _measure(subset, request)
        except UserError as error:
            if not request.all_subsets:
                raise
            print(f"{subset}: skipped: {error}")
    if not request.settings.small:  # tiny sizes tell nothing about the targets
        _print_missed(results)
    if request.json is not None:
        _write(request, results, machine, arguments)
        if "growth" in results:
            from scripts.benchmarks.growth_report import write_growth

            on_cpu = [row for row in results["growth"] if row["device"] == str(request.devices[0])]
            write_growth(on_cpu, f"{name}, {on_cpu[0]['threads']} threads, {on_cpu[0]['device']}", request.json.parent)
        print(f"written to {request.json}")


def _measure(subset: str, request: Request) -> list[dict[str, Any]]:
    rows = []
    for settings in request.points(subset):
        print(f"\n{subset}, {settings.device}, {settings.threads} thread{'s' if settings.threads > 1 else ''}")
        with threads(settings.threads):
            measured = _rows(subset, settings)
        rows += [{**row, "device": str(settings.device), "threads": settings.threads} for row in measured]
    return rows


def _rows(subset: str, settings: Settings) -> list[dict[str, Any]]:
    try:
        return importlib.import_module(f"scripts.benchmarks.{subset}").measure(settings)
    except ModuleNotFoundError as error:
        raise UserError(f"{subset} needs the package {error.name}: pip install '.[bench]'") from None


def _print_missed(results: dict[str, list[dict[str, Any]]]) -> None:
    """What a reader looks for first, once more."""
    targets = [
        (subset, row, target) for subset in results for row in results[subset] for target in row.get("targets", [])
    ]
    missed = [item for item in targets if not item[2]["holds"]]
    print(f"\n{len(targets) - len(missed)} of {len(targets)} targets hold")
    for subset, row, target in missed:
        what = " ".join(str(row[key]) for key in ("shape", "patch_factor", "model", "metric", "epochs") if key in row)
        average = " average" if row.get("ave_spectrum") else ""
        print(f"missed: {subset} {what}{average}, {row['device']}, {row['threads']} threads: {shown(target)}")


def _write(
    request: Request, results: dict[str, list[dict[str, Any]]], machine: dict[str, Any], arguments: list[str]
) -> None:
    assert request.json is not None
    content = {
        **results,
        "command": " ".join(["python scripts/benchmark.py", *arguments]),
        "device": ", ".join(map(str, request.devices)),
        **code_version(),
        "environment": machine,
    }
    write_text(request.json, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    run_script(main, __doc__)
