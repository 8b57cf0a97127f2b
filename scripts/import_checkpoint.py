"""Make a run directory of an official checkpoint, so that evaluate.py and the figures take it like a run of ours.

    python scripts/import_checkpoint.py kind=KIND file=PATH out=DIR [key=value ...]

kind is vanilla_ae, pix2pix_generator, spade_generator, stylegan2_rosinality (the averaged generator g_ema) or
stylegan2_nvlabs (a state dict, or G_ema of an official .pkl). The architecture is read from the weights. Further
key=value words are those of train.py and say what the weights don't: dataset=... and data_root=... for the images to
evaluate on, model.norm_statistics=running, model.psi=..., for SPADE dataset.image_size=... and model.upsampling=...,
for a state dict of stylegan2_nvlabs model.conv_clamp=null where it was trained without. Without dataset=, an
autoencoder takes CelebA, pix2pix Facades, and SPADE Cityscapes or ADE20K as its label channels tell; StyleGAN2 needs
it. Training cannot resume from an imported run.
"""

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import DATASETS
from ffl.errors import UserError
from ffl.files import file_sha256, write_text
from ffl.training.checkpoint import save_checkpoint
from ffl.training.command import run_script
from ffl.training.objective import Objective
from ffl.training.program import Config, compose
from ffl.training.run_directory import RunDirectory
from models import build_model
from models.official import KINDS, read_official
from models.spade.official import official_data_set
from models.stylegan2 import Generator
from run_config import check

# What becomes a run: the choice of configs/model, and the network of that model that the weights are for.
MODELS_OF = {
    "vanilla_ae": ("ae", "network"),
    "pix2pix_generator": ("pix2pix", "generator"),
    "spade_generator": ("spade", "generator"),
    "stylegan2_rosinality": ("stylegan2", "generator_ema"),
    "stylegan2_nvlabs": ("stylegan2", "generator_ema"),
}
_METRIC = "a network of the metrics; install it with python scripts/download_weights.py {} --file PATH"
_NO_IMAGES = "makes no images, so that there is nothing to evaluate; import the generator with kind={}"
INSTEAD = {
    "drn": _METRIC.format("drn_d_105_cityscapes"),
    "upernet": _METRIC.format("upernet101_encoder") + ", and likewise upernet101_decoder",
    "inception_fid": _METRIC.format("inception_fid"),
    "pix2pix_discriminator": _NO_IMAGES.format("pix2pix_generator"),
    "spade_discriminator": _NO_IMAGES.format("spade_generator"),
    "spade_encoder": _NO_IMAGES.format("spade_generator"),
}
# What kind and out decide; a run is neither named nor resumed here.
RESERVED = ("model", "model.name", "name", "output_root", "resume")


def import_checkpoint(*, kind: str, file: Path, out: Path, **overrides: str) -> RunDirectory:
    """Turn the weights in an official file into a run.

    Its one checkpoint, ``last.pt``, holds the imported network alone, of no known step.

    Args:
        kind: of network, see above.
        file: the official file.
        out: the run directory to make.
        overrides: of the config, as train.py takes them.
    Returns:
        The run directory.
    Raises:
        UserError: if no data set is given or told, the file is none of this kind, or an override contradicts it.
    """
    # Refuse what is not the user's to set, and what cannot become a run, before any file is opened.
    given = {key.lstrip("+~"): value for key, value in overrides.items()}
    for key, value in given.items():
        if key in RESERVED:
            raise UserError(f"{key}={value}: set by kind and out; leave it out")
    if kind in INSTEAD:
        raise UserError(f"kind={kind}: {INSTEAD[kind]}")
    if kind not in MODELS_OF:
        raise UserError(f"kind={kind}: no such kind; expected one of {', '.join(MODELS_OF)}")
    if out.exists() or out.is_symlink():
        raise UserError(f"out={out}: exists already; give a new directory")

    # The config without what the weights say: that of train.py for this model, on the data set given or told.
    state_dict, stored = read_official(kind, file)
    model_name, network_name = MODELS_OF[kind]
    choices = [f"model={model_name}"]
    if model_name == "stylegan2":
        choices.append("model.num_low_precision=0")  # float32 on every device unless told otherwise
    if "dataset" not in given:
        with name_in_errors(file):
            dataset = usual_data_set(kind, state_dict)
        if dataset is None:
            raise UserError(f"{file}: the weights don't tell the data set; give dataset=... as for train.py")
        choices.append(f"dataset={dataset}")
    config = compose("train", [*choices, *(f"{key}={value}" for key, value in overrides.items())])
    check(config)

    # What the weights say goes into the config, unless the user says otherwise, which is an error.
    with name_in_errors(file):
        architecture = KINDS[kind](state_dict, **{**untold_options(kind, config), **stored})
        if kind.startswith("stylegan2") and architecture.network is not Generator:
            raise UserError("holds a discriminator, which makes no images; give the file of the generator")
        for key, value in settings_by_weights(model_name, architecture.arguments, config).items():
            section, option = key.split(".")
            if key in given and config[section][option] != value:
                shown = [json.dumps(item).strip('"') for item in (config[section][option], value)]
                raise UserError(f"{key}={shown[0]}, but by the weights it is {shown[1]}; leave it out")
            config[section][option] = value
    check(config)

    # Evaluation will build this model: what it would refuse is refused now, before anything is written.
    model = build_model(**config["model"], image_size=image_size(config), objective=Objective())
    with name_in_errors(file):
        network = architecture.load(model.get_submodule(network_name))
    weights = {f"{network_name}.{key}": value for key, value in network.state_dict().items()}

    run = RunDirectory.create(out.parent, out.name, config)
    origin = {"kind": kind, "file": file.name, "sha256": file_sha256(file)}
    described = json.loads((run.path / "run.json").read_text()) | {"imported": origin}
    write_text(run.path / "run.json", json.dumps(described, indent=2) + "\n")
    save_checkpoint(run.last, {"step": None, "model": weights, "networks": [network_name]})
    height, width = image_size(config)
    print(f"imported {kind} {file}")
    print(f"model               {model_name}")
    print(f"data set            {config['dataset']['name']}, {height}x{width} pixels, below {config['data_root']}")
    print(f"run directory       {run.path}")
    print(f"evaluate with       python evaluate.py run={run.path}")
    return run


