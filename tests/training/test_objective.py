"""Every option of the objective changes the loss by the amount it should."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import Tensor, nn

from ffl import SpectralRegularization, gradient_share
from ffl.errors import UserError
from ffl.losses import FourierSpaceLoss, HaarLoss, WaveletLoss
from ffl.training.objective import Objective

# One value other than the default of each option of the focal frequency loss, and some of them together.
FFL_OPTIONS: list[dict[str, Any]] = [
    {},
    {"weight": 100.0},
    {"alpha": 0.5},
    {"alpha": 2.0},
    {"patch_factor": 2},
    {"ave_spectrum": True},
    {"log_matrix": True},
    {"prior": "radial(2)"},
    {"batch_matrix": True},
    {"transform": "dct"},
    {"ablation": "no_freq"},
    {"ablation": "no_phase"},
    {"ablation": "no_ampli"},
    {"ablation": "no_focal"},
    {"weight": 3.0, "alpha": 0.5, "patch_factor": 4, "log_matrix": True, "batch_matrix": True, "transform": "dct"},
    {"weight": 3.0, "alpha": 2.0, "patch_factor": 2, "ave_spectrum": True, "log_matrix": True},
    {"weight": 3.0, "alpha": 2.0, "patch_factor": 2, "batch_matrix": True, "ablation": "no_phase"},
]
OTHER_OPTIONS = {
    "ffl",
    "terms",
    "perceptual",
    "perceptual_network",
    "spectral_regularization",
    "spectral_form",
    "share",
    "share_every",
    "start_step",
}


def images(seed: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    fake, real = torch.rand(2, 3, 3, 8, 12, generator=generator, dtype=torch.float64) * 2 - 1
    return fake, real


def by_numpy(
    fake: np.ndarray,
    real: np.ndarray,
    weight: float = 1.0,
    alpha: float = 1.0,
    patch_factor: int = 1,
    ave_spectrum: bool = False,
    log_matrix: bool = False,
    batch_matrix: bool = False,
    prior: str | None = None,
    transform: str = "dft",
    ablation: str = "none",
) -> float:
    """Eqs. 8 to 10 and their variants, written down from the paper."""

    def spectrum(image: np.ndarray) -> np.ndarray:
        n, c, h, w = image.shape
        p = patch_factor
        patches = image.reshape(n, c, p, h // p, p, w // p).transpose(0, 2, 4, 1, 3, 5)
        if ablation == "no_freq":
            return patches
        return dctn(patches, axes=(-2, -1), norm="ortho") if transform == "dct" else np.fft.fft2(patches, norm="ortho")

    f, r = spectrum(fake), spectrum(real)
    if ave_spectrum:
        f, r = f.mean(0, keepdims=True), r.mean(0, keepdims=True)
    if ablation == "no_phase":
        f, r = np.abs(f), np.abs(r)
    if ablation == "no_ampli":
        f, r = (s / np.sqrt(np.abs(s) ** 2 + 1e-6) for s in (f, r))
    distance = np.abs(f - r) ** 2
    w = np.sqrt(distance) ** (0 if ablation == "no_focal" else alpha)
    w = np.log(w + 1) if log_matrix else w
    w = w / (w.max() if batch_matrix else w.max((-2, -1), keepdims=True))
    if prior == "radial(2)":  # the Nyquist frequency, half a cycle a pixel, has radius 1
        v, u = (2 * np.fft.fftfreq(size) for size in distance.shape[-2:])
        w = w * (v[:, None] ** 2 + u**2)
    return float(weight * (w * distance).mean())


@pytest.mark.parametrize("options", FFL_OPTIONS, ids=lambda options: "-".join(options) or "defaults")
def test_focal_frequency_options_reach_the_loss(options: dict[str, Any]) -> None:
    fake, real = images()
    terms = Objective(ffl=True, **options)(fake, real, {})
    assert list(terms) == ["ffl"]
    assert terms["ffl"].item() == pytest.approx(by_numpy(fake.numpy(), real.numpy(), **options), rel=1e-9)
    if options:  # the value differs from that of the defaults, so that an option that is dropped is seen
        plain = by_numpy(fake.numpy(), real.numpy())
        assert terms["ffl"].item() != pytest.approx(plain, rel=1e-3)


def test_no_option_is_left_out() -> None:
    tried = {key for options in FFL_OPTIONS for key in options if len(options) == 1}
    assert tried | OTHER_OPTIONS == set(inspect.signature(Objective).parameters)


class OneSided(nn.Module):
    """Stands for the perceptual loss, whose weights may be absent: the mean of 2 fake - real, times a factor."""

    def __init__(self, network: str) -> None:
        super().__init__()
        self.factor = {"vgg16": 1, "stlpips_vgg": 3}[network]

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        return self.factor * (2 * fake - real).mean()


@pytest.mark.parametrize(("options", "factor"), [({}, 1), ({"perceptual_network": "stlpips_vgg"}, 3)])
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_perceptual_loss_is_weighted(
    weight: float, options: dict[str, Any], factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffl.training.objective.PerceptualLoss", OneSided)
    fake, real = images()
    terms = Objective(perceptual=weight, **options)(fake, real, {"mse": torch.tensor(2.0)})
    assert terms["mse"] == 2
    assert terms["perceptual"].item() == pytest.approx(weight * factor * (2 * fake - real).mean().item(), rel=1e-12)


@pytest.mark.parametrize("weight", [1.0, 0.05])
def test_spectral_regularization_is_weighted(weight: float) -> None:
    fake, real = images()
    own = {"mse": torch.tensor(2.0), "kl": torch.tensor(3.0)}
    terms = Objective(spectral_regularization=weight)(fake, real, own)
    assert list(terms) == ["mse", "kl", "spectral_regularization"]
    want = weight * SpectralRegularization(form="paper")(fake, real)
    assert terms["spectral_regularization"].item() == pytest.approx(want.item(), rel=1e-12)


@pytest.mark.parametrize("weight", [15.0, 0.5])
@pytest.mark.parametrize("others", [{}, {"ffl": True, "weight": 100.0}])
def test_published_spectral_regularization_rescales_the_models_own_losses(
    weight: float, others: dict[str, Any]
) -> None:
    """Their code multiplies the generator's loss by 1 + weight · BCE; the factor has no gradient."""
    fake, real = images()
    fake.requires_grad_()
    own = {"mse": (fake - real).square().mean(), "l1": (fake - real).abs().mean()}
    terms = Objective(spectral_regularization=weight, spectral_form="published", **others)(fake, real, own)
    factor = 1 + weight * SpectralRegularization(form="published")(fake, real).item()
    assert factor > 1.1
    extra = Objective(**others)(fake, real, {}).get("ffl", torch.zeros(()))
    total, want = sum(terms.values()), factor * sum(own.values()) + extra
    torch.testing.assert_close(total, want, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, fake, retain_graph=True)[0] for loss in (total, want)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


