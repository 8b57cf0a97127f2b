"""The loss as other training programs ship it, the option they have on by mistake, and the examples of its page."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from oracles import Case, names

from ffl import FocalFrequencyLoss

PAGE = Path(__file__).resolve().parents[2] / "docs" / "loss.md"
# neosr and traiNNer-redux multiply the authors' value by 50 and average the spectra of the batch by default.
FACTOR = 50.0
MST = {"alpha": 2.0, "patch_factor": 4, "ave_spectrum": True, "log_matrix": True, "batch_matrix": True}


@pytest.mark.parametrize("name", names("k_ffl"))
def test_forks_are_fifty_times_the_loss_with_average_spectra(name: str) -> None:
    case = Case(name)
    inputs = case.tensors(torch.float64 if "redux" in str(name) else torch.float32)
    pred = inputs["pred"].requires_grad_()
    options = {"ave_spectrum": True, **case.args}
    options["loss_weight"] = FACTOR * options.get("loss_weight", 1.0)
    loss = FocalFrequencyLoss(**options)(pred, inputs["target"])
    loss.backward()
    case.check("loss", loss)
    case.check("grad", pred.grad)


# The mean of 16 independent errors has a cosine of 1 / sqrt(16) with each of them; 0.94 is the focal weight's part.
@pytest.mark.parametrize(
    ("options", "cosine"),
    [({}, 0.94), ({"ave_spectrum": True}, 0.23), (MST, 0.21), (MST | {"ave_spectrum": False}, 0.93)],
    ids=str,
)
def test_average_spectra_of_pairs_give_every_image_the_same_gradient(options: dict[str, Any], cosine: float) -> None:
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(5):
        fake, real = torch.randn(2, 16, 3, 64, 64, generator=generator)
        fake.requires_grad_()
        (gradient,) = torch.autograd.grad(FocalFrequencyLoss(**options)(fake, real), fake)
        assert torch.equal(gradient, gradient[:1].expand_as(gradient)) == options.get("ave_spectrum", False)
        found += F.cosine_similarity(gradient.flatten(1), (fake - real).detach().flatten(1)).tolist()
    assert sum(found) / len(found) == pytest.approx(cosine, abs=0.006)
    assert f" {cosine}" in PAGE.read_text()


def test_examples_of_the_page_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 6
    space: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), space)
    torch.testing.assert_close(
        space["focal_spectrum_loss"](
            *(torch.fft.rfft2(x, norm="ortho") for x in (space["fake"], space["real"])), half=64
        ),
        space["ffl"](space["fake"], space["real"]),
    )
