"""Losses on batches of images: focal frequency, adversarial, and those that papers compare with it."""

from ffl.losses.fft_l1 import FFTL1Loss
from ffl.losses.focal_frequency import FocalFrequencyLoss, focal_frequency_loss, focal_spectrum_loss
from ffl.losses.fourier_space import FourierSpaceLoss
from ffl.losses.haar import HaarLoss
from ffl.losses.jpeg_frequency import JPEGFrequencyLoss
from ffl.losses.pair_loss import PairLoss
from ffl.losses.perceptual import PerceptualLoss
from ffl.losses.spectral_priors import band, high_pass, low_pass, radial
from ffl.losses.spectral_regularization import SpectralRegularization
from ffl.losses.wavelet import WaveletLoss
from ffl.losses.weighting import GradientShare, gradient_share

__all__ = [
    "PAIR_LOSSES",
    "FFTL1Loss",
    "FocalFrequencyLoss",
    "FourierSpaceLoss",
    "GradientShare",
    "HaarLoss",
    "JPEGFrequencyLoss",
    "PairLoss",
    "PerceptualLoss",
    "SpectralRegularization",
    "WaveletLoss",
    "band",
    "focal_frequency_loss",
    "focal_spectrum_loss",
    "gradient_share",
    "high_pass",
    "low_pass",
    "radial",
]

# By the names that configurations use.
PAIR_LOSSES: dict[str, type[PairLoss]] = {
    "fft_l1": FFTL1Loss,
    "wavelet": WaveletLoss,
    "jpeg_frequency": JPEGFrequencyLoss,
    "fourier_space": FourierSpaceLoss,
    "haar": HaarLoss,
}
