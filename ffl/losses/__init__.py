"""Losses on batches of images: focal frequency, adversarial, and those compared with it in Table 7."""

from ffl.losses.focal_frequency import FocalFrequencyLoss
from ffl.losses.perceptual import PerceptualLoss
from ffl.losses.spectral_regularization import SpectralRegularization
from ffl.losses.weighting import GradientShare, gradient_share

__all__ = ["FocalFrequencyLoss", "GradientShare", "PerceptualLoss", "SpectralRegularization", "gradient_share"]
