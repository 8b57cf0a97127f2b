"""Losses on batches of images: focal frequency, adversarial, and those compared with it in Table 7."""

from ffl.losses.focal_frequency import FocalFrequencyLoss, focal_frequency_loss, focal_spectrum_loss
from ffl.losses.perceptual import PerceptualLoss
from ffl.losses.spectral_priors import band, high_pass, low_pass, radial
from ffl.losses.spectral_regularization import SpectralRegularization
from ffl.losses.weighting import GradientShare, gradient_share

__all__ = [
    "FocalFrequencyLoss",
    "GradientShare",
    "PerceptualLoss",
    "SpectralRegularization",
    "band",
    "focal_frequency_loss",
    "focal_spectrum_loss",
    "gradient_share",
    "high_pass",
    "low_pass",
    "radial",
]
