"""Official StyleGAN2 checkpoints, in the layouts of two implementations, loaded into our networks.

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
from torch import Tensor, nn

from ffl.errors import UserError
from models.official import Checkpoint, State, refuse, shorten
from models.stylegan2.discriminator import Discriminator
from models.stylegan2.generator import (
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


def rosinality_from_state_dict(
    state_dict: State, part: Part = "g_ema", mbstd_group: int = 4, **options: Any
) -> Generator | Discriminator:
    """A network of the rosinality/stylegan2-pytorch layout.

    Args:
        state_dict: a whole checkpoint, or the state dict of one network in it, whose kind its keys tell.
        part: which network of a whole checkpoint.
        mbstd_group: of the discriminator; 4 in the official program.
        options: arguments of the official networks, checked against the weights: ``size``, ``style_dim``,
            ``n_mlp``, ``channel_multiplier``, ``blur_kernel``, ``lr_mlp``.
    Returns:
        The network in evaluation mode. The mean latent is the stored one, else estimated from 4096 fixed latents.
    Raises:
        UserError: naming keys that are missing, unexpected or of another shape, or an option that does not fit.
    """
    state = dict(state_dict)
    average = state.pop("latent_avg", None)
    if isinstance(state.get(part), Mapping):
        state = dict(state[part])
    elif any(isinstance(value, Mapping) for value in state.values()):
        raise UserError(f"stylegan2_rosinality: the checkpoint has no {part}, it holds {shorten(list(state))}")
    file = StyleGAN2Checkpoint("stylegan2_rosinality", state)
    known: dict[str, Any] = {"blur_kernel": list(FIR_TAPS)}
    if any(key.startswith(("style.", "to_rgb1.", "input.")) for key in file.state):
        num_blocks = 2 + file.largest(r"to_rgbs\.(\d{1,4})\.")
        num_layers = file.largest(r"style\.(\d{1,4})\.")
        keys = rosinality_generator_keys(num_blocks, num_layers)
        file.check_keys(keys)
        convolutions = ["conv1", *(f"convs.{2 * i + 1}" for i in range(num_blocks - 1))]
        base, most = file.channel_rule([file.shape(f"{name}.conv.weight", (5,))[1] for name in convolutions])
        latent_dim = file.shape("style.1.weight", (2,))[1]
        known |= {"style_dim": latent_dim, "n_mlp": num_layers, "lr_mlp": MAPPING_LR_MULTIPLIER}
        file.check_options(known, options)
        generator = Generator(4 << (num_blocks - 1), latent_dim, num_layers, base, most)
        file.load_renamed(generator, keys)
        _set_average(generator.mapping, average)
        return generator.eval()
    num_blocks = 1 + file.largest(r"convs\.(\d{1,4})\.")
    keys = rosinality_discriminator_keys(num_blocks)
    file.check_keys(keys)
    inputs = ["final_conv.0", *(f"convs.{i}.conv1.0" for i in range(num_blocks - 1, 0, -1))]
    base, most = file.channel_rule([file.shape(f"{name}.weight")[0] for name in inputs])
    file.check_options(known, options)
    discriminator = Discriminator(4 << (num_blocks - 1), base, most, mbstd_group)
    file.load_renamed(discriminator, keys)
    return discriminator.eval()


def nvlabs_from_state_dict(
    state_dict: State,
    conv_clamp: float | None = 256.0,
    num_fp16_res: int = 0,
    mbstd_group_size: int = 4,
    **options: Any,
) -> Generator | Discriminator:
    """A network of the official PyTorch layout (NVlabs/stylegan2-ada-pytorch), without classes.

    Args:
        state_dict: of one network, whose kind its keys tell.
        conv_clamp: limit of activations; the official training program always sets 256.
        num_fp16_res: how many of the highest resolutions run in float16 on a GPU; 0 is exact.
        mbstd_group_size: of the discriminator; 8 in the official 256x256 networks.
        options: other arguments of the official networks, checked against the weights: ``z_dim``, ``w_dim``, ``c_dim``,
            ``img_resolution``, ``img_channels``, ``channel_base``, ``channel_max``, ``num_layers``; also inside
            ``mapping_kwargs``, ``synthesis_kwargs`` and ``epilogue_kwargs``.
    Returns:
        The network in evaluation mode.
    Raises:
        UserError: naming keys that are missing, unexpected or of another shape, or an option that does not fit.
    """
    options = {name: value for name, value in flatten(options).items() if name not in TRAINING_ARGUMENTS}
    conv_clamp = options.pop("conv_clamp", conv_clamp)
    num_fp16_res = options.pop("num_fp16_res", num_fp16_res)
    mbstd_group_size = options.pop("mbstd_group_size", mbstd_group_size)
    file = StyleGAN2Checkpoint("stylegan2_nvlabs", state_dict)
    if any("embed." in key for key in file.state):
        raise UserError("stylegan2_nvlabs: a network with classes (c_dim > 0), which is not supported")
    known: dict[str, Any] = {"c_dim": 0, "img_channels": 3, "activation": "lrelu", "resample_filter": list(FIR_TAPS)}
    if any(key.startswith(("synthesis.", "mapping.")) for key in file.state):
        sizes = block_resolutions(max(8, file.largest(r"synthesis\.b(\d{1,4})\.")))
        num_layers = 1 + file.largest(r"mapping\.fc(\d{1,4})\.")
        keys = nvlabs_generator_keys(sizes, num_layers)
        file.check_keys(keys)
        base, most = file.channel_rule([file.shape(f"synthesis.b{size}.conv1.weight")[0] for size in sizes])
        latent_dim = file.shape("mapping.fc0.weight", (2,))[1]
        known |= {"z_dim": latent_dim, "w_dim": latent_dim, "layer_features": latent_dim, "num_layers": num_layers}
        known |= {"lr_multiplier": MAPPING_LR_MULTIPLIER, "use_noise": True, "architecture": "skip"}
        file.check_options(known, options)
        generator = Generator(sizes[-1], latent_dim, num_layers, base, most, conv_clamp, num_fp16_res)
        file.load_renamed(generator, keys)
        return generator.eval()
    sizes = block_resolutions(max(8, file.largest(r"b(\d{1,4})\.")))
    keys = nvlabs_discriminator_keys(sizes)
    file.check_keys(keys)
    inputs = ["b4.conv", *(f"b{size}.conv0" for size in sizes[1:])]
    base, most = file.channel_rule([file.shape(f"{name}.weight")[0] for name in inputs])
    known |= {"mbstd_num_channels": 1, "architecture": "resnet"}
    file.check_options(known, options)
    discriminator = Discriminator(sizes[-1], base, most, mbstd_group_size, conv_clamp, num_fp16_res)
    file.load_renamed(discriminator, keys)
    return discriminator.eval()


class StyleGAN2Checkpoint(Checkpoint):
    """An official state dict whose keys and shapes are not ours."""

    def largest(self, pattern: str) -> int:
        """The largest number that the regular expression captures at the start of a key; 0 if there is none."""
        return max((int(found[1]) for key in self.state if (found := re.match(pattern, key))), default=0)

    def check_keys(self, keys: Keys) -> None:
        """Raise UserError, naming keys, unless the file holds ``keys``, low-pass filters and nothing else."""
        missing = [key for key in keys if key not in self.state]
        unexpected = [key for key in self.state if key not in keys and not key.endswith(FILTERS)]
        refuse(self.kind, {"missing": missing, "unexpected": unexpected})

    def channel_rule(self, channels: list[int]) -> tuple[int, int]:
        """``channel_base`` and ``channel_max`` that give these channels at 4x4, 8x8, and so on.

        Raises:
            UserError: if none do.
        """
        sizes = [4 << i for i in range(len(channels))]
        most, base = channels[0], sizes[-1] * channels[-1]
        if [block_channels(size, base, most) for size in sizes] != channels:
            raise UserError(
                f"{self.kind}: channels {channels} from 4x4 up are not min(base / resolution, max) for any base and max"
            )
        self.channels, self.sizes, self.rule = channels, sizes, (base, most)
        return base, most

    def check_options(self, known: dict[str, Any], options: dict[str, Any]) -> None:
        """Compare the user's options with what the weights say; None is the official program's default.

        Args:
            known: official names to the values that the weights call for; those of the channels are added here.
            options: official names to values.
        """
        rest: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in options.items()
            if value is not None
        }
        named = {name: rest.pop(name) for name in ("channel_base", "channel_multiplier", "channel_max") if name in rest}
        base, most = self.rule
        base = named.get("channel_base", int(named.get("channel_multiplier", 0) * ROSINALITY_BASE) or base)
        expected = [block_channels(size, base, named.get("channel_max", most)) for size in self.sizes]
        if expected != self.channels:
            raise UserError(
                f"{self.kind}: {named} make channels {expected}, but by its weights they are {self.channels}"
            )
        super().check_options(known | {"size": self.sizes[-1], "img_resolution": self.sizes[-1]}, rest)

    def load_renamed(self, network: nn.Module, keys: Keys) -> None:
        """Copy the weights, after a check of shapes and filters.

        Args:
            network: of the architecture that the weights call for.
            keys: official keys to ours, all of them present.
        """
        own = network.state_dict()
        wrong = [
            f"{key} {tuple(self.state[key].shape)} for {tuple(own[ours].shape)}"
            for key, ours in keys.items()
            if _without_ones(self.state[key]) != _without_ones(own[ours])
        ]
        refuse(self.kind, {"wrong shape": wrong})
        for key in self.state:
            if key.endswith(FILTERS):
                self._check_filter(key)
        loaded = {ours: self.state[key].reshape(own[ours].shape) for key, ours in keys.items()}
        network.load_state_dict({**own, **loaded})

    def _check_filter(self, key: str) -> None:
        value = self.state[key]
        if value.is_meta:
            return
        with_gain = key.endswith((".conv.blur.kernel", ".upsample.kernel"))  # "rosinality" where it upsamples
        expected = fir_kernel() * (4 if with_gain else 1)
        if value.shape != expected.shape or not torch.allclose(value.cpu().float(), expected, atol=1e-6):
            raise UserError(
                f"{self.kind}: {key} is another low-pass filter than {list(FIR_TAPS)}, which is not supported"
            )


def _without_ones(value: Tensor) -> list[int]:
    return [size for size in value.shape if size != 1]


def flatten(options: Mapping[str, Any]) -> dict[str, Any]:
    """The official programs nest the arguments of sub-networks in ``..._kwargs``."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if name.endswith("_kwargs") and isinstance(value, Mapping):
            flat |= flatten(value)
        else:
            flat[name] = value
    return flat


