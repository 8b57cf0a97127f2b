"""ST-LPIPS equals the published package with its trained weights."""

import pytest
import torch
from oracles import Case, names

from ffl.errors import UserError
from ffl.networks.stlpips import MIN_SIZE, BlurDownsample, ShiftTolerantLPIPS, StlpipsNetwork, load_stlpips


@pytest.mark.parametrize("name", names("l_stlpips"))
def test_equals_official_values(name: str) -> None:
    pytest.importorskip("stlpips_pytorch")
    case = Case(name)
    distance = load_stlpips(case.args["net"])
    images = {key: value.permute(0, 3, 1, 2) / 127.5 - 1 for key, value in case.tensors().items()}
    pairs = [key.removeprefix("img0_") for key in images if key.startswith("img0")]
    x, y = (torch.cat([images[f"{side}_{pair}"] for pair in pairs]) for side in ("img0", "img1"))
    case.check("distance", distance(x, y))
    case.check("per_layer", distance.per_layer(x, y))
    if "grad" in case.entry["outputs"]:
        first = images["img0_a"].requires_grad_()
        case.check("grad", torch.autograd.grad(distance(first, images["img1_a"]).mean(), first)[0])


def test_blur_equals_two_means_of_neighbours() -> None:
    images = torch.rand(2, 3, 7, 8, dtype=torch.float64)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")
    twice = torch.nn.functional.avg_pool2d(torch.nn.functional.avg_pool2d(padded, 2, stride=1), 2, stride=1)
    blurred = BlurDownsample()(images)
    torch.testing.assert_close(blurred, twice[..., ::2, ::2])
    assert blurred.shape == (2, 3, 5, 5)


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_smallest_images(network: StlpipsNetwork) -> None:
    distance, smallest = ShiftTolerantLPIPS(network), MIN_SIZE[network]
    images = torch.rand(1, 3, smallest, 40)
    assert distance(images, images).tolist() == [0]
    for shape in ((1, 3, smallest - 1, 40), (1, 1, 40, 40)):
        with pytest.raises(ValueError, match=rf"H and W at least {smallest}, got \(1, "):
            distance(torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(ValueError, match="of one shape"):
        distance(images, images[..., :32])


def test_weights_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="network must be one of alex, vgg, got 'squeeze'"):
        ShiftTolerantLPIPS("squeeze")
    with pytest.raises(UserError, match=r"complete ST-LPIPS \(alex\) checkpoint: missing: lin0.*; unexpected: other"):
        load_stlpips("alex", {"other": torch.zeros(1)})
