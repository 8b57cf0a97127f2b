"""Loading of official StyleGAN2 checkpoints: what is read from them, and what is refused."""

import functools
import re

import pytest
import torch
from torch import Tensor

from ffl.errors import UserError
from models.official import load_official
from models.stylegan2 import Discriminator, Generator
from models.stylegan2.official import (
    nvlabs_discriminator_keys,
    nvlabs_generator_keys,
    rosinality_discriminator_keys,
    rosinality_generator_keys,
)

rosinality, nvlabs = (functools.partial(load_official, f"stylegan2_{form}") for form in ("rosinality", "nvlabs"))
SIZES = [4, 8, 16]


def small_generator() -> Generator:
    generator = Generator(16, 8, 3, 128, 16)
    generator.mapping.w_avg.copy_(torch.randn(8))
    return generator


def rosinality_state(network: Generator | Discriminator) -> dict[str, Tensor]:
    generator = isinstance(network, Generator)
    keys = rosinality_generator_keys(3, 3) if generator else rosinality_discriminator_keys(3)
    own = network.state_dict()
    state = {theirs: own[ours].clone() for theirs, ours in keys.items()}
    for key in state:
        if key.endswith("noise.weight"):
            state[key] = state[key].reshape(1)
        elif generator and key.endswith(".conv.weight"):
            state[key] = state[key][None]
        elif key.startswith("noises."):
            state[key] = state[key][None, None]
    kernel = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
    if generator:
        state |= {"convs.0.conv.blur.kernel": 4 * kernel, "to_rgbs.0.upsample.kernel": 4 * kernel}
    else:
        state |= {"convs.1.conv2.0.kernel": kernel, "convs.1.skip.0.kernel": kernel}
    return state


def nvlabs_state(network: Generator | Discriminator) -> dict[str, Tensor]:
    generator = isinstance(network, Generator)
    keys = nvlabs_generator_keys(SIZES, 3) if generator else nvlabs_discriminator_keys(SIZES)
    own = network.state_dict()
    return {theirs: own[ours].clone() for theirs, ours in keys.items()}


def same(first: torch.nn.Module, second: torch.nn.Module, skip: tuple[str, ...] = ()) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one if key not in skip)


@pytest.mark.parametrize("part", ["g_ema", "g", "d"])
def test_whole_checkpoint_of_rosinality(part: str) -> None:
    networks = {"g_ema": small_generator(), "g": small_generator(), "d": Discriminator(16, 128, 16)}
    checkpoint = {name: rosinality_state(network) for name, network in networks.items()}
    checkpoint |= {"latent_avg": networks["g"].mapping.w_avg.clone()}
    loaded = rosinality(checkpoint, part=part)
    assert same(loaded, networks[part], skip=("mapping.w_avg",))
    assert not loaded.training
    if part != "d":
        assert torch.equal(loaded.mapping.w_avg, checkpoint["latent_avg"])


def test_checkpoint_without_a_mean_gets_an_estimate() -> None:
    generator = small_generator()
    loaded = rosinality(rosinality_state(generator))
    want = generator.mapping(torch.randn(20000, 8)).mean(0)
    torch.testing.assert_close(loaded.mapping.w_avg, want, atol=5 * want.std().item() / 64 + 0.02, rtol=0)
    again = rosinality(rosinality_state(generator))
    assert torch.equal(again.mapping.w_avg, loaded.mapping.w_avg)


def test_state_dicts_of_nvlabs() -> None:
    generator, discriminator = small_generator(), Discriminator(16, 128, 16, mbstd_group=2)
    loaded = nvlabs(nvlabs_state(generator), img_resolution=16, mapping_kwargs={"num_layers": 3})
    assert same(loaded, generator)
    assert loaded.synthesis.blocks["16"].to_rgb.clamp == 256
    options = {"epilogue_kwargs": {"mbstd_group_size": 2}, "conv_clamp": None, "channel_base": 128, "channel_max": 16}
    loaded = nvlabs(nvlabs_state(discriminator), **options)
    assert same(loaded, discriminator)
    images = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(loaded(images), discriminator(images))


@pytest.mark.parametrize(
    ("builder", "state", "key"),
    [
        (rosinality, rosinality_state, "convs.1.conv.modulation.bias"),
        (nvlabs, nvlabs_state, "synthesis.b8.conv0.affine.bias"),
    ],
)
def test_wrong_keys_are_named_in_one_line(builder, state, key: str) -> None:
    good = state(small_generator())
    cases = {
        f"missing: {key}": {k: v for k, v in good.items() if k != key},
        "unexpected: surplus.weight": good | {"surplus.weight": torch.zeros(1)},
        f"wrong shape: {key} (7,) for ": good | {key: torch.zeros(7)},
        f"{key} is a str": good | {key: "text"},
    }
    for message, broken in cases.items():
        with pytest.raises(UserError, match=re.escape(message)) as error:
            builder(broken)
        assert "\n" not in str(error.value)


def test_another_network_is_refused() -> None:
    for builder in (rosinality, nvlabs):
        with pytest.raises(UserError, match="no complete stylegan2_"):
            builder({"fc.weight": torch.zeros(2, 2)})
        with pytest.raises(UserError, match="no complete stylegan2_"):
            builder({})


def test_checkpoint_without_the_part_is_refused() -> None:
    with pytest.raises(UserError, match="has no g_ema, it holds g"):
        rosinality({"g": rosinality_state(small_generator())})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 32}, "size=32, but by its weights it is 16"),
        ({"n_mlp": 8}, "n_mlp=8, but by its weights it is 3"),
        ({"channel_multiplier": 2}, r"make channels \[16, 16, 16\], but by its weights they are \[16, 16, 8\]"),
        ({"blur_kernel": [1, 2, 1]}, "blur_kernel"),
        ({"sise": 16}, "unknown option sise"),
    ],
)
def test_options_that_contradict_the_weights_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rosinality(rosinality_state(small_generator()), **options)


def test_other_low_pass_filters_are_refused() -> None:
    state = rosinality_state(small_generator())
    state["to_rgbs.0.upsample.kernel"] = state["to_rgbs.0.upsample.kernel"] / 4  # that of the other layout
    with pytest.raises(UserError, match=r"to_rgbs.0.upsample.kernel is another low-pass filter"):
        rosinality(state)
    state = nvlabs_state(small_generator()) | {"synthesis.b8.resample_filter": torch.ones(2, 2) / 4}
    with pytest.raises(UserError, match=r"synthesis.b8.resample_filter is another low-pass filter"):
        nvlabs(state)


def test_networks_with_classes_are_refused() -> None:
    state = nvlabs_state(small_generator()) | {"mapping.embed.weight": torch.zeros(8, 10)}
    with pytest.raises(UserError, match="classes"):
        nvlabs(state)


def test_channels_that_follow_no_rule_are_refused() -> None:
    state = nvlabs_state(small_generator())
    state["synthesis.b8.conv1.weight"] = torch.zeros(5, 16, 3, 3)
    with pytest.raises(UserError, match=r"channels \[16, 5, 8\] from 4x4 up"):
        nvlabs(state)
