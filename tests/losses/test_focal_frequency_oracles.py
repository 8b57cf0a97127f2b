"""The loss and its gradient equal those of the authors' package."""

import numpy as np
import pytest
import torch
from oracles import Case, names

from ffl import FocalFrequencyLoss

CASES = [name for name in names("a_ffl") if not str(name).endswith("_error")]


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name: str) -> None:
    case = Case(name)
    inputs = case.tensors()
    pred = inputs["pred"].requires_grad_()
    loss = FocalFrequencyLoss(**case.args)(pred, inputs["target"], inputs.get("matrix"))
    loss.backward()
    case.check("loss", loss)
    case.check("grad", pred.grad)


def test_size_that_patches_do_not_divide() -> None:
    case = Case("a_ffl_3x3x33x20_patch2_error")
    inputs = case.tensors()
    with pytest.raises(ValueError, match="patch_factor must divide H and W, got patch_factor=2 for 33x20"):
        FocalFrequencyLoss(**case.args)(inputs["pred"], inputs["target"])


@pytest.mark.parametrize(
    "shape", [(6, 6), (3, 6, 6), (4, 3, 6, 6), (2, 4, 3, 6, 6), (2, 1, 1, 6, 1), (), (1, 1, 3, 1, 1)]
)
@pytest.mark.parametrize("ave_spectrum", [False, True])
def test_predefined_matrices_broadcast_as_in_the_package(shape: tuple[int, ...], ave_spectrum: bool) -> None:
    peer = pytest.importorskip("focal_frequency_loss")
    patches = {(4, 3, 6, 6): 2, (2, 4, 3, 6, 6): 2}.get(shape, 1)
    side = 6 * patches
    generator = torch.Generator().manual_seed(1)
    pred = torch.randn(2, 3, side, side, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 3, side, side, generator=generator, dtype=torch.float64)
    matrix = torch.rand(shape, generator=generator, dtype=torch.float64)
    options = {"patch_factor": patches, "ave_spectrum": ave_spectrum}
    ours = FocalFrequencyLoss(**options)(pred, target, matrix)
    theirs = peer.FocalFrequencyLoss(**options)(pred, target, matrix)
    np.testing.assert_allclose(ours.item(), theirs.item(), rtol=1e-12)
    for got, want in zip(torch.autograd.grad(ours, pred), torch.autograd.grad(theirs, pred), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-15)
