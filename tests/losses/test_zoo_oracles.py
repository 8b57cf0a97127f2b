"""The losses that papers compare with the focal frequency loss equal the code that their authors published."""

import pytest
import torch
import torch.nn.functional as F
from oracles import Case, names
from torch import Tensor

from ffl.losses import FFTL1Loss, FourierSpaceLoss, HaarLoss, JPEGFrequencyLoss, WaveletLoss
from ffl.losses.fft_l1 import fft_l1_formula
from ffl.losses.pair_loss import PairLoss
from ffl.losses.wavelet import stationary_bands


def value_and_gradient(loss: PairLoss, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    fake.requires_grad_()
    value = loss(fake, real)
    return value, torch.autograd.grad(value, fake)[0]


@pytest.mark.parametrize("name", names("k_mimo"))
def test_fft_l1(name: str) -> None:
    case = Case(name)
    inputs = case.tensors(torch.float64)
    for scale, suffix in ((1, ""), (0.5, "2"), (0.25, "4")):
        label = inputs["label"]
        if scale < 1:
            label = F.interpolate(label, scale_factor=scale, mode="bilinear")
        fake = inputs[f"pred{suffix}"]
        value, gradient = value_and_gradient(FFTL1Loss(), fake, label)
        case.check(f"fft{suffix}", value)
        case.check(f"fft{suffix}", fft_l1_formula(label, fake))
        case.check(f"grad_fft{suffix}", gradient)


@pytest.mark.parametrize("name", names("k_wgsr"))
def test_wavelet(name: str) -> None:
    case = Case(name)
    inputs = case.tensors(torch.float64)
    args = case.args
    weights = [args[f"pixel_weight{band}"] for band in ("", "_lh", "_hl", "_hh")]
    loss = WaveletLoss(args["wavelet_filter"], args["wavelet_level"], weights)
    value, gradient = value_and_gradient(loss, inputs["pred"], inputs["target"])
    case.check("loss", value)
    case.check("grad", gradient)
    # One weight of 1 leaves the distance of one subband; LL of the first level alone counts.
    for i, band in enumerate(("ll", "lh", "hl", "hh")):
        one = WaveletLoss(weights=[float(i == j) for j in range(4)])
        case.check(f"l1_{band}", one(inputs["pred"], inputs["target"]))


def luma(images: Tensor) -> Tensor:
    return 16 + 65.481 * images[:, 0] + 128.553 * images[:, 1] + 24.966 * images[:, 2]


def test_wavelet_bands() -> None:
    case = Case("k_wgsr_1x3x24x40")
    case.check("bands", stationary_bands(luma(case.tensors(torch.float64)["pred"]))[:, 0])


def test_bands_of_another_wavelet() -> None:
    pytest.importorskip("pywt")
    case = Case("k_neosr_wavelet_1x3x32x40")
    inputs = case.tensors(torch.float64)
    for output, images in (("combined_HF", inputs["pred"]), ("combined_HF_gt", inputs["target"])):
        high = stationary_bands(luma(images), "sym19")[:, 0, 1:]
        case.check(output, high * torch.tensor([[[0.035]], [[0.025]], [[0.02]]], dtype=torch.float64))


@pytest.mark.parametrize("name", names("k_deco"))
def test_jpeg_frequency(name: str) -> None:
    case = Case(name)
    inputs = case.tensors(torch.float64)
    args = case.args
    loss = JPEGFrequencyLoss(args["freq_quality"], args["freq_mode"], args["freq_gamma"])
    value, gradient = value_and_gradient(loss, inputs["pred"], inputs["target"])
    case.check("loss", value)
    case.check("grad", gradient)
    case.check("weights", loss.weights)


@pytest.mark.parametrize("name", names("k_fourier_eth"))
def test_fourier_space(name: str) -> None:
    case = Case(name)
    inputs = case.tensors(torch.float64)
    fake = inputs["pred"].requires_grad_()
    loss = FourierSpaceLoss("centred")
    terms = dict(zip(("phase", "amplitude"), loss.terms(fake, inputs["target"]), strict=True))
    for term, value in terms.items():
        case.check(term, value)
        case.check(f"grad_{term}", torch.autograd.grad(value, fake, retain_graph=True)[0])
    torch.testing.assert_close(loss(fake, inputs["target"]), sum(terms.values()) / 2)


@pytest.mark.parametrize("name", names("k_dwt_"))
def test_haar(name: str) -> None:
    case = Case(name)
    inputs = case.tensors()
    value, gradient = value_and_gradient(HaarLoss(case.args["J"]), inputs["pred"], inputs["target"])
    case.check("loss", value)
    case.check("grad", gradient)


@pytest.mark.parametrize("name", names("k_dwt3d"))
def test_haar_of_video(name: str) -> None:
    case = Case(name)
    # The published function takes frames before channels.
    fake, real = (images.transpose(1, 2) for images in case.tensors().values())
    value, gradient = value_and_gradient(HaarLoss(case.args["J"], dims=3), fake, real)
    case.check("loss", value)
    case.check("grad", gradient.transpose(1, 2))
