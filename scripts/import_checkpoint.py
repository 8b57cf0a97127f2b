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
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffl.errors import UserError
from ffl.files import file_sha256, write_text
from ffl.training.checkpoint import load_model_state, save_checkpoint
from ffl.training.objective import Objective
from ffl.training.program import Config, compose, run_script
from ffl.training.run_directory import RunDirectory
from models import build_model
from models.official import Checkpoint, load_official, read_state_dict
from models.pix2pix import UNetGenerator
from models.spade import SpadeGenerator
from models.stylegan2 import Generator
from models.stylegan2.pickles import read_official_network
from train import check

OWN_WORDS = ("kind", "file", "out")
# What kind and out decide; a run is neither named nor resumed here.
RESERVED = ("model", "model.name", "name", "output_root", "resume")
WIDTH_OVER_HEIGHT = {"cityscapes": 2}  # every other data set is square

_METRIC = "a network of the metrics; install it with python scripts/download_weights.py {name} --file PATH"
_NO_IMAGES = "makes no images, so that there is nothing to evaluate; import the generator with kind={kind}"
INSTEAD = {
    "drn": _METRIC.format(name="drn_d_105_cityscapes"),
    "upernet": _METRIC.format(name="upernet101_encoder") + ", and likewise upernet101_decoder",
    "inception_fid": _METRIC.format(name="inception_fid"),
    "pix2pix_discriminator": _NO_IMAGES.format(kind="pix2pix_generator"),
    "spade_discriminator": _NO_IMAGES.format(kind="spade_generator"),
    "spade_encoder": _NO_IMAGES.format(kind="spade_generator"),
}


