"""Networks of StyleGAN2: official outputs in both layouts, and their own invariants."""

import copy
import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from oracles import Case, names
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from models.official import load_official
from models.stylegan2 import Discriminator, Generator
from models.stylegan2.generator import block_channels, block_dtype, mix_styles

BUILDERS = {
    "rosinality": functools.partial(load_official, "stylegan2_rosinality"),
    "ada": functools.partial(load_official, "stylegan2_nvlabs"),
}


@functools.cache
def _network(representative: str) -> nn.Module:
    case = Case(representative)
    options = {key: value for key, value in case.args.items() if key != "mean_path_length"}
    return BUILDERS[representative.split("_")[1]](case.state_dict(), **options)


def official_network(case: Case) -> nn.Module:
    """The network of a case; cases of one group share weights, which take seconds to make."""
    _, peer, kind = case.entry["name"].split("_")[:3]
    if kind == "G":  # f_ada_G_paper256
        return copy.deepcopy(_network(case.entry["name"]))
    return copy.deepcopy(_network(f"f_{peer}_{kind[:3]}"))


@pytest.mark.parametrize("name", names("f_rosinality_G64"))
@torch.no_grad()
def test_generator_gives_the_images_of_rosinality(name: str) -> None:
    case = Case(name)
    generator, inputs = official_network(case), case.tensors()
    forward = case.entry.get("forward", {})
    num_ws = generator.synthesis.num_ws
    w = generator.mapping(inputs["z"])
    case.check("w", w)
    ws = w[:, None].expand(-1, num_ws, -1)
    if "truncation" in forward:
        generator.mapping.w_avg.copy_(inputs["truncation_latent"][0])
        ws = generator.mapping.truncate(w, forward["truncation"], num_ws)
        case.check("latent", ws)
    if "inject_index" in forward:
        start = torch.tensor([forward["inject_index"]])
        ws = mix_styles(w, generator.mapping(inputs["z2"]), num_ws, start)
        case.check("latent", ws)
    noise = [inputs[f"noise{i}"] for i in range(num_ws - 1)] if "noise0" in inputs else "const"
    case.check("image", generator.synthesis(ws, noise))


@pytest.mark.parametrize("name", names("f_ada_G"))
@torch.no_grad()
def test_generator_gives_the_images_of_nvlabs(name: str) -> None:
    case = Case(name)
    generator, z = official_network(case), case.tensors()["z"]
    forward = case.entry.get("forward", {})
    psi, cutoff = forward.get("truncation_psi", 1.0), forward.get("truncation_cutoff")
    w = generator.mapping(z)
    ws = generator.mapping.truncate(w, psi, generator.synthesis.num_ws, cutoff)
    case.check("ws", ws[:, [0, -1]])
    case.check("image", generator(z, psi, "const", cutoff))
    if case.entry["mode"] == "train":
        generator.mapping.track_average(w)
        case.check("w_avg_after", generator.mapping.w_avg)


@pytest.mark.parametrize("name", [*names("f_rosinality_D64"), *names("f_ada_D64")])
@torch.no_grad()
def test_discriminator_gives_the_official_logits(name: str) -> None:
    case = Case(name)
    case.check("logits", official_network(case)(case.tensors()["image"]))


@pytest.mark.parametrize("name", [*names("f_rosinality_keys"), *names("f_ada_keys")])
@pytest.mark.parametrize("network", ["G", "D"])
def test_every_key_of_the_official_networks_has_its_place(name: str, network: str) -> None:
    case = Case(name)
    builder = BUILDERS[name.split("_")[1]]
    with torch.device("meta"):  # full size, but no memory
        state = {key: torch.empty(shape) for key, shape in case.key_shapes(network).items()}
        built = builder(state, **case.args[network])
        stored = {key for key in state if not key.endswith(("kernel", "resample_filter"))}
        added = {"mapping.w_avg"} if "rosinality" in name and network == "G" else set()
        assert len(built.state_dict()) == len(stored) + len(added)
        for key in stored:
            with pytest.raises(Exception, match=r"missing|checkpoint"):
                builder({k: v for k, v in state.items() if k != key}, **case.args[network])


