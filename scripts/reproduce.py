"""Regenerate tables of the paper: train what is missing, resume what was cut, evaluate, write results/.

    python scripts/reproduce.py table=N|NAME|all [scale=paper|cpu] [rows=ID,ID] [groups=ID,ID] [seeds=3] [plan=true]
                                [key=value ...]

table     1 to 11, a file of configs/table, or all for the eleven
scale     cpu: fewer images, epochs, channels or pixels, as configs/scale states
rows      train and evaluate these rows alone; the table shows the others as far as they are there
groups    the same for blocks of columns
seeds     runs per row: seed=1112 (or the one given), and those that follow
plan      true: only print what would run, with the data found, hours here and GPU hours at the paper's scale
jobs      so many runs at a time on this machine; -m for one per GPU, or per core where there is none
launcher  slurm: every run as a job of its own through submitit, with slurm.KEY=VALUE for its parameters, such as
          slurm.timeout_min=1440 slurm.gpus_per_node=1 slurm.slurm_partition=NAME; local tries the same here
out       folder of the results, default results

Further key=value words are overrides for every run, as train.py takes them, such as data_root=DIR or trainer.threads=1.
A run that is there is not trained again, whoever made it: train.py with the same overrides makes the same run. Several
of these commands side by side share the work. Runs on several GPUs: torchrun with the commands that plan=true prints.
"""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import yaml
from tqdm import tqdm

from ffl.errors import UserError
from ffl.files import failed_writes, write_text
from ffl.training.program import CONFIG_DIR, run_script
from scripts.reproduction.markdown import table_markdown
from scripts.reproduction.plan import estimate, plan_text
from scripts.reproduction.report import Settings, has_values, table_results
from scripts.reproduction.runs import BASE_SEED, Run, row_run, split_overrides
from scripts.reproduction.work import Executor, Job, do_all, in_turn, on_cluster, side_by_side
from scripts.tables import Group, Selection, Table, read_table, results_path, select, table_names
from train import check as check_train

OWN_KEYS = {"table", "scale", "rows", "groups", "seeds", "seed", "plan", "jobs", "launcher", "out"}
# Set by the program for every run.
RESERVED = {"resume", "name"}


@dataclass(frozen=True)
class Request:
    """The command line.

    Attributes:
        tables: to make, with the rows and groups to work on.
        settings: what all runs share.
        plan: whether only to say what would run.
        jobs: runs at a time.
        launcher: "slurm" or "local" for submitit, None for this process and its children.
        cluster: parameters of submitit.
        out: folder of the results.
    """

    tables: list[Selection]
    settings: Settings
    plan: bool = False
    jobs: int = 1
    launcher: str | None = None
    cluster: dict[str, Any] = field(default_factory=dict)
    out: Path = Path("results")


def parse(arguments: list[str]) -> Request:
    """Read the command line.

    Raises:
        UserError: naming the word that is wrong.
    """
    flags = [item for item in arguments if item in ("-m", "--multirun")]
    words = [item for item in arguments if item not in flags]
    if malformed := [item for item in words if "=" not in item]:
        raise UserError(f"cannot read {malformed[0]}; expected key=value, such as table=1")
    own = {key: value for key, _, value in (item.partition("=") for item in words) if key in OWN_KEYS}
    cluster = {
        key.removeprefix("slurm."): yaml.safe_load(value)
        for key, _, value in (item.partition("=") for item in words)
        if key.startswith("slurm.")
    }
    overrides = [item for item in words if item.partition("=")[0] not in OWN_KEYS and not item.startswith("slurm.")]
    if "table" not in own:
        raise UserError(f"no table given; table=all or one of {', '.join(table_names())}")
    names = [name for name in table_names() if name.startswith("table")] if own["table"] == "all" else [own["table"]]
    tables = [read_table(name) for name in names]
    parts = {key: own[key].split(",") if key in own else None for key in ("rows", "groups")}
    if own["table"] == "all" and (given := [key for key in parts if key in own]):
        raise UserError(f"{given[0]}: goes with one table, not with table=all")
    selections = [select(table, **parts) for table in tables]
    scale = own.get("scale", "paper")
    if scale not in (scales := sorted(path.stem for path in (CONFIG_DIR / "scale").glob("*.yaml"))):
        raise UserError(f"scale={scale}: expected one of {', '.join(scales)}")
    for table in tables:
        _refuse_set(table, scale, overrides)
    if (launcher := own.get("launcher")) not in (None, "slurm", "local"):
        raise UserError(f"launcher={launcher}: expected slurm or local")
    if cluster and launcher is None:
        raise UserError("slurm.…: goes with launcher=slurm")
    base_seed, num_seeds = (
        _number("seed", own.get("seed", str(BASE_SEED)), 0),
        _number("seeds", own.get("seeds", "1"), 1),
    )
    settings = Settings(scale, overrides, base_seed, num_seeds)
    at_a_time = str(torch.cuda.device_count() or os.cpu_count() or 1) if flags else "1"
    return Request(
        selections,
        settings,
        _flag("plan", own.get("plan", "false")),
        _number("jobs", own.get("jobs", at_a_time), 1),
        launcher,
        cluster,
        Path(own.get("out", "results")),
    )


