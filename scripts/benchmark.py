"""Measure speed and memory, beside the authors' code and other packages.

    python scripts/benchmark.py [SUBSET ...] [key=value ...]

loss        forward and backward, beside the authors' package and one pair of transforms; peak memory
overhead    what it adds to a training step of a model at the paper's size (Appendix B.2)
throughput  the autoencoder on CelebA (data_root) end to end, beside the authors' recipe, rewritten
metrics     PSNR, SSIM, LFD, Fréchet distance and Inception features, beside what others use
floor       training steps of StyleGAN2 and SPADE, beside their convolutions alone
growth      cost against image size, batch and data set size; with json=FILE also growth.png and growth.md beside it

No subset: all of them. Peers are measured in the same process in turn; pip install '.[bench]' installs them. Measured
are the CPU and, where there is one, the GPU. Printed are medians over the rounds and whether each target holds.
"""

import importlib
import os
import sys
from dataclasses import replace
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# The profiler that measures memory would log each start and stop. Read once, when torch is imported.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch

from ffl.errors import UserError
from ffl.files import write_text
from ffl.ranges import Count, Range
from ffl.training.command import run_script
from ffl.training.config import Accelerator
from ffl.training.provenance import code_version, environment
from ffl.training.trainer import choose_device
from scripts.benchmarks.settings import Settings, num_cores
from scripts.benchmarks.targets import shown
from scripts.benchmarks.timing import threads as limit_threads

Subset = Literal["loss", "overhead", "throughput", "metrics", "floor", "growth"]
ModelName = Literal["ae", "vae", "pix2pix", "stylegan2", "spade"]
BY_THREADS = ("loss", "metrics")  # short, and compared with code that has one thread


def benchmark(
    *subsets: Subset,
    rounds: Count | None = None,
    threads: list[Annotated[int, Range(1, 1024)]] | None = None,
    accelerator: Accelerator = "auto",
    models: list[ModelName] | None = None,
    data_root: Path = Path("data"),
    small: bool = False,
    json: Path | None = None,
) -> None:
    """Measure, print and perhaps write the results.

    Args:
        subsets: what to measure; without any everything, but for what lacks its data or packages.
        rounds: repetitions, each of which measures all that is compared; else each subset has its number.
        threads: torch's thread counts on the CPU, such as 1,2; else 1 and all cores. Loss and metrics are measured
            with each in turn, the other subsets with the last.
        accelerator: auto is the CPU and, where there is one, the GPU.
        models: to measure, of those that a subset has.
        data_root: folder that holds one folder per data set.
        small: tiny sizes, to see that everything runs.
        json: file to write the results to.
    Raises:
        UserError: naming what is wrong, or what a subset lacks that was asked for.
    """
    # Where to measure, with how many threads, and where the results go.
    if json is not None and (json.is_dir() or json.suffix != ".json"):
        raise UserError(f"json={json}: expected the name of a .json file to write")
    chosen = choose_device(accelerator)
    devices = [torch.device("cpu"), chosen] if accelerator == "auto" and chosen.type == "cuda" else [chosen]
    counts = threads or sorted({1, num_cores()})
    machine = environment()
    name = f"{machine['cpu']}, {machine['cores']} cores, GPU {machine['gpu'] or 'none'}, torch {machine['torch']}"
    print(name)

    # Each subset on each device with each number of threads; a GPU does not care for their number.
    settings = Settings(devices[0], counts[-1], rounds, tuple(models or ()), data_root, small)
    results: dict[str, list[dict[str, Any]]] = {}
    for subset in dict.fromkeys(subsets or get_args(Subset)):
        rows: list[dict[str, Any]] = []
        try:
            for device in devices:
                for count in counts if subset in BY_THREADS and device.type == "cpu" else counts[-1:]:
                    print(f"\n{subset}, {device}, {count} thread{'s' if count > 1 else ''}")
                    with limit_threads(count):
                        measured = _measure(subset, replace(settings, device=device, threads=count))
                    rows += [{**row, "device": str(device), "threads": count} for row in measured]
        except UserError as error:
            if subsets:
                raise
            print(f"{subset}: skipped: {error}")
        else:
            results[subset] = rows
    if not small:  # tiny sizes tell nothing about the targets
        _print_missed(results)

    if json is not None:
        content = {
            **results,
            "command": " ".join(["python scripts/benchmark.py", *sys.argv[1:]]),
            "device": ", ".join(map(str, devices)),
            **code_version(),
            "environment": machine,
        }
        write_text(json, dumps(content, indent=2) + "\n")
        if "growth" in results:
            from scripts.benchmarks.growth_report import write_growth

            on_cpu = [row for row in results["growth"] if row["device"] == str(devices[0])]
            write_growth(on_cpu, f"{name}, {on_cpu[0]['threads']} threads, {on_cpu[0]['device']}", json.parent)
        print(f"written to {json}")


def _measure(subset: str, settings: Settings) -> list[dict[str, Any]]:
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


if __name__ == "__main__":
    run_script(benchmark)
