"""The extra terms of the paper, added to every model in the same way.

Built once from ``configs/loss``. Baseline and +FFL runs differ in this object alone; a term whose weight is zero is not
computed at all.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.losses import PAIR_LOSSES, PairLoss
from ffl.losses.focal_frequency import FocalFrequencyLoss
from ffl.losses.perceptual import PerceptualLoss, PerceptualNetwork
from ffl.losses.spectral_regularization import SpectralRegularization
from ffl.losses.weighting import GradientShare
from ffl.ranges import Count, NonNegative, Share, Whole
from ffl.training.config import check_section, describe, matches


class Objective(nn.Module):
    """Adds the focal frequency loss and its competitors (Table 7) to a model's own losses.

    Args:
        ffl: whether the focal frequency loss is on.
        weight: its factor (the ``loss_weight`` of the authors' package).
        alpha, patch_factor, ave_spectrum, log_matrix, batch_matrix, prior, transform, ablation: see
            ``FocalFrequencyLoss``.
        terms: further losses, each a name of ``PAIR_LOSSES`` or a mapping with its ``name``, its ``weight`` (1 where it
            is left out) and its own options.
        perceptual: weight of ``PerceptualLoss``; 0 is off.
        perceptual_network: its network: "vgg16" as in the paper, or "stlpips_vgg", which installs with pip.
        spectral_regularization: weight of ``SpectralRegularization``; 0 is off.
        spectral_form: "paper" (differentiable) or "published" (what the published code does: it only rescales the
            other losses).
        share: of the gradient at the generator's output that these terms hold together; one factor for all of them,
            set by ``GradientShare``, then multiplies their weights. None leaves the weights alone.
        share_every: steps from one reading of the share to the next.
        start_step: first step, from 0, in which these terms take part.
    """

    def __init__(
        self,
        ffl: bool = False,
        weight: NonNegative = 1.0,
        alpha: NonNegative = 1.0,
        patch_factor: Count = 1,
        ave_spectrum: bool = False,
        log_matrix: bool = False,
        batch_matrix: bool = False,
        prior: str | None = None,
        transform: Literal["dft", "dct"] = "dft",
        ablation: Literal["none", "no_freq", "no_phase", "no_ampli", "no_focal"] = "none",
        terms: tuple[str | dict[str, Any], ...] = (),
        perceptual: NonNegative = 0.0,
        perceptual_network: PerceptualNetwork = "vgg16",
        spectral_regularization: NonNegative = 0.0,
        spectral_form: Literal["paper", "published"] = "paper",
        share: Share | None = None,
        share_every: Count = 10,
        start_step: Whole = 0,
    ) -> None:
        super().__init__()
        # Built even where it is off, so that its options are checked whichever way the switch stands.
        try:
            focal_frequency = FocalFrequencyLoss(
                loss_weight=weight,
                alpha=alpha,
                patch_factor=patch_factor,
                ave_spectrum=ave_spectrum,
                log_matrix=log_matrix,
                batch_matrix=batch_matrix,
                prior=prior,
                transform=transform,
                ablation=ablation,
            )
        except ValueError as error:
            raise UserError(f"loss: {error}") from None
        self.focal_frequency = focal_frequency if ffl else None
        self.pair_losses = build_terms(terms)
        self.perceptual_weight = perceptual
        self.perceptual = PerceptualLoss(network=perceptual_network) if perceptual else None
        self.spectral_weight = spectral_regularization
        self.spectral_form = spectral_form
        self.spectral = SpectralRegularization(form=spectral_form) if spectral_regularization else None
        self.share = GradientShare(share, every=share_every) if share is not None else None
        if share is not None and not (ffl or terms or perceptual or spectral_regularization):
            raise UserError(f"loss.share={share}: no loss is on that could hold it; set loss.ffl=true or another one")
        self.first_step = start_step
        self.reading_due = False
        self.active = True

    def start_step(self, step: int) -> None:
        """Take note of the step, counted from 0, that the next calls belong to. Without it, all terms take part."""
        self.active = step >= self.first_step
        self.reading_due = self.share is not None and (step % self.share.every == 0 or not self.share.readings)

    def check_image_size(self, height: int, width: int) -> None:
        """Raise UserError where a term that is on cannot take images of that size."""
        patches = self.focal_frequency.patch_factor if self.focal_frequency is not None else 1
        if height % patches or width % patches:
            raise UserError(
                f"loss.patch_factor={patches}: does not divide images of {width}x{height} pixels; choose a divisor"
            )
        for name, (_, loss) in self.pair_losses.items():
            try:
                loss.check_size(torch.Size((height, width)))
            except ValueError as error:
                raise UserError(f"loss.terms: {name}: {error}") from None

    def forward(self, fake: Tensor, real: Tensor, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Append the extra terms to a model's own.

        Args:
            fake: float (N, C, H, W) in [-1, 1], the generator's output.
            real: float (N, C, H, W) in [-1, 1].
            losses: the model's own named terms, left as they are.
        Returns:
            ``losses`` and the weighted extra terms, in that order.
        """
        # A term that is off is not computed, instead of computed and multiplied by zero.
        if not self.active:
            return dict(losses)
        terms: dict[str, Tensor] = {}
        if self.focal_frequency is not None:
            terms["ffl"] = self.focal_frequency(fake, real)
        for name, (weight, loss) in self.pair_losses.items():
            terms[name] = weight * loss(fake, real)
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual_weight * self.perceptual(fake, real)
        if self.spectral is not None:
            term = self.spectral_weight * self.spectral(fake, real)
            # The published code: total = own losses · (1 + weight · BCE), where the BCE has no gradient.
            if self.spectral_form == "published":
                term = term * sum(losses.values())
            terms["spectral_regularization"] = term

        # One factor for all of them keeps their ratios. It is read in the first shard of a step alone, so that a step
        # worked on in several shards or by several processes has one weight.
        if self.share is not None:
            if self.reading_due:
                if not losses:
                    raise UserError("loss.share: the model's own losses are all off; give one of them a weight")
                self.share.read(torch.stack(list(terms.values())).sum(), list(losses.values()), fake)
                self.reading_due = False
            terms = {name: self.share.apply_to(term) for name, term in terms.items()}
        return {**losses, **terms}

    def state(self) -> dict[str, Tensor]:
        """What the weight that sets itself depends on, for a checkpoint; empty without one."""
        return {} if self.share is None else self.share.state_dict()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what ``state`` returned."""
        if self.share is not None and state:
            self.share.load_state_dict(state)

    def weights(self) -> dict[str, float]:
        """The weight of each of these terms that ``share`` has set so far, by name; empty without a share."""
        if self.share is None:
            return {}
        configured = {name: weight for name, (weight, _) in self.pair_losses.items()}
        if self.focal_frequency is not None:
            configured["ffl"] = self.focal_frequency.loss_weight
        if self.perceptual is not None:
            configured["perceptual"] = self.perceptual_weight
        if self.spectral is not None:
            configured["spectral_regularization"] = self.spectral_weight
        return {name: self.share.weight.item() * weight for name, weight in configured.items()}


def build_terms(terms: Sequence[str | Mapping[str, Any]]) -> dict[str, tuple[float, PairLoss]]:
    """The losses that ``loss.terms`` names, each with its weight, by name.

    Raises:
        UserError: for an unknown or repeated name, or an option that the loss does not have or take.
    """
    built: dict[str, tuple[float, PairLoss]] = {}
    for term in terms:
        options: dict[str, Any] = {"name": term} if isinstance(term, str) else dict(term)
        name, weight = options.pop("name", None), options.pop("weight", 1.0)
        if not isinstance(name, str) or name not in PAIR_LOSSES:
            hint = " (loss.ffl=true switches the focal frequency loss on)" if name == "ffl" else ""
            raise UserError(f"loss.terms: name={name}: expected one of {', '.join(PAIR_LOSSES)}{hint}")
        section = f"loss.terms.{name}"
        if name in built:
            raise UserError(f"{section}: is there twice; name each loss once, with one weight")
        if not matches(weight, NonNegative):
            raise UserError(f"{section}.weight={weight}: expected {describe(NonNegative)}")
        check_section(section, options, PAIR_LOSSES[name], provided={"dims", "reduction"})
        try:
            built[name] = weight, PAIR_LOSSES[name](**options)
        except ValueError as error:
            raise UserError(f"{section}: {error}") from None
    return built
