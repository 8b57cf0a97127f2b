"""Focal frequency loss for image reconstruction and synthesis (Jiang et al., ICCV 2021)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ffl.losses import FocalFrequencyLoss as FocalFrequencyLoss
    from ffl.losses import GradientShare as GradientShare
    from ffl.losses import PerceptualLoss as PerceptualLoss
    from ffl.losses import SpectralRegularization as SpectralRegularization
    from ffl.losses import focal_frequency_loss as focal_frequency_loss
    from ffl.losses import focal_spectrum_loss as focal_spectrum_loss
    from ffl.losses import gradient_share as gradient_share

__version__ = "0.1.0"
__all__ = [
    "FocalFrequencyLoss",
    "GradientShare",
    "PerceptualLoss",
    "SpectralRegularization",
    "__version__",
    "focal_frequency_loss",
    "focal_spectrum_loss",
    "gradient_share",
]


def __getattr__(name: str) -> Any:
    # The losses are imported when they are first asked for: torch takes seconds, and a typo in a command line none.
    if name in __all__:
        import ffl.losses

        return getattr(ffl.losses, name)
    raise AttributeError(f"module 'ffl' has no attribute {name!r}")
