"""What a call of each row's losses costs, so that a table of losses tells their price beside what they bring."""

from datetime import datetime, timezone
from functools import partial

import torch
from torch import Tensor

from ffl.errors import UserError
from ffl.training.objective import Objective
from ffl.training.provenance import code_version, environment
from ffl.training.record import Record
from ffl.training.trainer import choose_device
from scripts.benchmarks.timing import Action, alternate, differentiate, limit_threads, num_cores
from scripts.import_checkpoint import image_size
from scripts.tables import Table, row_run

ROUNDS = 5


def time_calls(table: Table, scale: str, overrides: list[str]) -> list[Record]:
    """A ``call`` record of every row and group whose run adds losses to those of its model.

    Its value is the median of the seconds that these losses take forward and backward, at the batch and the image size
    of the run, with its number of threads. The rows of a group are timed in one process and in turn.

    Args:
        table: from ``read_table``.
        scale: a choice of configs/scale.
        overrides: further ones, for every run alike.
    """
    records = []
    for group in table.groups:
        # Losses whose networks are not here have no time; the table says already what they need.
        actions: dict[str, Action] = {}
        found = {row: run for row in table.rows if (run := row_run(table, row, group, scale, overrides)) is not None}
        for row, run in found.items():
            config = run.config
            device = choose_device(config["trainer"]["accelerator"])
            shape = config["trainer"]["batch_size"], 3, *image_size(config)
            try:
                objective = Objective(**{**config["loss"], "share": None, "start_step": 0}).to(device)
            except UserError:
                continue
            generator = torch.Generator().manual_seed(0)
            fake, real = (2 * torch.rand(shape, generator=generator).to(device) - 1 for _ in range(2))
            if objective(fake, real, {}):
                actions[row] = partial(differentiate, partial(_added, objective), fake.requires_grad_(), real)
        if not actions:
            continue

        # Rows differ in their losses alone, so that the first run tells shape and threads of all.
        threads = next(iter(found.values())).config["trainer"]["threads"] or num_cores()
        with limit_threads(threads):
            times = alternate(actions, ROUNDS, device)
        utc = datetime.now(timezone.utc).isoformat(timespec="seconds")
        for row in actions:
            config = found[row].config
            provenance = {
                "row": row,
                "group": group,
                "model": config["model"]["name"],
                "dataset": config["dataset"]["name"],
                "seed": config["seed"],
                **code_version(),
                "environment": environment(),
            }
            protocol = {"shape": list(shape), "threads": threads, "rounds": ROUNDS}
            records.append(Record("call", times.seconds(row), shape[0], protocol, provenance, utc))
    return records


def _added(objective: Objective, fake: Tensor, real: Tensor) -> Tensor:
    """The sum of the losses that an objective adds to a model's own."""
    return torch.stack(list(objective(fake, real, {}).values())).sum()
