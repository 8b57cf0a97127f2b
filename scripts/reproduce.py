"""Regenerate tables of the paper: train what is missing, resume what was cut, evaluate, write the tables.

    python scripts/reproduce.py table=N|NAME|all [scale=paper|cpu] [rows=ID,ID] [groups=ID,ID] [seeds=3] [plan=true]
                                [key=value ...]

Further key=value words are overrides for every run, as train.py takes them, such as data_root=DIR or trainer.threads=1;
slurm.KEY=VALUE are parameters of launcher=slurm, such as slurm.timeout_min=1440 slurm.gpus_per_node=1.
A run that is there is not trained again, whoever made it: train.py with the same overrides makes the same run. Several
of these commands side by side share the work. Runs on several GPUs: torchrun with the commands that plan=true prints.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffl.training.determinism import fix_instructions

if __name__ == "__main__":
    fix_instructions(sys.argv[1:])  # before the imports below: libraries read it when they are imported

import torch
import yaml

from ffl.errors import UserError
from ffl.files import report_failed_writes, write_text
from ffl.metrics import METRICS
from ffl.ranges import Count
from ffl.training.command import run_script
from ffl.training.config import Seed
from ffl.training.evaluation import metric_options
from ffl.weights import find_weights
from run_config import check
from scripts.reproduction.calls import time_calls
from scripts.reproduction.markdown import table_markdown
from scripts.reproduction.records import list_images, missing_weights, state_text, table_results, total_steps
from scripts.reproduction.work import Executor, Job, do_all, in_turn, on_cluster, side_by_side
from scripts.tables import (
    BASE_SEED,
    OWN,
    ScaleChange,
    Table,
    check_scale,
    read_results,
    read_table,
    results_path,
    row_run,
    split_overrides,
    table_names,
)


def reproduce(
    *,
    table: str | None = None,
    scale: str = "paper",
    rows: list[str] | None = None,
    groups: list[str] | None = None,
    seeds: Count = 1,
    seed: Seed = BASE_SEED,
    plan: bool = False,
    jobs: Count | None = None,
    multirun: bool = False,
    launcher: str | None = None,
    out: Path = OWN,
    **overrides: str,
) -> None:
    """Make tables from their runs, and the runs that are not there.

    Args:
        table: 1 to 11, a file of configs/table, or all for the eleven.
        scale: a file of configs/scale; cpu: fewer images, epochs, channels or pixels, as it states.
        rows: train and evaluate these rows alone; the table shows the others as far as they are there.
        groups: the same for blocks of columns.
        seeds: runs per row: that of seed and those that follow.
        seed: the first; the default is the authors'.
        plan: only print what would run, how far it is, with the data found and what is missing.
        jobs: so many runs at a time on this machine.
        multirun: also -m; as many jobs as there are GPUs, or cores where there is none.
        launcher: slurm: every run as a job of its own through submitit; local tries the same here.
        out: folder of the results; the maintainers publish with out=results.
        overrides: of train.py, for every run.
    Raises:
        UserError: naming what is wrong, before anything runs; or why not one of the runs could be made.
    """
    began = time.perf_counter()

    # What is asked for. Every mistake is found before anything runs.
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("reproduce.py is one process: give the commands that plan=true prints to torchrun, then run it")
    if table is None:
        raise UserError(f"no table given; table=all or one of {', '.join(table_names())}")
    names = [name for name in table_names() if name.startswith("table")] if table == "all" else [table]
    tables = [read_table(name) for name in names]
    for key, ids in {"rows": rows, "groups": groups}.items():
        if table == "all" and ids is not None:
            raise UserError(f"{key}: goes with one table, not with table=all")
    check_scale(scale)
    if launcher not in (None, "slurm", "local"):
        raise UserError(f"launcher={launcher}: expected slurm or local")
    parameters = {key: value for key, value in overrides.items() if key.startswith("slurm.")}
    try:
        cluster = {key.removeprefix("slurm."): yaml.safe_load(value) for key, value in parameters.items()}
    except yaml.YAMLError:
        given_values = " ".join(f"{key}={value}" for key, value in parameters.items())
        raise UserError(f"{given_values}: expected numbers or words, such as slurm.timeout_min=60") from None
    if cluster and launcher is None:
        raise UserError("slurm.…: goes with launcher=slurm")
    words = [f"{key}={value}" for key, value in overrides.items() if key not in parameters]
    given = split_overrides(words)
    for content in tables:
        # An override for all runs must not touch what makes one row differ from another.
        of_rows = [override for row in content.rows.values() for run in row.runs.values() for override in run]
        change = content.scales.get(scale, ScaleChange())
        of_scale = [*change.add, *(override for added in change.rows.values() for override in added)]
        own = split_overrides([*of_rows, *of_scale]).keys() | {"resume", "name"}
        if reserved := [key for key in given if key in own]:
            raise UserError(f"{reserved[0]}={given[reserved[0]]}: set by the table")

    # The runs of the chosen cells. Rows of several tables share runs; each gets all metrics that any table shows.
    seed_range = range(seed, seed + seeds)
    wanted: dict[str, Job] = {}
    for content in tables:
        for row in choose(content.name, "rows", list(content.rows), rows):
            for group in choose(content.name, "groups", list(content.groups), groups):
                for number in seed_range:
                    if (run := row_run(content, row, group, scale, words, number)) is None:
                        continue
                    # Checked once for each run, since tables share most of theirs.
                    if run.name not in wanted:
                        check(run.config)
                        wanted[run.name] = Job(run)
                    columns = content.groups[group]
                    metrics = wanted[run.name].metrics.setdefault(columns.task, [])
                    metrics += [metric for metric in columns.all_metrics if metric not in metrics]
    if plan:
        print(plan_text(list(wanted.values())))
        return

    # Train and evaluate what is not there yet.
    # One run after the other uses a machine well, since each uses all its cores or its GPU.
    execute: Executor = in_turn
    if multirun and jobs is None:
        jobs = torch.cuda.device_count() or os.cpu_count() or 1
    if launcher is not None:
        execute = on_cluster(launcher, Path(given.get("output_root", "outputs")) / ".jobs", cluster)
    elif jobs is not None and jobs > 1:
        execute = side_by_side(jobs)
    reasons = do_all(list(wanted.values()), execute)

    # The records of all runs of the tables, also of those that were made before or elsewhere.
    results = []
    for content in tables:
        file = results_path(out, scale, content).with_suffix(".json")
        earlier = read_results(file).records if file.is_file() else []
        results.append(table_results(content, scale, words, seed_range, reasons, earlier))
        # Times of several machines would not compare: all rows of a table are timed here and now.
        if content.time_calls:
            results[-1].records.extend(time_calls(content, scale, words))
    if not any(record.metric != "training" for result in results for record in result.records):
        raise UserError(next(iter(reasons.values()), "none of the rows is there"))
    for content, result in zip(tables, results, strict=True):
        path, markdown = results_path(out, scale, content), table_markdown(content, result)
        with report_failed_writes(path.parent, "set out=DIR; the runs are kept"):
            write_text(path.with_suffix(".json"), result.to_json())
            write_text(path.with_suffix(".md"), markdown)
        print(f"\n{markdown}\nwritten to {path}.md and .json")
        if content.figure == "comparison":
            draw_comparison(content, scale, words, seed, path.with_name("comparison.png"))
    print(f"{time.perf_counter() - began:.0f} s in all")


def choose(table: str, key: str, known: list[str], ids: list[str] | None) -> list[str]:
    """Those of a table's ``known`` ids that are asked for, in the table's order; all for None.

    Raises:
        UserError: for an id that the table lacks.
    """
    for item in ids or ():
        if item not in known:
            raise UserError(f"{key}={item}: {table} has no such {key[:-1]}; its {key} are {', '.join(known)}")
    return [item for item in known if ids is None or item in ids]


def plan_text(jobs: list[Job]) -> str:
    """What would run: how far each run is, the data found, what is missing, and the commands by hand."""
    lines: list[tuple[str, str, str]] = [("run", "state", "steps left")]
    data: dict[str, str] = {}
    problems: dict[str, list[str]] = {}
    for run in (job.run for job in jobs):
        directory, config = run.find(), run.config
        status = None if directory is None else directory.status()
        left = None if status is None else status.total - status.step
        try:
            # Files are listed and none is decoded, so that a plan is there in seconds.
            listing = list_images(config)
            splits = {} if listing is None else listing.splits
            data[config["dataset"]["name"]] = ", ".join(f"{len(v):,} {k}" for k, v in splits.items()) or "embedded"
            left = total_steps(config) if left is None else left
            # Networks that losses of the models look through.
            model, loss = config["model"], config["loss"]
            if loss["perceptual"] and left:
                find_weights(loss["perceptual_network"], verify=False)
            if model.get("vgg_weight") and left:
                find_weights(model["vgg_network"], verify=False)
        except UserError as error:
            data.setdefault(config["dataset"]["name"], "nothing")
            problems.setdefault(str(error), []).append(run.name)
        lines.append((run.name, state_text(directory), "?" if left is None else f"{left:,}"))
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    text = [f"{name:<{widths[0]}}  {state:<{widths[1]}}  {left}" for name, state, left in lines]
    text += ["", "Data found", *(f"  {name}: {found}" for name, found in sorted(data.items()))]
    text += ["", "Cannot be trained here"] if problems else []
    text += [f"  {problem}\n    {', '.join(names)}" for problem, names in problems.items()]
    # Metrics whose networks are not there.
    unmeasured: dict[str, dict[str, None]] = {}
    for job in jobs:
        for metrics in job.metrics.values():
            dataset, runs = job.run.config["dataset"], Path(job.run.config["output_root"])
            options = metric_options(metrics, dataset["name"], height=dataset["image_size"], runs=runs)
            for name in metrics:
                if reason := missing_weights(name, **options.get(name, {})):
                    unmeasured.setdefault(reason, {})[METRICS[name].label] = None
    text += ["", "Cannot be measured here"] if unmeasured else []
    text += [f"  {reason}\n    {', '.join(labels)}" for reason, labels in unmeasured.items()]
    text += ["", "Commands: what is not finished is made by reproduce.py, or by hand and then found"]
    return "\n".join([*text, *(f"  {job.run.command}" for job in jobs)])


def draw_comparison(table: Table, scale: str, overrides: list[str], seed: int, path: Path) -> None:
    """Real and generated images side by side, of the runs of one seed that are there."""
    from scripts.figures.comparison import comparison  # matplotlib, which plans and clusters need not wait for

    # The labels of a row say how it differs from the others, the last one whether FFL is on.
    *heads, _ = table.labels
    differ = [len({row.labels[column] for row in table.rows.values()}) > 1 for column in range(len(heads))]
    found = {}
    for row, content in table.rows.items():
        *labels, ffl = content.labels
        others = [f"{head} {label}" for head, label, shown in zip(heads, labels, differ, strict=True) if shown]
        for group in content.runs:
            run = row_run(table, row, group, scale, overrides, seed)
            if run is not None and (directory := run.find()) is not None:
                found["\n".join([f"{ffl} FFL", *others])] = directory
    comparison(list(found.values()), list(found), path)


def table_list() -> str:
    """The tables that there are, with their rows and groups."""
    tables = {name: read_table(name) for name in table_names()}
    return "\n".join(
        f"{name}: {table.title}\n    rows: {', '.join(table.rows)}\n    groups: {', '.join(table.groups)}"
        for name, table in tables.items()
    )


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv):
        __doc__ += f"\n{table_list()}\n"
    run_script(reproduce)