def test_losses_of_other_papers_are_weighted_terms_beside_the_focal_frequency_loss() -> None:
    fake, real = images()
    terms = ("wavelet", {"name": "haar", "weight": 0.25, "levels": 2}, {"name": "fourier_space", "half": "centred"})
    assert Objective(terms=terms, share=0.5).share is not None
    objective = Objective(ffl=True, terms=terms, spectral_regularization=1.0)
    objective.check_image_size(8, 12)
    got = objective(fake, real, {"mse": torch.tensor(2.0)})
    assert list(got) == ["mse", "ffl", "wavelet", "haar", "fourier_space", "spectral_regularization"]
    assert got["wavelet"] == WaveletLoss()(fake, real)
    assert got["haar"] == 0.25 * HaarLoss(2)(fake, real)
    assert got["fourier_space"] == FourierSpaceLoss("centred")(fake, real)


def test_terms_that_are_off_are_not_there_and_the_models_own_stay_as_they_are() -> None:
    fake, real = images()
    own = {"mse": torch.tensor(2.0)}
    assert Objective(weight=100.0, alpha=2.0)(fake, real, own) == own
    terms = Objective(ffl=True, spectral_regularization=1.0)(fake, real, own)
    assert list(terms) == ["mse", "ffl", "spectral_regularization"]
    assert terms["mse"] is own["mse"]
    assert list(own) == ["mse"]


def own_terms(fake: Tensor, real: Tensor) -> dict[str, Tensor]:
    """A model's own losses: two that pull at the image, and one that does not."""
    return {
        "mse": (fake - real).square().mean(),
        "l1": (fake - real).abs().mean(),
        "kl": torch.ones((), dtype=fake.dtype, requires_grad=True) * 3,
    }


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize(
    "terms", [{"ffl": True, "weight": 100.0}, {"ffl": True, "weight": 3.0, "spectral_regularization": 2.0}]
)
def test_the_extra_terms_hold_the_share_together_and_keep_their_ratio(share: float, terms: dict[str, Any]) -> None:
    fake, real = images()
    fake.requires_grad_()
    own = own_terms(fake, real)
    objective = Objective(share=share, **terms)
    objective.start_step(0)
    weighted, plain = objective(fake, real, own), Objective(**terms)(fake, real, own)
    extra = [name for name in plain if name not in own]
    for name in extra:
        factor = objective.weights()[name] / {"ffl": terms["weight"], "spectral_regularization": 2.0}[name]
        assert weighted[name].item() == pytest.approx(factor * plain[name].item(), rel=1e-6)
    together = {**own, "extra": torch.stack([weighted[name] for name in extra]).sum()}
    assert gradient_share(together, fake)["extra"] == pytest.approx(share, rel=1e-6)


def test_a_share_is_read_in_the_first_shard_of_a_due_step_alone() -> None:
    objective = Objective(ffl=True, share=0.5, share_every=2)
    weights = []
    for step in range(3):
        objective.start_step(step)
        for shard in range(2):
            fake, real = images(seed=10 * step + shard)
            fake.requires_grad_()
            objective(fake, real, own_terms(fake, real))
            weights.append(objective.weights()["ffl"])
    assert weights[0] == weights[1] == weights[2] == weights[3] != weights[4] == weights[5]


def test_terms_join_at_their_first_step() -> None:
    fake, real = images()
    own = {"mse": torch.tensor(2.0)}
    objective = Objective(ffl=True, start_step=3)
    names = []
    for step in range(5):
        objective.start_step(step)
        names.append(list(objective(fake, real, own)))
    assert names == [["mse"]] * 3 + [["mse", "ffl"]] * 2


def test_a_share_needs_a_loss_that_holds_it_and_another() -> None:
    with pytest.raises(UserError, match=r"loss.share=0.5: no loss is on that could hold it; set loss.ffl=true"):
        Objective(share=0.5)
    objective = Objective(ffl=True, share=0.5)
    objective.start_step(0)
    with pytest.raises(UserError, match=r"loss.share: the model's own losses are all off; give one of them a weight"):
        objective(*images(), {})
