"""What the configuration of a run may hold, and which of its sections fit together.

The class behind a section is its schema: its arguments are the keys, with their types and defaults.
"""

import re
from typing import Any

from datasets import DATASETS
from ffl.errors import UserError
from ffl.label_sets import LABEL_SETS
from ffl.training.config import Config, Seed, TrainerConfig, check_section, section_defaults
from ffl.training.objective import Objective, build_terms
from models import MODELS

REGISTRIES: dict[str, dict[str, Any]] = {"model": MODELS, "dataset": DATASETS}
SECTIONS = {"model", "dataset", "loss", "trainer", "recipe"}
# Arguments of a section's class that are no keys, because the program supplies them.
PROVIDED = {"model": {"image_size", "objective"}, "dataset": {"split", "data_root", "cache_dir"}}


def check_top_level(
    seed: Seed,
    data_root: str,
    cache_dir: str,
    output_root: str,
    name: str | int | None = None,
    resume: str | None = None,
) -> None:
    """The keys of configs/train.yaml outside its sections, with their types."""
    if name is not None and (not re.fullmatch(r"[\w.+-]{1,120}", str(name)) or str(name) in (".", "..")):
        raise UserError(
            f"name={name}: must be the name of one directory: letters, digits and ._+-, 120 characters at most"
        )


def check_named(section: str, values: Any) -> None:
    """Check a ``model`` or ``dataset`` section against the class that it names.

    Raises:
        UserError: if there is no such class, or it takes no such key or value.
    """
    name = values.get("name") if isinstance(values, dict) else None
    if not isinstance(name, str) or name not in REGISTRIES[section]:
        raise UserError(f"{section}.name={name}: expected one of {', '.join(sorted(REGISTRIES[section]))}")
    options = {key: value for key, value in values.items() if key != "name"}
    check_section(section, options, REGISTRIES[section][name], PROVIDED[section])


def check(config: Config) -> None:
    """Find every mistake in the configuration of a training run, before any data is read.

    Args:
        config: composed from configs/train.yaml.
    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    # Each section by itself, against the signature of what it builds.
    top = {key: value for key, value in config.items() if key not in SECTIONS}
    check_section("", top, check_top_level, provided=set())
    check_top_level(**top)
    check_named("model", config["model"])
    check_named("dataset", config["dataset"])
    check_section("loss", config["loss"], Objective, provided=set())
    build_terms(config["loss"]["terms"])
    check_section("trainer", config["trainer"], TrainerConfig, provided=set())

    # The data set has what the model trains on.
    model_name, model = config["model"]["name"], MODELS[config["model"]["name"]]
    dataset_name, dataset = config["dataset"]["name"], DATASETS[config["dataset"]["name"]]
    options = {key: value for key, value in config["dataset"].items() if key != "name"}
    if lacking := model.inputs - dataset.provides(**options):
        fitting = [
            name for name, other in DATASETS.items() if model.inputs <= other.provides(pairs=True, label_levels=8)
        ]
        raise UserError(
            f"dataset={dataset_name}: {model_name} trains on {' and '.join(sorted(model.inputs))}, and it has no "
            f"{' or '.join(sorted(lacking))}; choose one of {', '.join(fitting)}"
        )
    num_labels, label_set = dataset.num_labels(**options), config["model"].get("label_set")
    if label_set is not None and (label_set != dataset_name or LABEL_SETS[label_set].num_ids != num_labels):
        raise UserError(
            f"model.label_set={label_set}: has {LABEL_SETS[label_set].num_ids} label ids of {label_set}, the data set "
            f"{num_labels} of {dataset_name}; choose that label set, or the data set's usual label maps"
        )
    if label_set is None and "label" in model.inputs and (channels := config["model"]["label_channels"]) != num_labels:
        raise UserError(
            f"model.label_channels={channels}: {dataset_name} has {num_labels} label ids; "
            f"set model.label_channels={num_labels}"
        )

    # The model can do what the trainer is told to.
    trainer = TrainerConfig(**config["trainer"])
    if trainer.precision != "fp32" and model.own_precision:
        raise UserError(
            f"trainer.precision={trainer.precision}: {model_name} has its own, model.num_low_precision; "
            "set trainer.precision=fp32"
        )
    if trainer.compile and model.second_order:
        raise UserError(
            f"trainer.compile=true: the losses of {model_name} hold gradients, which compiled networks cannot be "
            "differentiated for; set trainer.compile=false"
        )

    # At least one loss is on.
    weights = [key for key in config["model"] if key.endswith("_weight")]
    extra = {key: config["loss"][key] for key in ("ffl", "terms", "perceptual", "spectral_regularization")}
    if model.tasks == ("segmentation",) and any(extra.values()):
        key, value = next((key, value) for key, value in extra.items() if value)
        raise UserError(f"loss.{key}={value}: {model_name} makes no images that this loss could compare; leave it off")
    if weights and not any([*extra.values(), *(config["model"][key] for key in weights)]):
        raise UserError(f"model.{weights[0]}=0: every loss is off; give one of them a weight, or set loss.ffl=true")


def defaults(config: Config) -> dict[str, Any]:
    """Default of each key by ``section.key``, which a key stands for that an older run's configuration lacks."""
    built = {
        "model": MODELS[config["model"]["name"]],
        "dataset": DATASETS[config["dataset"]["name"]],
        "loss": Objective,
        "trainer": TrainerConfig,
    }
    return {key: value for section, target in built.items() for key, value in section_defaults(section, target).items()}
