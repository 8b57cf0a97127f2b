"""Adversarial losses on logits, and feature matching.

Every loss is a mean over a map of logits; a sequence of maps (one per discriminator of a multi-scale
discriminator) gives the mean over the maps. With D the logits:

==============  ==========================================  =================
mode            discriminator (real / fake)                 generator
==============  ==========================================  =================
``vanilla``     BCE(D, 1) / BCE(D, 0)                       BCE(D, 1)
``lsgan``       (D - 1)² / D²                               (D - 1)²
``hinge``       max(0, 1 - D) / max(0, 1 + D)               -D
``wasserstein`` -D / D                                      -D
==============  ==========================================  =================

The generator's vanilla loss is the non-saturating form of Goodfellow et al. (2014), written with the softplus function:
BCE(D, 1) = softplus(-D) and BCE(D, 0) = softplus(D), which stay finite for any logit.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

GanMode = Literal["vanilla", "lsgan", "hinge", "wasserstein"]


def discriminator_loss(logits: Tensor | Sequence[Tensor], is_real: bool, mode: GanMode) -> Tensor:
    """Discriminator loss on the logits of real or of fake images.

    Args:
        logits: float of any shape, or one such tensor per discriminator.
        is_real: whether the images were real.
        mode: see the module's table.
    Returns:
        Scalar.
    Raises:
        ValueError: for an unknown mode or an empty sequence.

    Examples:
        >>> logits = torch.tensor([2.0, -0.5])
        >>> discriminator_loss(logits, is_real=True, mode="hinge")  # (0 + 1.5) / 2
        tensor(0.7500)
    """
    if not isinstance(logits, Tensor):
        return _mean([discriminator_loss(scale, is_real, mode) for scale in logits])
    if mode == "vanilla":
        return F.softplus(-logits if is_real else logits).mean()
    if mode == "lsgan":
        return (logits - float(is_real)).square().mean()
    if mode == "hinge":
        return F.relu(1 - logits if is_real else 1 + logits).mean()
    if mode == "wasserstein":
        return -logits.mean() if is_real else logits.mean()
    raise ValueError(f"mode must be one of {', '.join(get_args(GanMode))}, got {mode!r}")


def generator_loss(logits: Tensor | Sequence[Tensor], mode: GanMode) -> Tensor:
    """Generator loss on the logits that the discriminator gives to fake images.

    Args:
        logits: float of any shape, or one such tensor per discriminator.
        mode: see the module's table.
    Returns:
        Scalar.
    Raises:
        ValueError: for an unknown mode or an empty sequence.

    Examples:
        >>> generator_loss(torch.tensor([2.0, -0.5]), mode="lsgan")  # (1 + 2.25) / 2
        tensor(1.6250)
    """
    if not isinstance(logits, Tensor):
        return _mean([generator_loss(scale, mode) for scale in logits])
    return -logits.mean() if mode == "hinge" else discriminator_loss(logits, True, mode)


def feature_matching_loss(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Feature matching of pix2pixHD (Wang et al., 2018): L1 distance of a discriminator's hidden features.

    Args:
        fake: per discriminator, its hidden features of the generated images.
        real: the same of the real images; no gradient flows into them.
    Returns:
        Scalar: mean absolute difference, summed over layers, averaged over discriminators.
    Raises:
        ValueError: if the two differ in the number of discriminators or layers, or there is no discriminator.

    Examples:
        >>> fake, real = [[torch.zeros(1, 8), torch.ones(1, 4)]], [[torch.ones(1, 8), torch.ones(1, 4)]]
        >>> feature_matching_loss(fake, real)
        tensor(1.)
    """
    # Real features are constants, since this term trains the generator alone.
    scales = []
    for fakes, reals in zip(fake, real, strict=True):
        distances = [F.l1_loss(f, r.detach()) for f, r in zip(fakes, reals, strict=True)]
        scales.append(torch.stack(distances).sum())
    return _mean(scales)


def _mean(terms: Sequence[Tensor]) -> Tensor:
    if not terms:
        raise ValueError("got no discriminator outputs, expected at least one")
    return torch.stack(list(terms)).mean()