def _refuse_set(table: Table, scale: str, overrides: list[str]) -> None:
    """Refuse overrides of what the table itself sets."""
    given = split_overrides(overrides)
    own = {key for row in table.rows.values() for items in row.runs.values() for key in split_overrides(items)}
    own |= split_overrides(table.scales[scale].add).keys() if scale in table.scales else set()
    if reserved := [key for key in given if key in own | RESERVED]:
        raise UserError(f"{reserved[0]}={given[reserved[0]]}: set by the table")


def _number(key: str, value: str, least: int) -> int:
    if not value.isdecimal() or int(value) < least:
        raise UserError(f"{key}={value}: expected a whole number, {least} or more")
    return int(value)


def _flag(key: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise UserError(f"{key}={value}: expected true or false")
    return value == "true"


def wanted_runs(request: Request) -> Iterator[tuple[Run, Group, Run]]:
    """The run of each cell of the chosen rows and each seed, the columns it fills, and the run at the paper's scale."""
    for part in request.tables:
        table = part.table
        for row in part.rows:
            for group in (group for group in table.rows[row].runs if group in part.groups):
                for seed in request.settings.seeds:
                    run, paper_run = request.settings.run(table, row, group, seed), row_run(table, row, group)
                    assert run is not None
                    assert paper_run is not None
                    yield run, table.groups[group], paper_run


def jobs_of(request: Request) -> list[Job]:
    """The distinct runs, each with all that the tables want to know of it.

    Raises:
        UserError: for a run that train.py would refuse.
    """
    jobs: dict[str, Job] = {}
    for run, group, _ in wanted_runs(request):
        if run.name not in jobs:
            check_train(run.config)
            jobs[run.name] = Job(run)
        metrics = jobs[run.name].metrics.setdefault(group.task, [])
        metrics += [name for name in group.columns if name not in metrics]
    return list(jobs.values())


def plan(request: Request) -> str:
    """What would run, as text."""
    jobs_of(request)  # every mistake first
    distinct = {run.name: (run, paper_run) for run, _, paper_run in wanted_runs(request)}
    estimates = []
    for run, paper_run in tqdm(distinct.values(), desc="planning", unit="run", dynamic_ncols=True):
        estimates.append(estimate(run, paper_run))
    return plan_text(estimates)


def executor(request: Request) -> Executor:
    """What does the jobs."""
    if request.launcher is not None:
        roots = split_overrides(request.settings.overrides)
        folder = Path(roots.get("output_root", "outputs")) / ".jobs"
        return on_cluster(request.launcher, folder, request.cluster)
    return in_turn if request.jobs == 1 else side_by_side(request.jobs)


def reproduce(arguments: list[str]) -> None:
    """The program; ``arguments`` are its words."""
    began = time.perf_counter()
    request = parse(arguments)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("reproduce.py is one process: give the commands that plan=true prints to torchrun, then run it")
    if request.plan:
        print(plan(request))
        return
    reasons = do_all(jobs_of(request), executor(request))
    settings = replace(request.settings, reasons=reasons)
    contents = [(part.table, table_results(part.table, settings)) for part in request.tables]
    if not any(has_values(content) for _, content in contents):
        raise UserError(next(iter(reasons.values()), "none of the rows is there"))
    for table, content in contents:
        path = results_path(request.out, settings.scale, table)
        markdown = table_markdown(table, content)
        with failed_writes(path.parent, "set out=DIR; the runs are kept"):
            write_text(path.with_suffix(".json"), content.to_json())
            write_text(path.with_suffix(".md"), markdown)
        print(f"\n{markdown}\nwritten to {path}.md and .json")
        if table.figure == "comparison":
            _comparison(table, settings, path.with_name("comparison.png"))
    print(f"{time.perf_counter() - began:.0f} s in all")


def _comparison(table: Table, settings: Settings, path: Path) -> None:
    """Real and generated images side by side, of the first seed's runs."""
    from scripts.figure import comparison

    runs = [
        (row, run.find())
        for row in table.rows
        for group in table.rows[row].runs
        if (run := settings.run(table, row, group, settings.base_seed)) is not None
    ]
    found = [(row, directory) for row, directory in runs if directory is not None]
    labels = [f"{table.rows[row].labels[-1]} FFL" for row, _ in found]
    comparison([directory for _, directory in found], labels, path)


def table_list() -> str:
    """The tables that there are, with their rows and groups."""
    tables = {name: read_table(name) for name in table_names()}
    return "\n".join(
        f"{name:<10}{table.title}\n{'':<10}rows: {', '.join(table.rows)}\n{'':<10}groups: {', '.join(table.groups)}"
        for name, table in tables.items()
    )


if __name__ == "__main__":
    run_script(reproduce, __doc__, table_list)
