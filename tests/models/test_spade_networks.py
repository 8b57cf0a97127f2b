"""SPADE's networks against the official ones."""

import pytest
import torch
from oracles import Case, names
from torch import Tensor, nn

from models.official import load_official
from models.spade import ImageEncoder, MultiscaleDiscriminator, SpadeGenerator
from models.spade.encoder import INPUT_SIZE
from models.spade.generator import DOUBLINGS, normalise_twice
from models.spade.layers import InstanceNorm, SpectralConv2d, init_xavier

# What the official classes of the data sets select needs no options.
TOLD_BY_LABELS = ("e_spade_G_cityscapes_more", "e_spade_G_ade20k")


@pytest.mark.parametrize("name", names("e_spade_G"))
def test_generator_is_the_official_one(name: str) -> None:
    case = Case(name)
    options = {} if name in TOLD_BY_LABELS else case.args
    network, inputs = load_official("spade_generator", case.state_dict(), **options), case.tensors()
    with torch.no_grad():
        image = network.train("train" in case.entry["mode"])(inputs["semantics"], inputs.get("z"))
    case.check("output", image)
    if "train" in case.entry["mode"]:
        case.check("head_0.conv_0.weight_u", network.head_0.conv_0.weight_u)
        case.check("head_0.norm_0.running_var", network.head_0.norm_0.param_free_norm.running_var)


@pytest.mark.parametrize("name", names("e_spade_D"))
def test_discriminator_is_the_official_one(name: str) -> None:
    case = Case(name)
    network, inputs = load_official("spade_discriminator", case.state_dict(), **case.args), case.tensors()
    with torch.no_grad():
        scales = network(inputs["semantics"], inputs["image"])
    for scale, layers in enumerate(scales):
        for layer, features in enumerate(layers):
            case.check(f"D{scale}_feature{layer}", features)


@pytest.mark.parametrize("name", names("e_spade_keys"))
@pytest.mark.parametrize(("network", "kind"), [("G", "spade_generator"), ("D", "spade_discriminator")])
def test_keys_at_full_size(name: str, network: str, kind: str) -> None:
    case = Case(name)
    with torch.device("meta"):  # full size, but no memory
        state = {key: torch.empty(shape) for key, shape in case.key_shapes(network).items()}
        built = load_official(kind, state, **case.args)
    assert {key: list(value.shape) for key, value in built.state_dict().items()} == case.key_shapes(network)


@pytest.mark.parametrize("upsampling", DOUBLINGS)
@pytest.mark.parametrize("latent_dim", [None, 8])
def test_images_have_the_size_asked_for(upsampling: str, latent_dim: int | None) -> None:
    size = (2 ** DOUBLINGS[upsampling], 2 ** DOUBLINGS[upsampling] * 2)
    network = SpadeGenerator(size, 4, 2, upsampling, latent_dim).eval()
    z = torch.randn(1, latent_dim) if latent_dim is not None else None
    with torch.no_grad():
        images = network(torch.rand(1, 4, *size), z)
    assert images.shape == (1, 3, *size)
    assert images.abs().max() <= 1


def test_latent_vector_is_needed_or_refused() -> None:
    with pytest.raises(ValueError, match=r"takes z of shape \(N, 8\), got None"):
        SpadeGenerator((32, 32), 4, 2, latent_dim=8)(torch.rand(1, 4, 32, 32))
    with pytest.raises(ValueError, match=r"takes no z, got \(1, 8\)"):
        SpadeGenerator((32, 32), 4, 2)(torch.rand(1, 4, 32, 32), torch.randn(1, 8))


