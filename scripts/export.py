"""Make a folder to hand on or upload from a run: its weights as safetensors, its configuration, a model card.

    python scripts/export.py run=DIR [checkpoint=last|best] [out=DIR]

model.safetensors   the networks that make images; no discriminator, optimiser or pretrained network of a loss
config.yaml         configuration of the run
README.md           model card: what it is, what was measured, how it was trained, how to use it
.eval_results/      the measured values for the Hugging Face Hub, one file a task

evaluate.py and sample.py take such a folder as run=DIR. Training cannot resume from it.
"""

import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from datasets import DATASETS
from ffl.errors import UserError
from ffl.files import file_sha256, report_failed_writes, write_text
from ffl.metrics import METRICS
from ffl.training.checkpoint import load_checkpoint, save_weights
from ffl.training.command import run_script
from ffl.training.config import FREE_KEYS, flatten, section_defaults
from ffl.training.evaluation import PAPER, eval_results
from ffl.training.objective import Objective
from ffl.training.program import Config
from ffl.training.record import Record, read_records
from ffl.training.run_directory import RunDirectory, config_text
from models import MODELS, load_model
from scripts.import_checkpoint import image_size
from scripts.runs import checked_config

# What folders of this machine become: the defaults of configs/train.yaml.
USUAL_FOLDERS = {"data_root": "data", "cache_dir": "outputs/cache", "output_root": "outputs"}
# Names of tasks at the Hub; the others are image-to-image.
PIPELINES = {"synthesis": "unconditional-image-generation", "segmentation": "image-segmentation"}
# Fields of model cards that hold whatever a run says; the text around them is the same for all.
CARD = """\
---
{head}---

# {title}

{what}

## Measured

{measured}

## Training

{training}

## Use

The code that this folder belongs to takes it like a run:

```
python evaluate.py run=FOLDER data_root=DIR
{sampling}```

In Python, from the root of that code:

```python
from pathlib import Path

import numpy as np
import torch

from ffl.training.trainer import to_device
from scripts.runs import open_run

run = open_run(Path("FOLDER"))  # data_root=Path("DIR") where the data set is elsewhere
batch = to_device(run.dataset.batch(np.arange(4), None), torch.device("cpu"))
images = run.model.eval().generate(batch, "{task}", seed=0)  # float (4, 3, {height}, {width}) in [-1, 1]
```

`model.safetensors` holds the weights of {networks} under the keys of the model in that code, and `config.yaml` the
arguments that build it.

## Limits

{limits}
"""


def export(*, run: Path, checkpoint: Literal["last", "best"] = "last", out: Path | None = None) -> Path:
    """Write the folder.

    Args:
        run: a run directory, of train.py or import_checkpoint.py.
        checkpoint: whose weights.
        out: the folder to make; by default outputs/export/ and the name of the run.
    Returns:
        The folder.
    Raises:
        UserError: if the run has no such checkpoint or does not tell where it comes from, or the folder is there.
    """
    # Mistakes before anything is written. That the model can be built and takes the weights is found out by doing so.
    directory = RunDirectory.open(run)
    if directory.exported.is_file():
        raise UserError(f"run={run}: was exported already; copy the folder")
    folder = out or Path("outputs/export") / run.resolve().name
    if folder.exists() or folder.is_symlink():
        raise UserError(f"out={folder}: exists already; give a new directory")
    config = checked_config(directory)
    origin = read_origin(directory)
    model, file, step = load_model(config, image_size(config), directory.weights(checkpoint))

    # The networks that generate images, as far as the run has them.
    state = load_checkpoint(file, whole=False)
    attributes = dict.fromkeys(key.partition(".")[0] for key in state["model"])
    names = [name for name in attributes if name in (model.generates_with or attributes)]
    weights = {key: value for key, value in state["model"].items() if key.partition(".")[0] in names}

    # What has been measured of these very weights, as tables take it; of each metric the newest with most images.
    sha256 = file_sha256(file)
    measured: dict[tuple[str, str], Record] = {}
    for record in sorted(read_records(directory.records), key=lambda record: record.num_images):
        of, protocol = record.provenance, record.protocol
        usual = (protocol.get("quantisation"), protocol.get("evaluation_seed")) == ("paper", 0)
        on_test = str(protocol.get("reference")).endswith(" test")
        if of.get("checkpoint_sha256") == sha256 and usual and on_test and record.metric in METRICS:
            measured[str(protocol.get("task")), record.metric] = record
    ordered = sorted(measured.items(), key=lambda item: list(METRICS).index(item[0][1]))
    by_task = {str(task): [record for (of, _), record in ordered if of == task] for task in model.tasks}
    results = {task: records for task, records in by_task.items() if any(r.value is not None for r in records)}

    # The weights last: without them nobody takes a folder that could not be finished for a whole one.
    card = model_card(directory, config, origin, step, names, results)
    with report_failed_writes(folder, "make room, or set out=DIR"):
        folder.mkdir(parents=True)
        write_text(folder / "README.md", card)
        write_text(folder / "config.yaml", config_text(portable(config)))
        for task, records in results.items():
            write_text(folder / ".eval_results" / f"{task}.yaml", eval_results(records))
        save_weights(folder / "model.safetensors", weights, names, step)

    known = ", ".join(record.metric for records in results.values() for record in records if record.value is not None)
    print(f"exported            {file}, step {'unknown' if step is None else step}")
    print(f"weights             {' and '.join(names)}, {sum(value.numel() for value in weights.values()):,} values")
    print(f"measured            {known or 'nothing yet: evaluate the run, then export it to another out=DIR'}")
    print(f"folder              {folder}")
    print(f"evaluate with       python evaluate.py run={folder}")
    return folder


