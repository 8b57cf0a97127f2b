"""Official StyleGAN2 checkpoints of small networks, and pickles as the official program writes them."""

import sys
import types
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.stylegan2 import Discriminator, Generator
from models.stylegan2.official import (
    nvlabs_discriminator_keys,
    nvlabs_generator_keys,
    rosinality_discriminator_keys,
    rosinality_generator_keys,
)

SIZES = [4, 8, 16]


def small_generator() -> Generator:
    """Its noise and its mean of w are not those of a fresh network, so that images tell whether they are there."""
    generator = Generator(16, 8, 3, channel_base=128, channel_max=16)
    generator.mapping.w_avg.normal_()
    for layer in generator.synthesis.noise_layers():
        nn.init.constant_(layer.noise_strength, 0.3)
    return generator


def renamed(network: nn.Module, keys: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights of a network under official keys, which ``keys`` maps to ours."""
    own = network.state_dict()
    return {theirs: own[ours].clone() for theirs, ours in keys.items()}


def rosinality_state(network: Generator | Discriminator) -> dict[str, Tensor]:
    """A network of ``SIZES`` in that layout: axes of length one more than ours, and low-pass filters."""
    generator = isinstance(network, Generator)
    state = renamed(network, rosinality_generator_keys(3, 3) if generator else rosinality_discriminator_keys(3))
    for key, value in state.items():
        if key.endswith("noise.weight"):
            state[key] = value.reshape(1)
        elif generator and key.endswith(".conv.weight"):
            state[key] = value[None]
        elif key.startswith("noises."):
            state[key] = value[None, None]
    kernel = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
    if generator:
        return state | {"convs.0.conv.blur.kernel": 4 * kernel, "to_rgbs.0.upsample.kernel": 4 * kernel}
    return state | {"convs.1.conv2.0.kernel": kernel, "convs.1.skip.0.kernel": kernel}


def nvlabs_state(network: Generator | Discriminator) -> dict[str, Tensor]:
    """A network of ``SIZES`` in that layout."""
    generator = isinstance(network, Generator)
    return renamed(network, nvlabs_generator_keys(SIZES, 3) if generator else nvlabs_discriminator_keys(SIZES))


def official_modules(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Stand-ins for the modules that official pickles refer to, while files are written: writing looks names up."""

    class EasyDict(dict):
        pass

    def _reconstruct_persistent_obj(meta: Any) -> None:
        raise AssertionError("the official reconstruction must never run")

    for member in (EasyDict, _reconstruct_persistent_obj):
        module = types.ModuleType("dnnlib.util" if member is EasyDict else "torch_utils.persistence")
        member.__module__, member.__qualname__ = module.__name__, member.__name__
        setattr(module, member.__name__, member)
        package = module.__name__.split(".")[0]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))

    class Persistent:
        """Is pickled as the official program pickles a module with its source code."""

        def __init__(self, name: str, state: dict[str, Any]) -> None:
            source = "import os; os.abort()"
            self.meta = EasyDict(type="class", version=6, module_src=source, class_name=name, state=state)

        def __reduce__(self) -> tuple[Any, ...]:
            return _reconstruct_persistent_obj, (self.meta,)

    return types.SimpleNamespace(EasyDict=EasyDict, Persistent=Persistent)
