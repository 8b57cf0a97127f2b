"""Focal frequency loss for image reconstruction and synthesis (Jiang et al., ICCV 2021)."""

from ffl.losses.focal_frequency import FocalFrequencyLoss
from ffl.losses.perceptual import PerceptualLoss
from ffl.losses.spectral_regularization import SpectralRegularization

__version__ = "0.1.0"
__all__ = ["FocalFrequencyLoss", "PerceptualLoss", "SpectralRegularization", "__version__"]