def read_origin(run: RunDirectory) -> dict[str, Any]:
    """What run.json says of where a run comes from.

    Raises:
        UserError: if it is absent or says less.
    """
    path = run.path / "run.json"
    try:
        origin = dict(json.loads(path.read_text()))
        machine, command = origin["environment"], [str(word) for word in origin["command"]]
        threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
        hardware = machine["gpu"] or f"{machine['cpu']}, {threads}"
        # Folders of that machine tell others nothing: the one that the program is in, and those in its words.
        program = Path(command[1])
        name = f"scripts/{program.name}" if program.parent.name == "scripts" else program.name
        lost = FREE_KEYS | {"out", "file"}
        words = [word for word in command[2:] if word.lstrip("+~-").partition("=")[0] not in lost]
        imported = origin.get("imported")  # the official file, of a run of import_checkpoint.py
        return {
            "command": " ".join(["python", name, *words]),
            "commit": origin["commit"],
            "dirty": origin["dirty"],
            "hardware": f"{hardware}; PyTorch {machine['torch']}",
            "imported": imported and "`{file}` ({kind}, SHA-256 {sha256})".format(**imported),
        }
    except (OSError, ValueError, LookupError, TypeError):
        raise UserError(f"{path}: does not tell where the run comes from; copy it again, or train anew") from None


def portable(config: Config) -> Config:
    """A configuration without the folders of the machine that it was used on; relative ones are kept."""
    folders = {key: usual for key, usual in USUAL_FOLDERS.items() if Path(str(config.get(key, "/"))).is_absolute()}
    dataset = {
        key: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for key, value in config["dataset"].items()
    }
    return {**config, **folders, "dataset": dataset, "resume": None}


