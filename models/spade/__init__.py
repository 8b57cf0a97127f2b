"""SPADE (Park et al., 2019): semantic image synthesis with spatially-adaptive normalisation."""

from models.spade.discriminator import MultiscaleDiscriminator
from models.spade.encoder import ImageEncoder
from models.spade.generator import SpadeGenerator
from models.spade.model import Spade

__all__ = ["ImageEncoder", "MultiscaleDiscriminator", "Spade", "SpadeGenerator"]
