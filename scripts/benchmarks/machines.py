"""What a change of machine makes of the metrics of a trained model, beside what a change of seed makes.

The runs of ``make reproduce``, each with one seed on this machine and on those that ``determinism`` imitates, and on
this machine with other seeds. Spreads are standard deviations. All are evaluated here.
"""

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ffl.errors import UserError
from scripts.benchmarks.determinism import HERE, MACHINES, run_python
from scripts.benchmarks.timing import Conditions
from scripts.tables import BASE_SEED, read_table

TABLES = {"ae": "photos", "vae": "photos_vae"}
ROWS = ("photos_without", "photos_with")
METRICS = ("psnr", "ssim", "stlpips_alex", "spectrum_distance")


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """One row per run of the tables: each metric by machine and by seed, and both spreads."""
    if conditions.device.type != "cpu":
        raise UserError("machines are imitated for the CPU alone; set accelerator=cpu")
    seeds = [BASE_SEED + 1 + number for number in range(len(MACHINES))]
    for model in [model for model in TABLES if model in conditions.models]:
        for row in ROWS:
            words = [*read_table(TABLES[model]).rows[row].runs["reconstruction"]]
            words += ["trainer.steps=2"] if conditions.small else []
            here = evaluate([*words, f"seed={BASE_SEED}"], HERE)
            by_machine = {"here": here}
            by_machine |= {name: evaluate([*words, f"seed={BASE_SEED}"], how) for name, how in MACHINES.items()}
            by_seed = {str(BASE_SEED): here} | {str(seed): evaluate([*words, f"seed={seed}"], HERE) for seed in seeds}
            yield {
                "model": model,
                "row": row,
                "machines": by_machine,
                "seeds": by_seed,
                "spread_over_machines": spread(by_machine),
                "spread_over_seeds": spread(by_seed),
            }
            if conditions.small:
                return


def evaluate(words: list[str], variables: dict[str, str]) -> dict[str, float]:
    """The metrics of a run that is trained with these words, by a process with these environment variables."""
    with tempfile.TemporaryDirectory() as outputs:
        place = [f"output_root={outputs}", f"cache_dir={outputs}/cache"]
        run_python(["train.py", *words, *place, "name=run", "trainer.accelerator=cpu"], variables)
        metrics = f"metrics=[{','.join(METRICS)}]"
        run_python(["evaluate.py", f"run={outputs}/run", place[1], metrics, "accelerator=cpu"], HERE)
        measured = json.loads((Path(outputs) / "run" / "metrics.json").read_text())
    return {name: measured[name] for name in METRICS}


def spread(values: dict[str, dict[str, float]]) -> dict[str, float]:
    """The standard deviation of each metric."""
    return {name: statistics.stdev(measured[name] for measured in values.values()) for name in METRICS}