def model_card(
    run: RunDirectory,
    config: Config,
    origin: dict[str, Any],
    step: int | None,
    networks: Sequence[str],
    results: dict[str, list[Record]],
) -> str:
    """The README.md of an exported folder: Markdown below the YAML head of the Hub's model cards.

    Args:
        run: that is exported.
        config: of the run.
        origin: from ``read_origin``.
        step: of the weights.
        networks: that are exported.
        results: records of the test images by task, in the order of columns.
    """
    name, dataset = config["model"]["name"], config["dataset"]["name"]
    model, (height, width) = MODELS[name], image_size(config)
    metrics = {record.metric: None for records in results.values() for record in records if record.value is not None}
    # The images that weights were learnt from have terms of their own, whatever the licence of the code.
    head = {
        "license": "other",
        "license_name": "code-mit-images-by-their-own-terms",
        "license_link": "README.md",
        "library_name": "focal-frequency",
        "pipeline_tag": PIPELINES.get(model.tasks[0], "image-to-image"),
        "tags": ["pytorch", "focal-frequency-loss", name, *model.tasks],
        "datasets": [dataset],
        "metrics": list(metrics),
    }

    # What it is: the loss, as far as it differs from none at all.
    usual = {**section_defaults("loss", Objective), "loss.terms": []}
    chosen = {
        key: value for key, value in flatten({"loss": config.get("loss") or {}}).items() if value != usual.get(key)
    }
    loss = " ".join(f"{key}={json.dumps(value)}" for key, value in chosen.items())
    with_loss = "with" if chosen.get("loss.ffl") else "without"
    title = f"{name} on {dataset}, {height}x{width}, {with_loss} the focal frequency loss"
    if origin["imported"]:
        title = f"{name} for {dataset}, {height}x{width}, imported"
    summary = " ".join((model.__doc__ or name).split("\n\n")[0].split())
    added = (
        f"Terms added to the model's own losses: `{loss}`." if loss else "No term is added to the model's own losses."
    )
    what = [
        f"{summary} Tables are those of [Focal Frequency Loss for Image Reconstruction and Synthesis]({PAPER}) "
        "(Jiang et al., ICCV 2021), which the code reproduces.",
        "" if origin["imported"] else added,
    ]

    # What was measured: a row for each task, and below it what two halves of the real images give.
    measured = []
    for task, records in results.items():
        shown = [record for record in records if record.value is not None]
        reference = shown[0].protocol["reference"]
        cells = [(f"{shown[0].num_images:,} {task} images", [(record.metric, record.value) for record in shown])]
        if any(record.floor is not None for record in shown):
            cells.append(("two halves of the real images", [(record.metric, record.floor) for record in shown]))
        heads = [f"{METRICS[r.metric].label} {'↑' if METRICS[r.metric].higher_is_better else '↓'}" for r in shown]
        lines = [[reference, *heads], ["---"] * (len(heads) + 1)]
        lines += [[label, *(metric_text(metric, value) for metric, value in values)] for label, values in cells]
        measured.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        measured += [f"{METRICS[r.metric].label}: {r.warning}." for r in shown if r.warning]
    if measured:
        measured.append("`.eval_results/` has every digit, and the protocol of each value.")
    else:
        measured.append("Nothing yet.")

    # How it was trained.
    status = run.status()
    facts = {
        "command": f"`{origin['command']}`",
        "commit": f"{origin['commit'] or 'unknown'}{', with changes' if origin['dirty'] else ''}",
        "seed": str(config["seed"]),
        "step of these weights": "unknown" if step is None else f"{step:,}",
        "hardware": origin["hardware"],
    }
    if status is not None:
        facts["run"] = f"{status.step:,} of {status.total:,} steps, {status.images:,} images, {status.seconds:,.0f} s"
    training = ["\n".join(f"- {key}: {value}" for key, value in facts.items())]
    if origin["imported"]:
        training.insert(0, f"Trained by others, and imported from {origin['imported']}.")

    # What it is not for.
    limits = [
        f"It has seen images of `{dataset}` at {height}x{width} pixels and knows nothing of others.",
        "It was made to compare losses. Where size, epochs or images are fewer than the paper's, as with `scale=cpu`, "
        "its values are not comparable with the paper's tables.",
        "It generates only: training cannot resume from these weights alone.",
        f"The code is under the MIT licence. The images have their own terms ({DATASETS[dataset].source or dataset}), "
        "which may say what weights learnt from them may be used for.",
    ]
    if with_loss == "with" and model.tasks[0] == "reconstruction":
        limits.insert(1, "Fine detail that the loss adds is not always that of the image: see the coherence by band.")
    return CARD.format(
        head=yaml.safe_dump(head, sort_keys=False, allow_unicode=True),
        title=title,
        what="\n\n".join(textwrap.fill(text, 120, break_on_hyphens=False) for text in what if text),
        measured="\n\n".join(measured),
        training="\n\n".join(training),
        sampling="python scripts/sample.py run=FOLDER seeds=0-31\n" if name == "stylegan2" else "",
        task=model.tasks[0],
        height=height,
        width=width,
        networks=" and ".join(f"`{network}`" for network in networks),
        limits="\n".join(textwrap.fill(f"- {text}", 120, subsequent_indent="  ") for text in limits),
    )


def metric_text(metric: str, value: float | None) -> str:
    """A value in the unit and with the digits of tables; empty for None."""
    digits = METRICS[metric].digits
    return "" if value is None else f"{value * METRICS[metric].unit:.{3 if digits is None else digits}f}"


if __name__ == "__main__":
    run_script(export)
