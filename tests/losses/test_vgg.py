"""VGG features against torchvision's own networks, and against ST-LPIPS's with its trained weights."""

import numpy as np
import pytest
import torch
import torchvision
from oracles import Case, names

from ffl.losses.vgg import Architecture, VGGFeatures, layout
from ffl.networks.stlpips import SCALE, SHIFT
from ffl.weights import load_weights


def normalise(images: torch.Tensor) -> torch.Tensor:
    shift, scale = (torch.tensor(values).view(3, 1, 1) for values in (SHIFT, SCALE))
    return (images - shift) / scale


@pytest.mark.parametrize("architecture", ["vgg16", "vgg19"])
def test_equals_torchvision(architecture: Architecture) -> None:
    with torch.device("meta"):
        meta = torchvision.models.get_model(architecture).features
    network = meta.to_empty(device="cpu")
    for parameter in network.parameters():  # a default initialisation of 20 million weights takes seconds
        parameter.data.normal_(0, 0.03)
    state = {f"features.{key}": value for key, value in network.state_dict().items()}
    layers = ["relu1_2", "relu3_1", "relu5_3"]
    images = torch.randn(2, 3, 32, 48)
    x, expected = images, []
    with torch.no_grad():
        for index, layer in enumerate(network):
            x = layer(x.clone())
            if f"features.{index - 1}" in [layout(architecture)[name] for name in layers]:
                expected.append(x.clone())
        features = VGGFeatures(state, architecture, layers)(images)
    assert len(expected) == len(features) == 3
    for got, want in zip(features, expected, strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("name", names("l_stvgg"))
def test_equals_the_trunk_of_stlpips(name: str) -> None:
    pytest.importorskip("stlpips_pytorch")
    case = Case(name)
    images = torch.cat(list(case.tensors().values())).permute(0, 3, 1, 2) / 127.5 - 1
    layers = [output for output in case.entry["outputs"] if output.count("_") == 1]  # relu1_2, not relu1_2_mean
    with torch.no_grad():
        maps = VGGFeatures(load_weights("stlpips_vgg"), "stlpips_vgg", layers)(normalise(images))
    for layer, found in zip(layers, maps, strict=True):
        case.check(layer, found)
        case.check(f"{layer}_mean", found.mean((2, 3)))
        noise = [np.random.RandomState(7000 + k).standard_normal(found.shape) for k in range(8)]
        case.check(f"{layer}_checksum", np.array([(found.double().numpy() * array).mean() for array in noise]))


def small_state() -> dict[str, torch.Tensor]:
    shapes = {0: (64, 3), 2: (64, 64)}
    state = {f"features.{i}.weight": torch.randn(*shape, 3, 3) for i, shape in shapes.items()}
    return state | {f"features.{i}.bias": torch.zeros(64) for i in shapes}


def test_weights_follow_the_module_but_are_not_saved_or_trained() -> None:
    features = VGGFeatures(small_state(), "vgg16", ["relu1_2"]).double()
    assert not features.state_dict()
    assert not list(features.parameters())
    assert features(torch.randn(1, 3, 8, 8, dtype=torch.float64))[0].dtype == torch.float64


def test_gradient_reaches_the_images() -> None:
    images = torch.randn(1, 3, 8, 8, requires_grad=True)
    VGGFeatures(small_state(), "vgg16", ["relu1_1"])(images)[0].sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("layers", [[], ["relu6_1"], ["relu1_2", "relu1_1"], ["pool1"], ["relu1_1", "relu1_1"]])
def test_wrong_layers_are_named(layers: list[str]) -> None:
    with pytest.raises(ValueError, match=r"ordered choice of relu1_1, relu1_2, .*relu5_3; got"):
        VGGFeatures(small_state(), "vgg16", layers)


def test_missing_weights_are_named() -> None:
    with pytest.raises(KeyError, match=r"features\.5\.weight"):
        VGGFeatures(small_state(), "vgg16", ["relu2_1"])
