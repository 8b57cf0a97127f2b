"""Spectral regularisation: the published code by its reference vectors, the article by its formula."""

import numpy as np
import pytest
import torch
from oracles import Case, names

from ffl import SpectralRegularization
from ffl.losses.spectral_regularization import spectral_profile
from ffl.spectrum import radial_profile


@pytest.mark.parametrize("name", names("g_profile"))
def test_profiles_of_one_image(name: str) -> None:
    case = Case(name)
    image = case.tensors()["image"]
    gray = 0.2989 * image[0] + 0.5870 * image[1] + 0.1140 * image[2]
    case.check("gray", gray.double())
    spectrum = torch.fft.fftshift(torch.fft.fft2(gray.double())) + 1e-8
    case.check("profile", radial_profile(20 * spectrum.abs().log()))
    case.check("power_profile", radial_profile(spectrum.abs().square()))
    case.check("profile_normalised", spectral_profile(image[None].double())[0])


@pytest.mark.parametrize("name", names("g_regulariser"))
def test_published_form(name: str) -> None:
    case = Case(name)
    inputs = case.tensors()
    fake = inputs["fake"].requires_grad_()
    case.check("profile_fake", spectral_profile(fake))
    case.check("profile_real", spectral_profile(inputs["real"]))

    bce = SpectralRegularization(form="published")(fake, inputs["real"])
    assert not bce.requires_grad
    case.check("bce", bce)
    g_loss = torch.tensor(case.args["g_loss"], requires_grad=True)
    total = g_loss * (1 + case.args["lambda_freq"] * bce)
    case.check("total", total)
    case.check("grad_factor", torch.autograd.grad(total, g_loss)[0])


def test_paper_form_is_the_cross_entropy_of_the_fake_profile() -> None:
    fake, real = torch.rand(3, 3, 16, 16, dtype=torch.float64), torch.rand(2, 3, 16, 16, dtype=torch.float64)
    prediction = spectral_profile(fake).numpy().clip(1e-4, 1 - 1e-4)
    target = spectral_profile(real).numpy().mean(0)
    want = -np.mean(target * np.log(prediction) + (1 - target) * np.log(1 - prediction))
    assert SpectralRegularization()(fake, real).item() == pytest.approx(want, rel=1e-12)


def test_paper_form_gradient() -> None:
    fake = torch.rand(1, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    real = torch.rand(2, 3, 6, 7, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda images: SpectralRegularization()(images, real), fake)


def test_following_the_gradient_approaches_the_profile_of_the_real_images() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(4, 1, 16, 16, generator=generator)
    fake = torch.nn.functional.avg_pool2d(torch.randn(4, 1, 18, 18, generator=generator), 3, 1).requires_grad_()
    regularization = SpectralRegularization()
    target = spectral_profile(real).mean(0)
    before = (spectral_profile(fake) - target).square().mean().item()
    optimiser = torch.optim.Adam([fake], lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        regularization(fake, real).backward()
        optimiser.step()
    assert (spectral_profile(fake) - target).square().mean().item() < before / 2


def test_flat_images_have_finite_values_and_gradients() -> None:
    fake = torch.zeros(2, 3, 16, 16, requires_grad=True)
    loss = SpectralRegularization()(fake, torch.rand(2, 3, 16, 16))
    loss.backward()
    assert loss.isfinite()
    assert fake.grad.isfinite().all()


def test_half_precision_is_transformed_in_float32() -> None:
    fake, real = torch.rand(2, 2, 3, 12, 12).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = SpectralRegularization()(fake, real)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, SpectralRegularization()(fake.float(), real.float()))


def test_gray_images_are_their_own_luma() -> None:
    gray = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(spectral_profile(gray), spectral_profile(gray.expand(-1, 3, -1, -1)))


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="form must be one of 'paper', 'published', got 'official'"):
        SpectralRegularization(form="official")
    images, one = torch.rand(2, 3, 16, 16), torch.rand(1, 3, 16, 16)
    assert SpectralRegularization()(images, one) > 0
    with pytest.raises(ValueError, match=r"the same shape \(N, C, H, W\), got \(2, 3, 16, 16\) and \(1, 3, 16, 16\)"):
        SpectralRegularization(form="published")(images, one)
    with pytest.raises(ValueError, match=r"differ at most in N, got \(2, 3, 16, 16\) and \(2, 3, 16, 8\)"):
        SpectralRegularization()(images, images[..., :8])
    with pytest.raises(ValueError, match=r"C 1 or 3 and N at least 1, got \(2, 2, 16, 16\)"):
        spectral_profile(torch.rand(2, 2, 16, 16))
    with pytest.raises(TypeError, match=r"must be a floating tensor, got torch\.uint8"):
        spectral_profile(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
