"""Train a model with or without the focal frequency loss: python train.py [key=value ...], see --help."""

import re
from pathlib import Path
from typing import Any

from datasets import DATASETS, NoSplit, build_dataset
from ffl.errors import UserError
from ffl.training import distributed
from ffl.training.config import Seed, TrainerConfig, check_section, section_defaults
from ffl.training.loader import Loader
from ffl.training.objective import Objective
from ffl.training.program import Config, run_program
from ffl.training.randomness import seed_weights
from ffl.training.run_directory import RunDirectory, find_run, run_name
from ffl.training.trainer import Outcome, Trainer, choose_device
from models import MODELS, build_model

SECTIONS = {"model", "dataset", "loss", "trainer", "recipe"}


def check_program(
    seed: Seed,
    data_root: str,
    cache_dir: str,
    output_root: str,
    name: str | int | None = None,
    resume: str | None = None,
) -> None:
    """The top-level keys of configs/train.yaml, with their types."""
    if name is not None and (not re.fullmatch(r"[\w.+-]{1,120}", str(name)) or str(name) in (".", "..")):
        raise UserError(
            f"name={name}: must be the name of one directory: letters, digits and ._+-, 120 characters at most"
        )


def check(config: Config) -> None:
    """Find every mistake in a config before any data is read.

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    top = {key: value for key, value in config.items() if key not in SECTIONS}
    check_section("", top, check_program, provided=set())
    check_program(**top)
    for section, registry in (("model", MODELS), ("dataset", DATASETS)):
        chosen = dict(config[section])
        if (name := chosen.pop("name", None)) not in registry:
            raise UserError(f"{section}.name={name}: expected one of {', '.join(sorted(registry))}")
        check_section(
            section,
            chosen,
            registry[name],
            provided={"image_size", "objective"} if section == "model" else PROVIDED,
        )
    _check_inputs(config)
    check_section("loss", config["loss"], Objective, provided=set())
    check_section("trainer", config["trainer"], TrainerConfig, provided=set())
    _check_switches(config["model"]["name"], TrainerConfig(**config["trainer"]))
    _check_losses(config)


def _check_inputs(config: Config) -> None:
    """Refuse a data set that lacks what the model trains on."""
    options = {key: value for key, value in config["dataset"].items() if key != "name"}
    model, dataset = config["model"]["name"], config["dataset"]["name"]
    inputs = MODELS[model].inputs
    if lacking := inputs - DATASETS[dataset].provides(**options):
        fitting = [name for name, other in DATASETS.items() if inputs <= other.provides(pairs=True, label_levels=8)]
        raise UserError(
            f"dataset={dataset}: {model} trains on {' and '.join(sorted(inputs))}, and it has no "
            f"{' or '.join(sorted(lacking))}; choose one of {', '.join(fitting)}"
        )
    num_labels = DATASETS[dataset].num_labels(**options)
    if "label" in inputs and (channels := config["model"]["label_channels"]) != num_labels:
        raise UserError(
            f"model.label_channels={channels}: {dataset} has {num_labels} label ids; "
            f"set model.label_channels={num_labels}"
        )


def _check_switches(model: str, trainer: TrainerConfig) -> None:
    """Refuse what the trainer could do and the model cannot."""
    if trainer.precision != "fp32" and MODELS[model].own_precision:
        raise UserError(
            f"trainer.precision={trainer.precision}: {model} has its own, model.num_low_precision; "
            "set trainer.precision=fp32"
        )
    if trainer.compile and MODELS[model].second_order:
        raise UserError(
            f"trainer.compile=true: the losses of {model} hold gradients, which compiled networks cannot be "
            "differentiated for; set trainer.compile=false"
        )


def _check_losses(config: Config) -> None:
    """Refuse a model all of whose losses are off."""
    weights = [key for key in config["model"] if key.endswith("_weight")]
    on = any(config["model"][key] for key in weights)
    if weights and not on and not any(config["loss"][key] for key in ("ffl", "perceptual", "spectral_regularization")):
        raise UserError(f"model.{weights[0]}=0: every loss is off; give one of them a weight, or set loss.ffl=true")


def defaults(config: Config) -> dict[str, Any]:
    """What a key stands for that the config of an older run lacks, by ``section.key``."""
    built = {
        "model": MODELS[config["model"]["name"]],
        "dataset": DATASETS[config["dataset"]["name"]],
        "loss": Objective,
        "trainer": TrainerConfig,
    }
    return {key: value for section, target in built.items() for key, value in section_defaults(section, target).items()}


PROVIDED = {"split", "data_root", "cache_dir"}  # arguments of a data set that the program supplies


def train(config: Config, overrides: list[str]) -> RunDirectory:
    """Train one run, or finish one that was cut.

    Args:
        config: the resolved configuration of configs/train.yaml.
        overrides: the command line it came from, for the run's name.
    Returns:
        The run's directory.
    """
    check(config)
    trainer_config = TrainerConfig(**config["trainer"])
    distributed.start(choose_device(trainer_config.accelerator))
    with distributed.report_lost_processes("The same command with resume=auto continues"):
        return _train(config, overrides, trainer_config)


def _train(config: Config, overrides: list[str], trainer_config: TrainerConfig) -> RunDirectory:
    with distributed.share_errors():
        run = distributed.on_main(lambda: find_run(config, overrides, defaults(config)))
        # Before the seed: whether a loss is on must not change the initial weights.
        objective = Objective(**config["loss"])
        folders: dict[str, Any] = {"data_root": Path(config["data_root"]), "cache_dir": Path(config["cache_dir"])}
        dataset = build_dataset(split="train", **folders, **config["dataset"])
        try:
            validation = build_dataset(split="val", **folders, **config["dataset"])
        except NoSplit:  # the paper's data sets have none: best.pt is then last.pt
            validation = None
        rank, world_size = distributed.rank(), distributed.world_size()
        num_shards = world_size * trainer_config.accumulate
        loader = Loader(
            dataset, trainer_config.batch_size, config["seed"], num_shards, list(range(rank, num_shards, world_size))
        )
        objective.check_image_size(*dataset.image_size)
        seed_weights(config["seed"])
        model = build_model(**config["model"], image_size=dataset.image_size, objective=objective)
        trainer = Trainer(model, loader, validation, trainer_config, config["seed"])
        if run is None:
            root, name = Path(config["output_root"]), run_name(config, overrides)
            run = distributed.on_main(lambda: RunDirectory.create(root, name, config))
    distributed.on_main(run.lock)
    try:
        trainer.resume(run)
        if trainer.start >= trainer.total_steps:
            say(f"{run.path} is finished already ({trainer.start} steps)")
        else:
            if trainer.start:
                say(f"resuming {run.path} at step {trainer.start} of {trainer.total_steps}")
            say(summary(run, trainer.fit(run)))
    finally:
        if rank == 0:
            run.unlock()
    say(f"evaluate with       python evaluate.py run={run.path}")
    return run


def say(text: str) -> None:
    """Print in one of several processes only."""
    if distributed.rank() == 0:
        print(text)


def summary(run: RunDirectory, outcome: Outcome) -> str:
    """Where everything is, and how the run ended."""
    lines = [f"\ntrained {outcome.step} steps, {outcome.images} images, in {outcome.seconds:.0f} s"]
    for name, value in outcome.losses.items():
        share = outcome.gradient_share.get(name)
        pull = "" if share is None else f"   {share:.1%} of the gradient at the generator's output"
        lines.append(f"  {name:<28} {value:.5g}{pull}")
    if outcome.best_error is not None:
        lines.append(f"  {'best validation MSE':<28} {outcome.best_error:.5g}")
    return "\n".join(
        [
            *lines,
            f"run directory       {run.path}",
            f"checkpoints         {run.last}, {run.best.name}",
            f"samples             {run.samples}",
            f"curves              tensorboard --logdir {run.path.parent}",
        ]
    )


def task(config: Config, overrides: list[str]) -> None:
    """One job of the command line."""
    try:
        train(config, overrides)
    finally:
        distributed.stop()


if __name__ == "__main__":
    run_program("train", task, check)