@torch.no_grad()
def _set_average(mapping: MappingNetwork, average: Any) -> None:
    """Centre of truncation: the stored mean of w, else one over fixed latents."""
    if average is None:
        device = mapping.w_avg.device
        z = np.random.RandomState(0).standard_normal((AVERAGE_LATENTS, len(mapping.w_avg)))
        average = mapping(torch.from_numpy(z).to(device, torch.float32)).mean(0)
    elif not isinstance(average, Tensor) or average.numel() != mapping.w_avg.numel():
        raise UserError(f"stylegan2_rosinality: latent_avg must hold {mapping.w_avg.numel()} values")
    mapping.w_avg.copy_(average.reshape(-1))


def _pairs(parts: Iterable[tuple[str, str]], names: Mapping[str, str]) -> Keys:
    """Every official module in ``parts`` combined with every tensor in ``names``."""
    return {f"{theirs}.{a}": f"{ours}.{b}" for theirs, ours in parts for a, b in names.items()}


def _synthesis_layers(num_blocks: int) -> Iterator[tuple[int, int, str]]:
    """(block, layer within the block, our module) from the lowest resolution up."""
    for block in range(num_blocks):
        for layer in range(1 if block == 0 else 2):
            yield block, layer, f"synthesis.blocks.{4 << block}.layers.{layer}"


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
    rgb = (
        ("to_rgb1" if i == 0 else f"to_rgbs.{i - 1}", f"synthesis.blocks.{4 << i}.to_rgb") for i in range(num_blocks)
    )
    names = {
        "bias": "bias",
        "conv.weight": "weight",
        "conv.modulation.weight": "affine.weight",
        "conv.modulation.bias": "affine.bias",
    }
    return keys | _pairs(rgb, names)


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
    keys |= _pairs(((f"convs.{i}", f"blocks.{4 << (num_blocks - i)}") for i in range(1, num_blocks)), names)
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
        (f"synthesis.b{4 << block}.conv{layer if block else 1}", ours)
        for block, layer, ours in _synthesis_layers(len(sizes))
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
