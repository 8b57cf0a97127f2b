"""The paper's methods by name: the one way from a config's ``model`` section to a model."""

from typing import Any

from ffl.training.model import Model
from ffl.training.objective import Objective
from models.ae import VanillaAutoencoder
from models.pix2pix import Pix2Pix
from models.spade import Spade
from models.stylegan2 import StyleGAN2
from models.vae import VariationalAutoencoder

MODELS: dict[str, type[Model]] = {
    "ae": VanillaAutoencoder,
    "vae": VariationalAutoencoder,
    "pix2pix": Pix2Pix,
    "spade": Spade,
    "stylegan2": StyleGAN2,
}


def build_model(name: str, image_size: tuple[int, int], objective: Objective, **arguments: Any) -> Model:
    """A model with fresh weights, drawn from torch's global generator."""
    return MODELS[name](image_size=image_size, objective=objective, **arguments)  # type: ignore[call-arg]
