"""Loading of official StyleGAN2 checkpoints: what is read from them, and what is refused."""

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from official_files import nvlabs_state, rosinality_state, small_generator
from torch import Tensor, nn

from ffl.errors import UserError
from models.official import load_official
from models.stylegan2 import Discriminator

rosinality, nvlabs = (functools.partial(load_official, f"stylegan2_{form}") for form in ("rosinality", "nvlabs"))


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


@pytest.mark.parametrize("build", [rosinality, nvlabs])
@pytest.mark.parametrize("state", [{}, {"fc.weight": torch.zeros(2, 2)}])
def test_another_network_is_refused(build: Callable[..., nn.Module], state: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="no complete stylegan2_"):
        build(state)


@pytest.mark.parametrize(("build", "make"), [(rosinality, rosinality_state), (nvlabs, nvlabs_state)])
@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_networks_of_data_parallel(build: Callable[..., nn.Module], make: Callable[..., Any], kind: str) -> None:
    network = small_generator() if kind == "generator" else Discriminator(16, 128, 16)
    prefixed = {f"module.{key}": value for key, value in make(network).items()}
    assert same(build(prefixed), network, skip=("mapping.w_avg",))


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
