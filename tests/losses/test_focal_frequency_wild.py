"""The loss as other training programs ship it, and the option they have on by mistake."""

import pytest
import torch
import torch.nn.functional as F
from oracles import Case, names

from ffl import FocalFrequencyLoss

# neosr and traiNNer-redux multiply the authors' value by 50 and average the spectra of the batch by default.
FACTOR = 50.0


@pytest.mark.parametrize("name", names("k_ffl"))
def test_forks_are_fifty_times_the_loss_with_average_spectra(name: str) -> None:
    case = Case(name)
    dtype = torch.float64 if "redux" in str(name) else torch.float32
    inputs = case.tensors(dtype)
    pred = inputs["pred"].requires_grad_()
    options = {"ave_spectrum": True, **case.args}
    options["loss_weight"] = FACTOR * options.get("loss_weight", 1.0)
    loss = FocalFrequencyLoss(**options)(pred, inputs["target"])
    loss.backward()
    case.check("loss", loss)
    case.check("grad", pred.grad)


def test_average_spectra_of_pairs_give_every_image_the_same_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    cosines: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(10):
        fake, real = torch.randn(2, 16, 3, 32, 32, generator=generator)
        fake.requires_grad_()
        for average, found in cosines.items():
            (gradient,) = torch.autograd.grad(FocalFrequencyLoss(ave_spectrum=average)(fake, real), fake)
            if average:
                assert torch.equal(gradient, gradient[:1].expand_as(gradient))
            found += F.cosine_similarity(gradient.flatten(1), (fake - real).detach().flatten(1)).tolist()
    # The mean of 16 independent errors has a cosine of 1 / sqrt(16) with each, and the focal weight 0.94 with its own.
    assert sum(cosines[True]) / 160 == pytest.approx(0.23, abs=0.01)
    assert sum(cosines[False]) / 160 == pytest.approx(0.94, abs=0.01)
