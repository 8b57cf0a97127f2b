"""Calibrate the metrics on damage of known strength: which of them may be believed for what.

    python scripts/calibrate.py [data_root=DIR] [metrics=psnr,fd_effnet_lite0] [images=N] [out=DIR]

Faces, textures and façades are blurred, made noisy, compressed, overlaid with a checkerboard and shifted in colour, at
three strengths each. Every metric whose weights are there measures them, two halves of the real images, and sets of
real images of growing size; and from the tables of results/ follows which metrics agree over all runs. Written are
calibration.json, .md and .png; nothing is trained. All of it takes about ten minutes of one core.
"""

import sys
import time
from json import dumps
from pathlib import Path
from typing import Literal, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from datasets import build_dataset
from ffl.errors import UserError
from ffl.files import report_failed_writes, write_text
from ffl.metrics import METRICS, ImageMetric, build_metric
from ffl.ranges import Count
from ffl.training.command import run_script
from ffl.training.config import Seed
from ffl.training.evaluation import check_metrics, metric_options
from ffl.training.program import compose
from ffl.training.provenance import code_version, environment
from ffl.training.record import Record
from ffl.weights import MissingWeights
from scripts.calibration.measure import BIAS_COUNTS, agreement, damage_groups, measure_set, remember_images, run_groups
from scripts.calibration.report import draw, markdown
from scripts.tables import OWN, read_records_of, table_names

SetName = Literal["celeba_64", "facades", "dtd"]


def calibrate(
    *,
    data_root: Path = Path("data"),
    cache_dir: Path = Path("outputs/cache"),
    datasets: list[SetName] | None = None,
    metrics: list[str] | None = None,
    features: str | None = None,
    images: Count = 100,
    seed: Seed = 0,
    results: Path | None = None,
    out: Path = OWN / "calibration",
) -> None:
    """Measure, print the table and write everything.

    Args:
        data_root: folder that holds one folder per data set.
        cache_dir: folder of decoded images.
        datasets: whose test images are damaged; all three by default.
        metrics: names; by default those of every task that need no label maps and whose weights are there.
        features: network of fd, kd, precision and recall: inception, effnet_lite0 or timm/<model>.
        images: of a data set that are damaged, at most; by default about as many as there are façades. Further ones
            serve to show the bias.
        seed: of the noise and of random halves.
        results: folder of the tables whose runs are compared; by default your own, and the published ones for the rest.
        out: folder to write to.
    Raises:
        UserError: naming a metric, data set or file that is not what it must be.
    """
    began = time.perf_counter()

    # Mistakes before anything is measured. A metric without weights is left out and named, unless it was asked for.
    check_metrics(metrics or [])
    usual = [name for name, kind in METRICS.items() if kind.tasks and kind.inputs != "labels"]
    names = [name for name in METRICS if name in (metrics or usual)]
    if labelled := [name for name in names if METRICS[name].inputs == "labels"]:
        raise UserError(
            f"{labelled[0]}: compares with label maps, which these images have not; leave it out of metrics"
        )
    options = metric_options(names, None, features)
    built: dict[str, ImageMetric] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            built[name] = build_metric(name, **options.get(name, {}))
        except MissingWeights as error:
            if metrics:
                raise
            missing[name] = str(error)
    protocols = {name: metric.protocol() for name, metric in built.items()}
    sets = {}
    for name in datasets or get_args(SetName):
        recipe = compose("train", [f"dataset={name}", "scale=cpu"])["dataset"]  # as in the tables
        sets[name] = build_dataset(split="test", data_root=data_root, cache_dir=cache_dir, **recipe)
        half = min(images, len(sets[name])) // 2
        if few := [metric for metric in built.values() if metric.min_images > half]:
            raise UserError(
                f"{few[0].name}: needs at least {few[0].min_images} images, and half of those of {name} are {half}; "
                f"raise images={images}, or leave {name} out of datasets or {few[0].name} out of metrics"
            )
    if results is not None and not results.is_dir():
        raise UserError(f"results={results}: no such folder; it is where scripts/reproduce.py wrote, as its out=DIR")
    if out.exists() and not out.is_dir():
        raise UserError(f"out={out}: not a folder; give another name")
    tables = [record for table in table_names() for record in read_records_of(results, "cpu", table)]
    remember_images(built)

    # The images of each data set; the first of them are damaged.
    records: list[Record] = []
    for name, dataset in sets.items():
        everything = dataset.batch(np.arange(min(len(dataset), max(images, 2 * BIAS_COUNTS[-1]))), None)["image"]
        measured = measure_set(name, everything[:images], everything[images:], built, seed)
        records += tqdm(measured, desc=name, unit="value", dynamic_ncols=True)

    # Which metrics agree, over damages and over the runs of all tables.
    records += agreement(list(built), damage_groups(records), "damages")
    records += agreement(list(built), run_groups(tables), "runs")

    # Numbers with what they depend on, a record a line; from them the table, the sentences and the figure.
    about = {
        "command": " ".join(["python scripts/calibrate.py", *sys.argv[1:]]),
        **code_version(),
        "environment": environment(),
        "seconds": round(time.perf_counter() - began, 1),
        "fingerprints": {name: dataset.fingerprint for name, dataset in sets.items()},
        "protocols": protocols,
        "missing": missing,
    }
    lines = ",\n".join(dumps(record.to_json()) for record in records)
    with report_failed_writes(out, "make room, or set out=DIR"):
        write_text(out / "calibration.json", f'{dumps(about, indent=2)[:-2]},\n  "records": [\n{lines}\n]}}\n')
        text = markdown(records, missing)
        write_text(out / "calibration.md", text)
        draw(records, out / "calibration.png")
    print(f"{text}\nwritten to {out}")


if __name__ == "__main__":
    run_script(calibrate)
