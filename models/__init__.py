"""The paper's methods, and a segmenter that judges images: the one way from a config's ``model`` section to a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffl.training.checkpoint import load_model_state, load_newest
from ffl.training.model import Model
from ffl.training.objective import Objective
from models.ae import VanillaAutoencoder
from models.pix2pix import Pix2Pix
from models.segmenter import SegmentationUNet
from models.spade import Spade
from models.stylegan2 import StyleGAN2
from models.vae import VariationalAutoencoder

MODELS: dict[str, type[Model]] = {
    "ae": VanillaAutoencoder,
    "vae": VariationalAutoencoder,
    "pix2pix": Pix2Pix,
    "spade": Spade,
    "stylegan2": StyleGAN2,
    "segmenter": SegmentationUNet,
}


def build_model(name: str, image_size: tuple[int, int], objective: Objective, **arguments: Any) -> Model:
    """A model with fresh weights, drawn from torch's global generator."""
    return MODELS[name](image_size=image_size, objective=objective, **arguments)  # type: ignore[call-arg]


def load_model(
    config: Mapping[str, Any], image_size: tuple[int, int], checkpoints: Sequence[Path]
) -> tuple[Model, Path, int | None]:
    """The model of a run with the weights of its newest readable checkpoint.

    Args:
        config: of the run.
        image_size: (H, W) of its data set.
        checkpoints: files to read, each where the ones before it are damaged.
    Returns:
        The model, on the CPU, the file that its weights are from, and their step; None for imported weights.
    Raises:
        UserError: there is no such file, or none that our programs write.
    """
    path, state = load_newest(list(checkpoints), whole=False)
    # Without an objective: who generates images needs no losses, nor the pretrained weights of perceptual ones.
    model = build_model(**config["model"], image_size=image_size, objective=Objective())
    load_model_state(model, state["model"], path, state.get("networks"))
    return model, path, state["step"]
