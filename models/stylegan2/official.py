"""Official StyleGAN2 checkpoints, in the layouts of two implementations, for our networks.

Both store the same network: keys are renamed and axes of length one dropped or added. The low-pass filters, which they
store and we compute, are compared. Architectures are read from shapes.

- "rosinality": a file holds ``g_ema``, ``g``, ``d`` and, where it was converted, ``latent_avg``. Its upsampling filters
  include the gain of 4.
- "nvlabs": state dicts of the official PyTorch networks (StyleGAN2-ADA), whose filters have gain 1.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ffl.errors import UserError
from ffl.state_dicts import Architecture, StateDict, check_keys, load_strict, shorten
from models.stylegan2.discriminator import Discriminator
from models.stylegan2.generator import (
    BOTTOM,
    MAPPING_LR_MULTIPLIER,
    Generator,
    MappingNetwork,
    block_channels,
    block_resolutions,
)
from models.stylegan2.ops import FIR_TAPS, fir_kernel

Keys = dict[str, str]  # official key to ours
SAME = {"weight": "weight", "bias": "bias"}  # tensors that both call alike
Part = Literal["g_ema", "g", "d"]

FILTERS = ("kernel", "resample_filter")  # ends of the keys of low-pass filters
ROSINALITY_BASE = 16384  # channel base of channel_multiplier=1
# Official arguments that say nothing of what a network computes, given its weights.
TRAINING_ARGUMENTS = {"freeze_layers", "fp16_channels_last", "w_avg_beta"}
AVERAGE_LATENTS = 4096  # what the official program averages w over where no mean is stored


def rosinality_network(
    state_dict: Mapping[str, Any], part: Part = "g_ema", mbstd_group: int = 4, **options: Any
) -> Architecture:
    """The network that weights in the layout of rosinality/stylegan2-pytorch belong to.

    A generator's mean latent is the stored one, else estimated from 4096 fixed latents.

    Args:
        state_dict: a whole checkpoint, or the state dict of one network in it, whose kind its keys tell.
        part: which network of a whole checkpoint.
        mbstd_group: of the discriminator; 4 in the official program.
        options: arguments of the official networks, checked against the weights: ``size``, ``style_dim``,
            ``n_mlp``, ``channel_multiplier``, ``blur_kernel``, ``lr_mlp``.
    Raises:
        UserError: for missing or unexpected keys, a checkpoint without the part, or an option that does not fit.
    """
    tensors = dict(state_dict)
    average = tensors.pop("latent_avg", None)
    if isinstance(tensors.get(part), Mapping):
        tensors = dict(tensors[part])
    elif any(isinstance(value, Mapping) for value in tensors.values()):
        raise UserError(f"stylegan2_rosinality: the checkpoint has no {part}, it holds {shorten(list(tensors))}")
    weights = StateDict("stylegan2_rosinality", tensors)
    known: dict[str, Any] = {"blur_kernel": list(FIR_TAPS)}
    if not any(key.startswith(("style.", "to_rgb1.", "input.")) for key in weights.tensors):
        num_blocks = 1 + largest(weights, r"convs\.(\d{1,4})\.")
        keys = rosinality_discriminator_keys(num_blocks)
        check_keys(weights.tensors, weights.kind, keys, ignored=FILTERS)
        inputs = ["final_conv.0", *(f"convs.{i}.conv1.0" for i in range(num_blocks - 1, 0, -1))]
        channels = [weights.shape(f"{name}.weight")[0] for name in inputs]
        arguments = {**shared_arguments(weights, channels, known, options), "mbstd_group": mbstd_group}
        return Architecture(weights, Discriminator, arguments, keys, FILTERS)

    num_blocks = 2 + largest(weights, r"to_rgbs\.(\d{1,4})\.")
    num_layers = largest(weights, r"style\.(\d{1,4})\.")
    keys = rosinality_generator_keys(num_blocks, num_layers)
    check_keys(weights.tensors, weights.kind, keys, ignored=FILTERS)
    latent_dim = weights.shape("style.1.weight", (2,))[1]
    known |= {"style_dim": latent_dim, "n_mlp": num_layers, "lr_mlp": MAPPING_LR_MULTIPLIER}
    convolutions = ["conv1", *(f"convs.{2 * i + 1}" for i in range(num_blocks - 1))]
    channels = [weights.shape(f"{name}.conv.weight", (5,))[1] for name in convolutions]
    arguments = {**shared_arguments(weights, channels, known, options), "latent_dim": latent_dim}
    if average is None:
        average = average_latent(weights, keys, latent_dim, num_layers)
    weights.tensors |= StateDict(weights.kind, {"latent_avg": average}).tensors
    keys["latent_avg"] = "mapping.w_avg"
    return Architecture(weights, Generator, {**arguments, "num_mapping_layers": num_layers}, keys, FILTERS)


def nvlabs_network(
    state_dict: Mapping[str, Any],
    conv_clamp: float | None = 256.0,
    num_fp16_res: int = 0,
    mbstd_group_size: int = 4,
    **options: Any,
) -> Architecture:
    """The network that weights in the official PyTorch layout (NVlabs/stylegan2-ada-pytorch) belong to.

    Args:
        state_dict: of one network without classes, whose kind its keys tell.
        conv_clamp: limit of activations; the official training program always sets 256.
        num_fp16_res: how many of the highest resolutions run in float16 on a GPU; 0 is exact.
        mbstd_group_size: of the discriminator; 8 in the official 256x256 networks.
        options: other arguments of the official networks, checked against the weights: ``z_dim``, ``w_dim``, ``c_dim``,
            ``img_resolution``, ``img_channels``, ``channel_base``, ``channel_max``, ``num_layers``; also inside
            ``mapping_kwargs``, ``synthesis_kwargs`` and ``epilogue_kwargs``.
    Raises:
        UserError: for missing or unexpected keys, a network with classes, or an option that does not fit.
    """
    options = {name: value for name, value in flatten(options).items() if name not in TRAINING_ARGUMENTS}
    conv_clamp = options.pop("conv_clamp", conv_clamp)
    num_fp16_res = options.pop("num_fp16_res", num_fp16_res)
    mbstd_group_size = options.pop("mbstd_group_size", mbstd_group_size)
    of_run = {"clamp": conv_clamp, "num_low_precision": num_fp16_res}
    weights = StateDict("stylegan2_nvlabs", state_dict)
    if any("embed." in key for key in weights.tensors):
        raise UserError("stylegan2_nvlabs: a network with classes (c_dim > 0), which is not supported")
    known: dict[str, Any] = {"c_dim": 0, "img_channels": 3, "activation": "lrelu", "resample_filter": list(FIR_TAPS)}
    if not any(key.startswith(("synthesis.", "mapping.")) for key in weights.tensors):
        sizes = block_resolutions(max(8, largest(weights, r"b(\d{1,4})\.")))
        keys = nvlabs_discriminator_keys(sizes)
        check_keys(weights.tensors, weights.kind, keys, ignored=FILTERS)
        known |= {"mbstd_num_channels": 1, "architecture": "resnet"}
        channels = [weights.shape(f"{name}.weight")[0] for name in ("b4.conv", *(f"b{n}.conv0" for n in sizes[1:]))]
        arguments = {**shared_arguments(weights, channels, known, options), **of_run, "mbstd_group": mbstd_group_size}
        return Architecture(weights, Discriminator, arguments, keys, FILTERS)

    sizes = block_resolutions(max(8, largest(weights, r"synthesis\.b(\d{1,4})\.")))
    num_layers = 1 + largest(weights, r"mapping\.fc(\d{1,4})\.")
    keys = nvlabs_generator_keys(sizes, num_layers)
    check_keys(weights.tensors, weights.kind, keys, ignored=FILTERS)
    latent_dim = weights.shape("mapping.fc0.weight", (2,))[1]
    known |= {"z_dim": latent_dim, "w_dim": latent_dim, "layer_features": latent_dim, "num_layers": num_layers}
    known |= {"lr_multiplier": MAPPING_LR_MULTIPLIER, "use_noise": True, "architecture": "skip"}
    channels = [weights.shape(f"synthesis.b{size}.conv1.weight")[0] for size in sizes]
    arguments = {**shared_arguments(weights, channels, known, options), **of_run}
    arguments |= {"latent_dim": latent_dim, "num_mapping_layers": num_layers}
    return Architecture(weights, Generator, arguments, keys, FILTERS)


def largest(weights: StateDict, pattern: str) -> int:
    """The largest number that the regular expression captures at the start of a key; 0 if there is none."""
    return max((int(found[1]) for key in weights.tensors if (found := re.match(pattern, key))), default=0)


def shared_arguments(
    weights: StateDict, channels: list[int], known: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, int]:
    """What generators and discriminators alike are built with, after a check of the options and of the filters.

    Args:
        weights: all keys are there.
        channels: at 4x4, 8x8 and so on.
        known: names of official options to what they are by the weights, but for size and channels.
        options: official names to values; None is the official program's default.
    Raises:
        UserError: for channels that follow no rule, an option that does not fit, or another low-pass filter.
    """
    # The channels must follow the one rule that our networks are built by.
    sizes = [BOTTOM << i for i in range(len(channels))]
    base, most = sizes[-1] * channels[-1], channels[0]
    if [block_channels(size, base, most) for size in sizes] != channels:
        raise UserError(
            f"{weights.kind}: channels {channels} from 4x4 up are not min(base / resolution, max) for any base and max"
        )

    # Several bases and maxima can make the same channels: those of the options need not be ours.
    given: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in options.items() if value is not None
    }
    rule: dict[str, Any] = {
        name: given.pop(name) for name in ("channel_base", "channel_multiplier", "channel_max") if name in given
    }
    given_base = rule.get("channel_base", int(rule.get("channel_multiplier", 0) * ROSINALITY_BASE) or base)
    expected = [block_channels(size, given_base, rule.get("channel_max", most)) for size in sizes]
    if expected != channels:
        raise UserError(f"{weights.kind}: {rule} make channels {expected}, but by its weights they are {channels}")
    weights.check_options({**known, "size": sizes[-1], "img_resolution": sizes[-1]}, given)

    # A checkpoint with another filter would load, and make images that are subtly wrong.
    for key, value in weights.tensors.items():
        if key.endswith(FILTERS) and not value.is_meta:
            with_gain = key.endswith((".conv.blur.kernel", ".upsample.kernel"))  # "rosinality" where it upsamples
            kernel = fir_kernel() * (4 if with_gain else 1)
            if value.shape != kernel.shape or not torch.allclose(value.cpu().float(), kernel, atol=1e-6):
                raise UserError(
                    f"{weights.kind}: {key} is another low-pass filter than {list(FIR_TAPS)}, which is not supported"
                )
    return {"resolution": sizes[-1], "channel_base": base, "channel_max": most}


@torch.no_grad()
def average_latent(weights: StateDict, keys: Keys, latent_dim: int, num_layers: int) -> Tensor:
    """The centre of truncation where a checkpoint stores none: the mean of w over fixed latents, (latent_dim,)."""
    mapping = MappingNetwork(latent_dim, num_layers)
    names = {key: ours.removeprefix("mapping.") for key, ours in keys.items() if ours.startswith("mapping.")}
    load_strict(mapping, {key: weights.tensors[key] for key in names}, weights.kind, names)
    # Fixed latents, so that the same file gives the same images on every machine.
    z = np.random.RandomState(0).standard_normal((AVERAGE_LATENTS, latent_dim))
    return mapping(torch.from_numpy(z).to(mapping.w_avg.device, torch.float32)).mean(0)


def flatten(options: Mapping[str, Any]) -> dict[str, Any]:
    """The official programs nest the arguments of sub-networks in ``..._kwargs``."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if name.endswith("_kwargs") and isinstance(value, Mapping):
            flat |= flatten(value)
        else:
            flat[name] = value
    return flat


