"""Train a model with or without the focal frequency loss: python train.py [key=value ...], see --help."""

import sys

from ffl.training.determinism import fix_instructions
from ffl.training.words import answer_at_once

if __name__ == "__main__":
    answer_at_once("train")  # before the imports below: they take seconds, which a typing error need not wait for
    fix_instructions(sys.argv[1:])  # which libraries read when they are imported

from pathlib import Path
from typing import Any

import torch

from datasets import NoSplit, build_dataset
from ffl.training import distributed
from ffl.training.config import TrainerConfig
from ffl.training.loader import Loader
from ffl.training.objective import Objective
from ffl.training.program import Config, run_program
from ffl.training.randomness import seed_weights
from ffl.training.run_directory import RunDirectory, find_run, run_name
from ffl.training.trainer import Trainer, TrainingSummary, choose_device
from models import build_model
from run_config import check, defaults


def train(config: Config, overrides: list[str]) -> RunDirectory:
    """Train one run, or finish one that was cut.

    Args:
        config: composed from configs/train.yaml, and found right by ``run_config.check``.
        overrides: the command line it came from, for the run's name.
    Returns:
        The run's directory.
    """
    trainer_config = TrainerConfig(**config["trainer"])
    device = choose_device(trainer_config.accelerator)
    with distributed.join_processes(device, "The same command with resume=auto continues"):
        # Process 0 looks for the run, so that all decide alike.
        run = distributed.on_main(lambda: find_run(config, overrides, defaults(config)))

        # Everything is built before a directory is made, so that a mistake which shows here leaves nothing behind.
        with distributed.share_errors():
            # Before the seed: whether a loss is on must not change the initial weights.
            objective = Objective(**config["loss"])
            folders: dict[str, Any] = {"data_root": Path(config["data_root"]), "cache_dir": Path(config["cache_dir"])}
            dataset = build_dataset(split="train", **folders, **config["dataset"])
            try:
                validation = build_dataset(split="val", **folders, **config["dataset"])
            except NoSplit:  # the paper's data sets have none: best.pt is then last.pt
                validation = None
            # Shards are numbered through all processes, which take them in turn: process 0 of 2 has shards 0, 2, ...
            rank, world_size = distributed.rank(), distributed.world_size()
            num_shards = world_size * trainer_config.accumulate
            shards = list(range(rank, num_shards, world_size))
            loader = Loader(dataset, trainer_config.batch_size, config["seed"], num_shards, shards)
            objective.check_image_size(*dataset.image_size)
            # All processes draw the same initial weights, so that none needs to be sent.
            seed_weights(config["seed"])
            model = build_model(**config["model"], image_size=dataset.image_size, objective=objective)
            trainer = Trainer(model, loader, validation, trainer_config, config["seed"])

        # Two commands must not write into one run: the lock is held until this one is through.
        if run is None:
            root, name = Path(config["output_root"]), run_name(config, overrides)
            run = distributed.on_main(lambda: RunDirectory.create(root, name, config))
        distributed.on_main(run.lock)
        try:
            trainer.resume(run)
            done, total = trainer.start, trainer.total_steps
            if rank == 0 and trainer_config.deterministic:
                print(f"deterministic: CPU threads {torch.get_num_threads()}, AVX2, MKL without choice of instructions")
            if rank == 0 and 0 < done < total:
                print(f"resuming {run.path} at step {done} of {total}")
            summary = trainer.fit(run) if done < total else None
        finally:
            if rank == 0:
                run.unlock()

        # The command that comes next stands in the output, so that nobody has to look it up.
        if rank == 0:
            if summary is None:
                print(f"{run.path} is finished already ({done} steps)")
            else:
                print_summary(run, summary)
            print(f"evaluate with       python evaluate.py run={run.path}")
    return run


def print_summary(run: RunDirectory, summary: TrainingSummary) -> None:
    """Say how the run ended, and where everything is."""
    print(f"\ntrained {summary.step} steps, {summary.images} images, in {summary.seconds:.0f} s")
    for name, value in summary.losses.items():
        share = summary.gradient_share.get(name)
        pull = "" if share is None else f"   {share:.1%} of the gradient at the generator's output"
        print(f"  {name:<28} {value:.5g}{pull}")
    for name, weight in summary.loss_weight.items():
        print(f"  {f'weight of {name}':<28} {weight:.5g}, which loss.share has found")
    if summary.best_error is not None:
        print(f"  {'best validation error':<28} {summary.best_error:.5g}")
    print(f"run directory       {run.path}")
    print(f"checkpoints         {run.last}, {run.best.name}")
    print(f"samples             {run.samples}")
    print(f"curves              tensorboard --logdir {run.path.parent}")


if __name__ == "__main__":
    run_program("train", train, check)
