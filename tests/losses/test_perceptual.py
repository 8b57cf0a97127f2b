"""Perceptual loss against torchvision's VGG-16 run in full, with seeded random weights."""

import functools
import sys

import pytest
import torch
from torch import Tensor
from torchvision.models import vgg16
from torchvision.transforms.functional import normalize

from ffl import PerceptualLoss
from ffl.errors import UserError
from ffl.networks.stlpips import load_stlpips, random_weights

# Index of each layer in torchvision's features, counted by hand from the architecture.
INDEX = {"relu1_2": 3, "relu2_2": 8, "relu3_3": 15, "relu4_3": 22, "relu5_3": 29}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@functools.cache
def features() -> torch.nn.Sequential:
    torch.manual_seed(0)
    with torch.device("meta"):
        network = vgg16(weights=None, init_weights=False).features
    network = network.to_empty(device="cpu")
    for parameter in network.parameters():
        fan_in = parameter[0].numel()
        torch.nn.init.normal_(parameter, std=(2 / fan_in) ** 0.5)
    return network.eval()


def weights() -> dict[str, Tensor]:
    return {f"features.{key}": value for key, value in features().state_dict().items()}


def independent(fake: Tensor, real: Tensor, layers: dict[str, float]) -> Tensor:
    total = torch.zeros(())
    for layer, weight in layers.items():
        outputs = []
        for images in (fake, real):
            x = normalize((images + 1) / 2, MEAN, STD)
            outputs.append(features()[: INDEX[layer] + 1](x))
        total = total + weight * (outputs[0] - outputs[1]).square().mean()
    return total


@pytest.mark.parametrize("layers", [{"relu2_2": 1.0}, {"relu1_2": 0.5, "relu3_3": 2.0, "relu5_3": 0.0}])
def test_value_and_gradient(layers: dict[str, float]) -> None:
    fake, real = torch.rand(2, 2, 3, 32, 40) * 2 - 1
    fake.requires_grad_()
    real.requires_grad_()
    loss = PerceptualLoss(weights(), tuple(layers), tuple(layers.values()))
    got, want = loss(fake, real), independent(fake, real.detach(), layers)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, fake)[0], torch.autograd.grad(want, fake)[0])
    assert torch.autograd.grad(loss(fake, real), real, allow_unused=True) == (None,)


def test_default_layer_and_identity() -> None:
    images = torch.rand(1, 3, 16, 16)
    loss = PerceptualLoss(weights())
    other = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(loss(images, other), independent(images, other, {"relu2_2": 1.0}))
    assert loss(images, images) == 0


@pytest.mark.parametrize("layers", [("relu2_2",), ("relu1_2", "relu3_3", "relu5_3")])
def test_value_and_gradient_on_the_network_of_stlpips(layers: tuple[str, ...]) -> None:
    """Against the stages of the distance itself, which end at these layers, with random weights."""
    torch.manual_seed(0)
    state = random_weights("vgg")
    trunk = load_stlpips("vgg", state).trunk
    fake, real = torch.rand(2, 2, 3, 32, 40) * 2 - 1
    fake.requires_grad_()
    want, x = torch.zeros(()), normalize((torch.cat([fake, real]) + 1) / 2, MEAN, STD)
    for stage, layer in zip(trunk, ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"), strict=True):
        x = stage(x)
        if layer in layers:
            want = want + (x[:2] - x[2:].detach()).square().mean()
    got = PerceptualLoss(state, layers, network="stlpips_vgg")(fake, real)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, fake)[0], torch.autograd.grad(want, fake)[0])


def test_network_is_frozen_and_outside_checkpoints() -> None:
    loss = PerceptualLoss(weights())
    assert not list(loss.parameters())
    assert not loss.state_dict()
    assert sum(buffer.numel() for buffer in loss.buffers()) == 260_160 + 6  # relu2_2: four convolutions; mean, std


def test_half_precision_features_are_compared_in_float32() -> None:
    fake, real = torch.rand(2, 1, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = PerceptualLoss(weights())(fake, real)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, independent(fake, real, {"relu2_2": 1.0}), rtol=0.05, atol=0)


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path))
    both = r"run: python scripts/download_weights\.py vgg16, or pip install stlpips-pytorch and set .*=stlpips_vgg$"
    with pytest.raises(UserError, match=rf"^vgg16-397923af\.pth .*; {both}"):
        PerceptualLoss()
    monkeypatch.setitem(sys.modules, "stlpips_pytorch", None)
    with pytest.raises(UserError, match=r"is not installed; run: pip install stlpips-pytorch$"):
        PerceptualLoss(network="stlpips_vgg")


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="network must be one of vgg16, stlpips_vgg, got 'vgg19'"):
        PerceptualLoss(weights(), network="vgg19")
    for layers in (("relu6_1",), (), ("relu2_2", "relu1_2")):
        with pytest.raises(ValueError, match="layers must be"):
            PerceptualLoss(weights(), layers)
    with pytest.raises(ValueError, match=r"one value per layer, got \(1.0, 2.0\) for \('relu2_2',\)"):
        PerceptualLoss(weights(), ("relu2_2",), (1.0, 2.0))
    loss = PerceptualLoss(weights(), ("relu1_2",))
    with pytest.raises(ValueError, match=r"got \(1, 1, 8, 8\) and \(1, 1, 8, 8\)"):
        loss(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(TypeError, match=r"real must be a floating tensor, got torch\.uint8"):
        loss(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