def _pairs(parts: Iterable[tuple[str, str]], names: Mapping[str, str]) -> Keys:
    """Every official module in ``parts`` combined with every tensor in ``names``."""
    return {f"{theirs}.{a}": f"{ours}.{b}" for theirs, ours in parts for a, b in names.items()}


def _synthesis_layers(num_blocks: int) -> Iterator[tuple[int, int, str]]:
    """(resolution, layer within the block, our module) from the lowest resolution up."""
    # The first block starts from a constant, and so lacks the layer that doubles the resolution.
    for block in range(num_blocks):
        for layer in range(1 if block == 0 else 2):
            yield BOTTOM << block, layer, f"synthesis.blocks.{BOTTOM << block}.layers.{layer}"


def rosinality_generator_keys(num_blocks: int, num_layers: int) -> Keys:
    """Official keys to ours, for ``num_blocks`` resolutions and ``num_layers`` of the mapping network."""
    keys = {"input.input": "synthesis.blocks.4.const"}
    keys |= _pairs(((f"style.{i + 1}", f"mapping.layers.{i}") for i in range(num_layers)), SAME)
    for index, (_, _, ours) in enumerate(_synthesis_layers(num_blocks)):
        theirs = "conv1" if index == 0 else f"convs.{index - 1}"
        keys |= {
            f"{theirs}.conv.weight": f"{ours}.weight",
            f"{theirs}.conv.modulation.weight": f"{ours}.affine.weight",
            f"{theirs}.conv.modulation.bias": f"{ours}.affine.bias",
            f"{theirs}.noise.weight": f"{ours}.noise_strength",
            f"{theirs}.activate.bias": f"{ours}.bias",
            f"noises.noise_{index}": f"{ours}.noise_const",
        }
    rgb = ["to_rgb1", *(f"to_rgbs.{i}" for i in range(num_blocks - 1))]
    blocks = [f"synthesis.blocks.{BOTTOM << i}.to_rgb" for i in range(num_blocks)]
    names = {
        "bias": "bias",
        "conv.weight": "weight",
        "conv.modulation.weight": "affine.weight",
        "conv.modulation.bias": "affine.bias",
    }
    return keys | _pairs(zip(rgb, blocks, strict=True), names)