@pytest.mark.parametrize("resolution", [16, 32, 128])
def test_networks_of_any_power_of_two(resolution: int) -> None:
    generator, discriminator = Generator(resolution, 8, 2, 256, 16), Discriminator(resolution, 256, 16)
    images = generator(torch.randn(2, 8))
    assert images.shape == (2, 3, resolution, resolution)
    assert discriminator(images).shape == (2, 1)
    channels = [block.layers[-1].weight.shape[0] for block in generator.synthesis.blocks.values()]
    assert channels == [min(256 // size, 16) for size in (4, 8, 16, 32, 64, 128) if size <= resolution]
    assert generator.synthesis.num_ws == 2 * (resolution.bit_length() - 1) - 2


def test_channels_of_the_published_configurations() -> None:
    sizes = [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    config_f = [512, 512, 512, 512, 512, 256, 128, 64, 32]
    assert [block_channels(size, 32768, 512) for size in sizes] == config_f
    assert [block_channels(size, 16384, 512) for size in sizes[:7]] == [512, 512, 512, 512, 256, 128, 64]


def tiny_generator() -> Generator:
    generator = Generator(8, 4, 2, 32, 4).double()
    for layer in generator.synthesis.noise_layers():
        nn.init.constant_(layer.noise_strength, 0.3)
    return generator


def test_generator_has_derivatives_of_second_order() -> None:
    synthesis = tiny_generator().synthesis
    ws = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(synthesis, ws)
    assert gradgradcheck(synthesis, ws)


def test_discriminator_has_derivatives_of_second_order() -> None:
    discriminator = Discriminator(8, 16, 2).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert gradcheck(discriminator, images)
    assert gradgradcheck(discriminator, images)


def test_noise_is_fixed_random_absent_or_given() -> None:
    generator = tiny_generator()
    ws = torch.randn(2, 4, 4, dtype=torch.float64)
    synthesis = generator.synthesis
    fixed = synthesis(ws, "const")
    assert torch.equal(fixed, synthesis(ws, "const"))
    given = [layer.noise_const for layer in synthesis.noise_layers()]
    assert torch.equal(fixed, synthesis(ws, given))
    silent = [torch.zeros_like(noise) for noise in given]
    torch.testing.assert_close(synthesis(ws, "none"), synthesis(ws, silent))
    assert not torch.equal(synthesis(ws, "random"), synthesis(ws, "random"))
    with pytest.raises(ValueError, match="noise for each of 3 layers, got 2"):
        synthesis(ws, given[:2])
    with pytest.raises(ValueError, match="one w for each of 4 layers"):
        synthesis(ws[:, :3])


def test_truncation_draws_towards_the_mean() -> None:
    mapping = tiny_generator().mapping
    mapping.w_avg.copy_(torch.arange(4))
    w = torch.randn(3, 4, dtype=torch.float64)
    assert torch.equal(mapping.truncate(w, 1.0, 5), w[:, None].expand(-1, 5, -1))
    assert torch.equal(mapping.truncate(w, 0.0, 5), mapping.w_avg.expand(3, 5, 4))
    cut = mapping.truncate(w, 0.25, 5, cutoff=2)
    torch.testing.assert_close(cut[:, :2], (0.75 * mapping.w_avg + 0.25 * w)[:, None].expand(-1, 2, -1))
    assert torch.equal(cut[:, 2:], w[:, None].expand(-1, 3, -1))


def test_mixing_switches_each_image_at_its_own_layer() -> None:
    first, second = torch.zeros(3, 2), torch.ones(3, 2)
    mixed = mix_styles(first, second, 4, torch.tensor([1, 3, 4]))
    assert mixed[..., 0].tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_low_precision_is_for_the_highest_resolutions_and_float16_for_a_gpu() -> None:
    def types(low: Any, count: int, is_cuda: bool) -> list[torch.dtype]:
        like: Any = SimpleNamespace(is_cuda=is_cuda, dtype=torch.float32)
        return [block_dtype(8 << i, 256, count, low, like) for i in range(6)]

    full = torch.float32
    assert types("float16", 4, True) == [full] * 2 + [torch.float16] * 4
    assert types("float16", 0, True) == types("float16", 4, False) == [full] * 6
    assert types("bfloat16", 4, False) == types("bfloat16", 4, True) == [full] * 2 + [torch.bfloat16] * 4


def test_networks_in_bfloat16_are_near_those_in_float32() -> None:
    torch.manual_seed(0)
    z, images = torch.randn(4, 16), torch.rand(4, 3, 32, 32) * 2 - 1
    found = {}
    for low, count in (("float32", 0), ("bfloat16", 2)):
        torch.manual_seed(1)
        half: Any = {"num_low_precision": count} | ({"low_precision": low} if count else {})
        generator, discriminator = Generator(32, 16, 2, 512, 16, **half), Discriminator(32, 512, 16, **half)
        inside: list[torch.dtype] = []
        for block in (generator.synthesis.blocks["32"].layers[0], discriminator.blocks["32"]):
            block.register_forward_hook(lambda *of, kept=inside: kept.append(of[2].dtype))
        fake, logits = generator(z), discriminator(images)
        assert inside == [getattr(torch, low)] * 2
        assert fake.dtype == logits.dtype == torch.float32
        found[low] = fake, logits
    for full, half in zip(*found.values(), strict=True):
        assert 0 < (full - half).norm() / full.norm() < 0.05


def test_a_block_in_float16_agrees_with_float32() -> None:
    block = Generator(8, 16, 2, 128, 16, clamp=256.0).synthesis.blocks["8"]
    x, image, ws = torch.randn(2, 16, 4, 4), torch.randn(2, 3, 4, 4), torch.randn(2, 3, 16)
    want_x, want_image = block(x, image, ws, [None, None], torch.float32)
    got_x, got_image = block(x, image, ws, [None, None], torch.float16)
    assert got_x.dtype == torch.float16
    assert got_image.dtype == torch.float32  # the image adds up in full precision
    torch.testing.assert_close(got_x.float(), want_x, atol=2e-2, rtol=1e-2)
    torch.testing.assert_close(got_image, want_image, atol=2e-2, rtol=1e-2)


def test_clamp_limits_activations() -> None:
    torch.manual_seed(1)
    free, clamped = Generator(8, 16, 2, 128, 16), Generator(8, 16, 2, 128, 16, clamp=0.5)
    clamped.load_state_dict(free.state_dict())
    ws = torch.randn(2, 4, 16)
    largest: list[Tensor] = []
    for layer in clamped.synthesis.noise_layers():
        layer.register_forward_hook(lambda module, inputs, output: largest.append(output.abs().amax()))
    difference = clamped.synthesis(ws) - free.synthesis(ws)
    assert torch.stack(largest).amax() == 0.5
    assert difference.abs().amax() > 0.1


def test_networks_compile_without_graph_breaks() -> None:
    synthesis, discriminator = Generator(16, 8, 2, 128, 8).synthesis, Discriminator(16, 128, 8)
    ws = torch.randn(2, synthesis.num_ws, 8)
    want = synthesis(ws)
    got = torch.compile(synthesis, fullgraph=True, backend="aot_eager")(ws)
    torch.testing.assert_close(got, want)
    compiled = torch.compile(discriminator, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(want), discriminator(want))


def test_discriminator_refuses_images_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"expected images \(N, 3, 16, 16\), got \(1, 3, 8, 8\)"):
        Discriminator(16, 128, 8)(torch.zeros(1, 3, 8, 8))