def usual_data_set(kind: str, state_dict: Mapping[str, Any]) -> str | None:
    """The data set to assume where none is given; None where neither kind nor weights tell."""
    if kind == "spade_generator":
        return official_data_set(state_dict)
    return {"vanilla_ae": "celeba", "pix2pix_generator": "facades"}.get(kind)


def untold_options(kind: str, config: Config) -> dict[str, Any]:
    """Options of the official program that neither weights nor file tell, as the config has them."""
    if kind == "spade_generator":
        height, width = image_size(config)
        upsampling = config["model"]["upsampling"]
        return {"crop_size": width, "aspect_ratio": width / height, "num_upsampling_layers": upsampling}
    if kind == "stylegan2_nvlabs":
        return {"conv_clamp": config["model"]["conv_clamp"]}
    return {}


def settings_by_weights(model: str, arguments: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """What the config must say, such as ``model.ngf``, for a model whose network is built with ``arguments``.

    Raises:
        UserError: where no model of ours has such a network, or not on the data set of the config.
    """
    dataset = config["dataset"]["name"]
    if model == "ae":
        num_values = arguments["image_shape"][-1]
        # A flattened image keeps no shape: that of the data set's images is the only one that could be meant.
        aspect = DATASETS[dataset].aspect
        height = math.isqrt(num_values // (3 * aspect))
        if 3 * aspect * height**2 != num_values:
            raise UserError(
                f"the autoencoder's {num_values} values are no colour image of {dataset}, where width:height is "
                f"{aspect}:1; give another dataset=..."
            )
        return {"dataset.image_size": height} | {f"model.{key}": arguments[key] for key in ("hidden_dim", "num_layers")}

    if model == "pix2pix":
        channels = arguments["in_channels"], arguments["out_channels"]
        if channels != (3, 3):
            raise UserError(
                f"the generator turns images of {channels[0]} channels into images of {channels[1]}, and the data "
                "sets here have colour images alone, of 3"
            )
        return {f"model.{key}": arguments[key] for key in ("num_downs", "ngf", "norm")}

    if model == "spade":
        semantic_channels, label_channels = arguments["semantic_channels"], config["model"]["label_channels"]
        extra = semantic_channels - label_channels
        if extra not in (0, 1):
            raise UserError(
                f"the generator takes {semantic_channels} semantic channels, but model.label_channels="
                f"{label_channels} for dataset={dataset}; give the dataset=... that it was trained on, or its "
                "model.label_channels=..."
            )
        known = {
            "model.instance_edges": bool(extra),
            "model.ngf": arguments["ngf"],
            "model.hidden_channels": arguments["hidden"],
            "model.upsampling": arguments["upsampling"],
            "model.use_vae": arguments["latent_dim"] is not None,
        }
        if arguments["latent_dim"] is not None:  # the encoder is in another file
            known |= {"model.latent_dim": arguments["latent_dim"], "model.style": "prior"}
        return known

    same = ("latent_dim", "num_mapping_layers", "channel_base", "channel_max")
    known = {f"model.{key}": arguments[key] for key in same}
    return known | {"dataset.image_size": arguments["resolution"], "model.conv_clamp": arguments.get("clamp")}


@contextlib.contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Name the file in the errors of what is inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def image_size(config: Config) -> tuple[int, int]:
    """(H, W) of the images of a config's data set."""
    height = config["dataset"]["image_size"]
    return height, height * DATASETS[config["dataset"]["name"]].aspect


if __name__ == "__main__":
    run_script(import_checkpoint)