def rosinality_discriminator_keys(num_blocks: int) -> Keys:
    """Official keys to ours, for ``num_blocks`` resolutions, 4x4 included."""
    keys = {"convs.0.0.weight": "from_rgb.weight", "convs.0.1.bias": "from_rgb.bias"}
    names = {
        "conv1.0.weight": "conv0.weight",
        "conv1.1.bias": "conv0.bias",
        "conv2.1.weight": "conv1.weight",
        "conv2.2.bias": "conv1.bias",
        "skip.1.weight": "skip.weight",
    }
    keys |= _pairs(((f"convs.{i}", f"blocks.{BOTTOM << (num_blocks - i)}") for i in range(1, num_blocks)), names)
    return keys | {
        "final_conv.0.weight": "conv.weight",
        "final_conv.1.bias": "conv.bias",
        "final_linear.0.weight": "linear.weight",
        "final_linear.0.bias": "linear.bias",
        "final_linear.1.weight": "out.weight",
        "final_linear.1.bias": "out.bias",
    }


def nvlabs_generator_keys(sizes: list[int], num_layers: int) -> Keys:
    """Official keys to ours, for resolutions from 4 up and ``num_layers`` of the mapping network."""
    keys = {"synthesis.b4.const": "synthesis.blocks.4.const", "mapping.w_avg": "mapping.w_avg"}
    keys |= _pairs(((f"mapping.fc{i}", f"mapping.layers.{i}") for i in range(num_layers)), SAME)
    affine = SAME | {"affine.weight": "affine.weight", "affine.bias": "affine.bias"}
    layers = (
        (f"synthesis.b{size}.conv{layer if size > BOTTOM else 1}", ours)
        for size, layer, ours in _synthesis_layers(len(sizes))
    )
    keys |= _pairs(layers, affine | {"noise_strength": "noise_strength", "noise_const": "noise_const"})
    rgb = ((f"synthesis.b{size}.torgb", f"synthesis.blocks.{size}.to_rgb") for size in sizes)
    return keys | _pairs(rgb, affine)


def nvlabs_discriminator_keys(sizes: list[int]) -> Keys:
    """Official keys to ours, for resolutions from 4 up."""
    modules = [(f"b{sizes[-1]}.fromrgb", "from_rgb"), ("b4.conv", "conv"), ("b4.fc", "linear"), ("b4.out", "out")]
    for size in sizes[1:]:
        modules += [(f"b{size}.conv{i}", f"blocks.{size}.conv{i}") for i in range(2)]
    skips = ((f"b{size}.skip", f"blocks.{size}.skip") for size in sizes[1:])
    return _pairs(modules, SAME) | _pairs(skips, {"weight": "weight"})
