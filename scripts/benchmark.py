"""Measure speed and memory, beside the authors' code and other packages.

    python scripts/benchmark.py [SUBSET ...] [key=value ...]

loss        forward and backward, beside the authors' package and one pair of transforms; peak memory
losses      the losses of other papers, beside the way in which their authors compute them
overhead    what it adds to a training step of a model at the paper's size (Appendix B.2)
throughput  the autoencoder on CelebA (data_root) end to end, beside the authors' recipe, rewritten
metrics     PSNR, SSIM, LFD, Fréchet distance and the networks of metrics, beside what others use
data        images per second from the cache, of files and of pixels, beside a DataLoader that decodes
gpu         loss and steps in fp32, tf32, bf16 and fp16, channels last, compiled, as graphs: on a GPU alone
bf16        training steps in bfloat16 on a processor, beside float32
floor       training steps of StyleGAN2 and SPADE, beside their convolutions alone
determinism what another processor, imitated, changes, without and with trainer.deterministic
machines    what that makes of the metrics of trained models, beside what a change of seed makes
peers       whole training steps, beside public implementations checked out below peers=DIR
growth      cost against image size, batch and data set size; with json=FILE also growth.png and growth.md beside it

No subset: all of them. Peers are measured in the same process in turn; pip install '.[bench]' installs them. Measured
are the CPU and, where there is one, the GPU. Printed are medians over the rounds and whether each target holds.
"""

import importlib
import os
import sys
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
from scripts.benchmarks.rows import describe_row, describe_target
from scripts.benchmarks.timing import Conditions, limit_threads, num_cores

Subset = Literal[
    "loss",
    "losses",
    "overhead",
    "throughput",
    "metrics",
    "data",
    "gpu",
    "bf16",
    "floor",
    "determinism",
    "machines",
    "peers",
    "growth",
]
ModelName = Literal["ae", "vae", "pix2pix", "stylegan2", "spade"]
BY_THREADS = ("loss", "losses", "metrics", "peers")  # what they are compared with may gain less or more by threads


def main(
    *subsets: Subset,
    rounds: Count | None = None,
    threads: list[Annotated[int, Range(1, 1024)]] | None = None,
    accelerator: Accelerator = "auto",
    models: list[ModelName] | None = None,
    data_root: Path = Path("data"),
    peers: Path | None = None,
    small: bool = False,
    json: Path | None = None,
) -> None:
    """Measure, print and perhaps write the results.

    Args:
        subsets: what to measure; without any everything, but for what lacks its data or packages.
        rounds: repetitions, each of which measures all that is compared; else each subset has its number.
        threads: torch's thread counts on the CPU, such as 1,2; else 1 and all cores. Losses, metrics and peers are
            measured with each in turn, the other subsets with the last.
        accelerator: auto is the CPU and, where there is one, the GPU.
        models: to measure, of those that a subset has.
        data_root: folder that holds one folder per data set.
        peers: folder of checkouts of public implementations, under the names of their repositories.
        small: tiny sizes, to see that everything runs.
        json: file to write the results to, after each case, so that a run that is stopped keeps those it has.
    Raises:
        UserError: naming what is wrong, or what a subset lacks that was asked for.
    """
    # Refuse at once what could not be written after an hour of measuring.
    if json is not None:
        if json.is_dir() or json.suffix != ".json":
            raise UserError(f"json={json}: expected the name of a .json file to write")
        json.parent.mkdir(parents=True, exist_ok=True)

    # Numbers are kept with the machine, the code and the command that they depend on.
    chosen = choose_device(accelerator)
    devices = [torch.device("cpu"), chosen] if accelerator == "auto" and chosen.type == "cuda" else [chosen]
    counts = threads or sorted({1, num_cores()})
    machine = environment()
    name = f"{machine['cpu']}, {machine['cores']} cores, GPU {machine['gpu'] or 'none'}, torch {machine['torch']}"
    print(name)
    about = {
        "command": " ".join(["python scripts/benchmark.py", *sys.argv[1:]]),
        "device": ", ".join(map(str, devices)),
        **code_version(),
        "environment": machine,
    }

    # Measure each subset on each device with each number of threads, which makes no difference to a GPU.
    results: dict[str, list[dict[str, Any]]] = {}
    for subset in dict.fromkeys(subsets or get_args(Subset)):
        try:
            measure = importlib.import_module(f"scripts.benchmarks.{subset}").measure
            for device in devices:
                conditions = Conditions(device, tuple(models or get_args(ModelName)), rounds, data_root, small, peers)
                for count in counts if subset in BY_THREADS and device.type == "cpu" else counts[-1:]:
                    print(f"\n{subset}, {device}, {count} thread{'s' if count > 1 else ''}")
                    with limit_threads(count):
                        for row in measure(conditions):
                            print(describe_row(row), flush=True)
                            results.setdefault(subset, []).append({**row, "device": str(device), "threads": count})
                            if json is not None:
                                write_text(json, dumps({**results, **about, "unfinished": True}, indent=2) + "\n")
        except (UserError, ModuleNotFoundError) as error:
            # A subset that was named has to be measured. Without names, what cannot be measured is left out.
            if isinstance(error, ModuleNotFoundError):
                error = UserError(f"{subset} needs the package {error.name}: pip install '.[bench]'")
            if subsets:
                raise error from None
            print(f"{subset}: skipped: {error}")

    # Repeat what a reader looks for first: the missed targets. Tiny sizes tell nothing about them.
    if not small:
        targets = [
            (subset, row, item) for subset in results for row in results[subset] for item in row.get("targets", [])
        ]
        missed = [(subset, row, target) for subset, row, target in targets if not target["holds"]]
        print(f"\n{len(targets) - len(missed)} of {len(targets)} targets hold")
        for subset, row, target in missed:
            what = [str(row[key]) for key in ("shape", "patch_factor", "model", "metric", "epochs") if key in row]
            average = " average" if row.get("ave_spectrum") else ""
            where = f"{row['device']}, {row['threads']} threads"
            print(f"missed: {subset} {' '.join(what)}{average}, {where}: {describe_target(target)}")

    if json is not None:
        write_text(json, dumps({**results, **about}, indent=2) + "\n")
        if "growth" in results:
            from scripts.benchmarks.growth_report import write_growth

            rows = [row for row in results["growth"] if row["device"] == str(devices[0])]
            write_growth(rows, f"{name}, {counts[-1]} threads, {devices[0]}", json.parent)
        print(f"written to {json}")


if __name__ == "__main__":
    run_script(main)
