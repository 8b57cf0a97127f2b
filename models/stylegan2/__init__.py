"""StyleGAN2 (Karras et al., 2020), written from the papers: unconditional synthesis at 16x16 to 1024x1024."""

from models.stylegan2.discriminator import Discriminator
from models.stylegan2.generator import Generator
from models.stylegan2.model import StyleGAN2

__all__ = ["Discriminator", "Generator", "StyleGAN2"]