class Kind(ABC):
    """How the weights of one kind of official network become a run.

    Attributes:
        model: the choice of configs/model.
        network: the attribute of that model that the weights are for.
        settings: overrides of the config that come before the user's.
    """

    model: str
    network: str
    settings: tuple[str, ...] = ()

    def read(self, path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """The state dict in a file, and the official options that are stored beside it."""
        return read_state_dict(path), {}

    @abstractmethod
    def dataset(self, state: Mapping[str, Any]) -> str | None:
        """The data set to assume where none is given; None where the weights don't tell."""

    def options(self, config: Config) -> dict[str, Any]:
        """The options of the official program that the weights don't tell, where the file doesn't store them."""
        return {}

    @abstractmethod
    def architecture(self, network: nn.Module, config: Config) -> dict[str, Any]:
        """Keys of the config, such as ``model.ngf``, to what they are by the weights."""


class VanillaAutoencoderKind(Kind):
    """The authors' perceptron, from flattened images to flattened images."""

    model = "ae"
    network = "network"

    def dataset(self, state: Mapping[str, Any]) -> str | None:
        return "celeba"

    def architecture(self, network: nn.Module, config: Config) -> dict[str, Any]:
        weights = [value for key, value in network.state_dict().items() if key.endswith("weight")]
        hidden_dim, num_values = weights[0].shape
        width_over_height = WIDTH_OVER_HEIGHT.get(config["dataset"]["name"], 1)
        height = math.isqrt(num_values // (3 * width_over_height))
        if 3 * width_over_height * height**2 != num_values:
            raise UserError(
                f"the autoencoder's {num_values} values are no colour image of {config['dataset']['name']}, where "
                f"width:height is {width_over_height}:1; give another dataset=..."
            )
        return {"model.hidden_dim": hidden_dim, "model.num_layers": len(weights), "dataset.image_size": height}


class Pix2PixKind(Kind):
    """The U-Net of pix2pix: any image size that it can halve often enough will do."""

    model = "pix2pix"
    network = "generator"

    def dataset(self, state: Mapping[str, Any]) -> str | None:
        return "facades"

    def architecture(self, network: nn.Module, config: Config) -> dict[str, Any]:
        assert isinstance(network, UNetGenerator)
        if (network.in_channels, network.out_channels) != (3, 3):
            raise UserError(
                f"the generator turns images of {network.in_channels} channels into images of "
                f"{network.out_channels}, and the data sets here have colour images alone, of 3"
            )
        return {"model.num_downs": network.num_downs, "model.ngf": network.ngf, "model.norm": network.norm}


class SpadeKind(Kind):
    """The generator of SPADE. The image size is that of the data set: the weights don't tell it."""

    model = "spade"
    network = "generator"

    def dataset(self, state: Mapping[str, Any]) -> str | None:
        semantic_channels = Checkpoint("spade_generator", state).shape("head_0.norm_0.mlp_shared.0.weight")[1]
        return {36: "cityscapes", 151: "ade20k"}.get(semantic_channels)

    def options(self, config: Config) -> dict[str, Any]:
        height, width = image_size(config)
        return {
            "crop_size": width,
            "aspect_ratio": width / height,
            "num_upsampling_layers": config["model"]["upsampling"],
        }

    def architecture(self, network: nn.Module, config: Config) -> dict[str, Any]:
        assert isinstance(network, SpadeGenerator)
        label_channels = config["model"]["label_channels"]
        extra = network.semantic_channels - label_channels
        if extra not in (0, 1):
            raise UserError(
                f"the generator takes {network.semantic_channels} semantic channels, but model.label_channels="
                f"{label_channels} for dataset={config['dataset']['name']}; give the dataset=... that it was trained "
                "on, or its model.label_channels=..."
            )
        known: dict[str, Any] = {
            "model.instance_edges": bool(extra),
            "model.ngf": network.ngf,
            "model.hidden_channels": network.hidden,
            "model.upsampling": network.upsampling,
            "model.use_vae": network.latent_dim is not None,
        }
        if network.latent_dim is not None:  # the encoder is in another file
            known |= {"model.latent_dim": network.latent_dim, "model.style": "prior"}
        return known


class StyleGAN2Kind(Kind):
    """The averaged generator of StyleGAN2, in float32 on every device unless told otherwise."""

    model = "stylegan2"
    network = "generator_ema"
    settings = ("model.num_low_precision=0",)

    def dataset(self, state: Mapping[str, Any]) -> str | None:
        return None

    def architecture(self, network: nn.Module, config: Config) -> dict[str, Any]:
        if not isinstance(network, Generator):
            raise UserError("holds a discriminator, which makes no images; give the file of the generator")
        resolution, layers = network.synthesis.resolution, network.synthesis.noise_layers()
        return {
            "dataset.image_size": resolution,
            "model.latent_dim": network.latent_dim,
            "model.num_mapping_layers": len(network.mapping.layers),
            "model.channel_base": resolution * len(layers[-1].weight),
            "model.channel_max": len(layers[0].weight),
            "model.conv_clamp": layers[0].clamp,
        }


class NvlabsKind(StyleGAN2Kind):
    """As a state dict, which doesn't tell the limit of activations, or as the official pickle, which does."""

    def read(self, path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
        if path.suffix != ".pkl":
            return super().read(path)
        network = read_official_network(path)
        return network.state_dict, network.options

    def options(self, config: Config) -> dict[str, Any]:
        return {"conv_clamp": config["model"]["conv_clamp"]}


KINDS: dict[str, Kind] = {
    "vanilla_ae": VanillaAutoencoderKind(),
    "pix2pix_generator": Pix2PixKind(),
    "spade_generator": SpadeKind(),
    "stylegan2_rosinality": StyleGAN2Kind(),
    "stylegan2_nvlabs": NvlabsKind(),
}


def import_checkpoint(arguments: list[str]) -> RunDirectory:
    """The program; ``arguments`` are its key=value words.

    Returns:
        The run directory. Its one checkpoint, ``last.pt``, holds the imported network alone, of no known step.
    """
    words, overrides = read_words(arguments)
    path, out = Path(words["file"]), Path(words["out"])
    kind = KINDS[words["kind"]]
    if out.exists() or out.is_symlink():
        raise UserError(f"out={out}: exists already; give a new directory")
    config, weights = configured(words["kind"], path, overrides)
    run = RunDirectory.create(out.parent, out.name, config)
    origin = {"kind": words["kind"], "file": path.name, "sha256": file_sha256(path)}
    described = json.loads((run.path / "run.json").read_text()) | {"imported": origin}
    write_text(run.path / "run.json", json.dumps(described, indent=2) + "\n")
    save_checkpoint(run.last, {"step": None, "model": weights, "networks": [kind.network]})
    height, width = image_size(config)
    print(f"imported {words['kind']} {path}")
    print(f"model               {config['model']['name']}")
    print(f"data set            {config['dataset']['name']}, {height}x{width} pixels, below {config['data_root']}")
    print(f"run directory       {run.path}")
    print(f"evaluate with       python evaluate.py run={run.path}")
    return run


def read_words(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """The program's own words, and the others, which are overrides for train.py.

    Raises:
        UserError: for a word that is missing, malformed or not the user's to set.
    """
    if malformed := [item for item in arguments if "=" not in item]:
        raise UserError(f"cannot read {malformed[0]}; expected key=value, such as kind=vanilla_ae")
    words = dict(item.split("=", 1) for item in arguments if item.split("=", 1)[0] in OWN_WORDS)
    overrides = [item for item in arguments if item.split("=", 1)[0] not in OWN_WORDS]
    if missing := [word for word in OWN_WORDS if not words.get(word)]:
        raise UserError(f"{missing[0]}= is missing; give kind=... file=PATH out=DIR, see --help")
    if reserved := [item for item in overrides if key_of(item) in RESERVED]:
        raise UserError(f"{reserved[0]}: set by kind and out; leave it out")
    if words["kind"] in INSTEAD:
        raise UserError(f"kind={words['kind']}: {INSTEAD[words['kind']]}")
    if words["kind"] not in KINDS:
        raise UserError(f"kind={words['kind']}: no such kind; expected one of {', '.join(KINDS)}")
    return words, overrides


def key_of(override: str) -> str:
    """The config key that an override changes."""
    return override.split("=", 1)[0].lstrip("+~")


def configured(name: str, path: Path, overrides: list[str]) -> tuple[Config, dict[str, Tensor]]:
    """The config of a run whose model fits the weights, and the weights under the keys of that model.

    Args:
        name: a key of ``KINDS``.
        path: of the official file.
        overrides: of the config, as train.py takes them.
    Raises:
        UserError: if no data set is given or told, the file is none of this kind, or an override contradicts it.
    """
    kind = KINDS[name]
    state, stored = kind.read(path)
    given = {key_of(item) for item in overrides}
    choices = [f"model={kind.model}", *kind.settings]
    if "dataset" not in given:
        with naming(path):
            dataset = kind.dataset(state)
        if dataset is None:
            raise UserError(f"{path}: the weights don't tell the data set; give dataset=... as for train.py")
        choices.append(f"dataset={dataset}")
    config = compose("train", [*choices, *overrides])
    check(config)
    with naming(path):
        network = load_official(name, state, **{**kind.options(config), **stored})
        assign(config, kind.architecture(network, config), given)
    check(config)
    weights = {f"{kind.network}.{key}": value for key, value in network.state_dict().items()}
    # Evaluation will build this model; what it would refuse is refused now.
    model = build_model(**config["model"], image_size=image_size(config), objective=Objective())
    load_model_state(model, weights, path, [kind.network])
    return config, weights


def assign(config: Config, values: dict[str, Any], fixed: Collection[str]) -> None:
    """Set keys of the config, such as ``model.ngf``; where ``fixed`` has one, its value must be the same already."""
    for key, value in values.items():
        section, option = key.split(".")
        if key in fixed and config[section][option] != value:
            shown = [json.dumps(item).strip('"') for item in (config[section][option], value)]
            raise UserError(f"{key}={shown[0]}, but by the weights it is {shown[1]}; leave it out")
        config[section][option] = value


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in the errors of what is inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def image_size(config: Config) -> tuple[int, int]:
    """(H, W) of the images of a config's data set."""
    height = config["dataset"]["image_size"]
    return height, height * WIDTH_OVER_HEIGHT.get(config["dataset"]["name"], 1)


if __name__ == "__main__":
    run_script(import_checkpoint, __doc__)
