"""SPADE's networks against the official ones."""

import pytest
import torch
from oracles import Case, names
from torch import Tensor, nn

from models.spade import ImageEncoder, MultiscaleDiscriminator, SpadeGenerator
from models.spade.encoder import INPUT_SIZE
from models.spade.generator import DOUBLINGS
from models.spade.layers import init_xavier, spectral_instance


def semantic_channels(case: Case) -> int:
    args = case.args
    return args["label_nc"] + args["contain_dontcare_label"] + (not args["no_instance"])


def generator(case: Case) -> SpadeGenerator:
    args = case.args
    return SpadeGenerator(
        (int(args["crop_size"] / args["aspect_ratio"]), args["crop_size"]),
        semantic_channels(case),
        args["ngf"],
        args["num_upsampling_layers"],
        args["z_dim"] if args.get("use_vae") else None,
    )


def shapes(network: nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in network.state_dict().items()}


@pytest.mark.parametrize("name", names("e_spade_G"))
def test_generator_is_the_official_one(name: str) -> None:
    case = Case(name)
    network = generator(case)
    assert shapes(network) == case.key_shapes()
    network.load_state_dict(case.state_dict())
    inputs = case.tensors()
    with torch.no_grad():
        image = network.train("train" in case.entry["mode"])(inputs["semantics"], inputs.get("z"))
    case.check("output", image)
    if "train" in case.entry["mode"]:
        case.check("head_0.conv_0.weight_u", network.head_0.conv_0.weight_u)
        case.check("head_0.norm_0.running_var", network.head_0.norm_0.param_free_norm.running_var)


@pytest.mark.parametrize("name", names("e_spade_D"))
def test_discriminator_is_the_official_one(name: str) -> None:
    case = Case(name)
    network = MultiscaleDiscriminator(semantic_channels(case) + 3, case.args["ndf"])
    assert shapes(network) == case.key_shapes()
    network.load_state_dict(case.state_dict())
    inputs = case.tensors()
    with torch.no_grad():
        scales = network.eval()(torch.cat([inputs["semantics"], inputs["image"]], 1))
    for scale, layers in enumerate(scales):
        for layer, features in enumerate(layers):
            case.check(f"D{scale}_feature{layer}", features)


@pytest.mark.parametrize("name", names("e_spade_keys"))
def test_keys_at_full_size(name: str) -> None:
    case = Case(name)
    with torch.device("meta"):
        assert shapes(generator(case)) == case.key_shapes("G")
        discriminator = MultiscaleDiscriminator(semantic_channels(case) + 3, case.args["ndf"])
    assert shapes(discriminator) == case.key_shapes("D")


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


def test_a_bias_before_instance_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="without bias"):
        spectral_instance(nn.Conv2d(3, 4, 3))
