"""Priors on the spectrum: which frequencies matter, whatever the images, as a factor on the focal weight.

A prior is a function of the radius r, the distance of a frequency to zero as a fraction of the Nyquist frequency
(``ffl.spectrum.radii``): along one axis r reaches 1, half a cycle a pixel, and in the corner of d axes sqrt(d). It is
therefore the same for images of any size and any number of axes. Along the time axis of a clip a frame is a pixel.

Any function of r may be a prior. Those here also go by name: ``FocalFrequencyLoss(prior="high_pass(0.5)")``.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

SpectralPrior = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Band:
    """The prior that is 1 for radii low <= r < high and 0 elsewhere."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(
                f"a band of frequencies needs 0 <= low < high, got low={self.low!r} and high={self.high!r}"
            )

    def __call__(self, r: Tensor) -> Tensor:
        return ((r >= self.low) & (r < self.high)).to(r.dtype)


@dataclass(frozen=True)
class RadialPower:
    """The prior r^power."""

    power: float

    def __post_init__(self) -> None:
        if not 0 <= self.power < math.inf:
            raise ValueError(f"the power of a radius must be finite and at least 0, got {self.power!r}")

    def __call__(self, r: Tensor) -> Tensor:
        return r**self.power


def high_pass(cutoff: float) -> SpectralPrior:
    """1 from the radius ``cutoff`` on, 0 below.

    Examples:
        >>> import torch
        >>> high_pass(0.5)(torch.tensor([0.0, 0.25, 0.5, 1.0]))
        tensor([0., 0., 1., 1.])
    """
    return Band(cutoff, math.inf)


def low_pass(cutoff: float) -> SpectralPrior:
    """1 below the radius ``cutoff``, 0 from there on: what ``high_pass`` leaves out.

    Examples:
        >>> import torch
        >>> low_pass(0.5)(torch.tensor([0.0, 0.25, 0.5, 1.0]))
        tensor([1., 1., 0., 0.])
    """
    return Band(0.0, cutoff)


def band(low: float, high: float) -> SpectralPrior:
    """1 for radii low <= r < high, 0 elsewhere; ``band(0.5, 1)`` is the highest octave.

    Raises:
        ValueError: the limits are not 0 <= low < high.

    Examples:
        >>> import torch
        >>> band(0.25, 0.5)(torch.tensor([0.0, 0.25, 0.5, 1.0]))
        tensor([0., 1., 0., 0.])
    """
    return Band(low, high)


def radial(power: float) -> SpectralPrior:
    """r^power: 0 at the zero frequency, 1 at the Nyquist frequency of one axis.

    The power spectra of natural images fall about as r^-2, so ``radial(2)`` evens them out.

    Raises:
        ValueError: the power is negative, which would make the weight of the zero frequency infinite.

    Examples:
        >>> import torch
        >>> radial(2)(torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.0000, 0.2500, 1.0000])
    """
    return RadialPower(power)


_PRIORS: dict[str, Callable[..., SpectralPrior]] = {
    "high_pass": high_pass,
    "low_pass": low_pass,
    "band": band,
    "radial": radial,
}


def prior_by_name(text: str) -> SpectralPrior:
    """The prior that a configuration names: "high_pass(0.5)", "low_pass(0.25)", "band(0.5, 1)" or "radial(2)".

    Raises:
        ValueError: there is no such prior, or its numbers are wrong.

    Examples:
        >>> prior_by_name("high_pass(0.5)")
        Band(low=0.5, high=inf)
    """
    match = re.fullmatch(r"(\w+)\(([^()]*)\)", text.strip())
    if match is None or match[1] not in _PRIORS:
        forms = "high_pass(cutoff), low_pass(cutoff), band(low, high), radial(power)"
        raise ValueError(f"prior must be one of {forms}, got {text!r}")
    try:
        return _PRIORS[match[1]](*(float(number) for number in match[2].split(",")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"prior {text!r}: {error}") from None