def encoder_by_hand(state: dict[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """The encoder in evaluation mode from its weights alone, in the order of the official definition."""
    functional = nn.functional
    x = functional.interpolate(images, size=(256, 256), mode="bilinear", align_corners=False)
    for layer in range(1, 7):
        weight = state[f"layer{layer}.0.weight_orig"]
        sigma = state[f"layer{layer}.0.weight_u"] @ weight.flatten(1) @ state[f"layer{layer}.0.weight_v"]
        x = functional.conv2d(x, weight / sigma, stride=2, padding=1)
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
        x = functional.leaky_relu((x - mean) / (variance + 1e-5).sqrt(), 0.2)
    x = x.flatten(1)
    return tuple(x @ state[f"{name}.weight"].T + state[f"{name}.bias"] for name in ("fc_mu", "fc_var"))


@pytest.mark.parametrize("size", [(64, 96), (INPUT_SIZE, INPUT_SIZE)])
def test_encoder_follows_its_definition(size: tuple[int, int]) -> None:
    network = ImageEncoder(ngf=2, latent_dim=5).double().eval()
    images = torch.rand(2, 3, *size, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        results = network(images)
        expected = encoder_by_hand(network.state_dict(), images)
    for got, want in zip(results, expected, strict=True):
        assert got.shape == (2, 5)
        assert torch.allclose(got, want, rtol=1e-9, atol=1e-12)


def test_initial_weights() -> None:
    network = SpadeGenerator((32, 32), 36, 8)
    init_xavier(network)
    conv = network.G_middle_0.conv_0
    fan = 128 * 9
    assert conv.weight_orig.std().item() == pytest.approx(0.02 * (2 / (fan + fan)) ** 0.5, rel=0.02)
    assert conv.bias.abs().max() == 0
    plain = network.up_3.norm_0.mlp_shared[0].weight
    assert plain.std().item() == pytest.approx(0.02 * (2 / (36 * 9 + 128 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("size", [3, 12])  # input smaller and larger than the weight
@pytest.mark.parametrize("bias", [False, True])
def test_spectral_convolution_is_torchs(size: int, bias: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.utils.spectral_norm(nn.Conv2d(6, 5, 3, 2, 1, bias=bias)).double()
    torch.manual_seed(0)
    ours = SpectralConv2d(6, 5, 3, 2, 1, bias=bias).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    for training in (True, True, False):
        results = []
        for network in (theirs.train(training), ours.train(training)):
            torch.manual_seed(1)
            x = torch.randn(2, 6, size, size, dtype=torch.float64, requires_grad=True)
            y = network(x)
            y.square().sum().backward()
            results.append([y, x.grad, *(parameter.grad for parameter in network.parameters()), *network.buffers()])
        for want, got in zip(*results, strict=True):
            torch.testing.assert_close(got, want)
        with torch.no_grad():
            for parameters in zip(theirs.parameters(), ours.parameters(), strict=True):
                for parameter in parameters:
                    parameter -= 0.01 * parameter.grad
                    parameter.grad = None


@pytest.mark.parametrize("size", [2, 5])
def test_spectral_convolution_has_derivatives_of_second_order(size: int) -> None:
    network = SpectralConv2d(2, 3, 3, padding=1).double().eval()
    x = torch.randn(1, 2, size, size, dtype=torch.float64, requires_grad=True)
    weight = network.weight_orig.detach().clone().requires_grad_()

    def function(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(network, {"weight_orig": weight}, x).square()

    # Off the power iteration's fixed point u is no singular vector, and uᵀ W v is still what is differentiated.
    assert torch.autograd.gradcheck(function, (x, weight))
    assert torch.autograd.gradgradcheck(function, (x, weight))


def test_spectral_convolution_of_channels_last() -> None:
    network = SpectralConv2d(8, 8, 3, padding=1).eval()
    x = torch.randn(2, 8, 16, 16)
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        network.zero_grad()
        network(x.contiguous(memory_format=layout)).square().sum().backward()
        gradients.append(network.weight_orig.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_spectral_norm_is_found_in_full_precision_under_autocast() -> None:
    network = SpectralConv2d(8, 8, 3, padding=1)
    initial = network.weight_u.clone()
    x = torch.randn(1, 8, 4, 4)
    network(x)
    expected = network.weight_u.clone()
    network.weight_u.copy_(initial)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(x).dtype == torch.bfloat16
    assert torch.equal(network.weight_u, expected)


def test_instance_norm_is_torchs() -> None:
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64) * 3 + 1
    torch.testing.assert_close(InstanceNorm()(x), nn.InstanceNorm2d(5)(x))


def test_two_normalisations_of_the_same_features_are_one() -> None:
    pairs = [[nn.BatchNorm2d(3, affine=False).double() for _ in range(2)] for _ in range(2)]
    for _, second in pairs:
        second.running_mean += 0.5  # weights of unknown origin may disagree
    for training in (True, True, False):
        x = torch.randn(4, 3, 5, 5, dtype=torch.float64) * 2 + 1
        for network in (*pairs[0], *pairs[1]):
            network.train(training)
        for got, want in zip(normalise_twice(x, *pairs[0]), (network(x) for network in pairs[1]), strict=True):
            torch.testing.assert_close(got, want)
        for ours, theirs in zip(*pairs, strict=True):
            torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_discriminator_sees_several_images_of_a_map() -> None:
    network = MultiscaleDiscriminator(4 + 3, ndf=4).double().eval()
    semantics, images = torch.rand(2, 4, 32, 64).double(), torch.rand(6, 3, 32, 64).double()
    together = network(semantics, images)
    first = network.discriminator_0.model0[0]
    both = torch.cat([semantics.repeat(3, 1, 1, 1), images], 1)
    torch.testing.assert_close(together[0][0], nn.functional.leaky_relu(first(both), 0.2))
    for part in range(3):
        alone = network(semantics, images[2 * part : 2 * part + 2])
        for layers, own in zip(together, alone, strict=True):
            for layer, expected in zip(layers, own, strict=True):
                torch.testing.assert_close(layer[2 * part : 2 * part + 2], expected)
