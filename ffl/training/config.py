"""Configs are checked against the signatures of what they build, before any data is read.

The typed arguments of a class are the schema of its section: nothing is declared twice, and an error names the key, the
value and what is allowed.
"""

import difflib
import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ffl.errors import UserError
from ffl.ranges import Count, Positive, Range, Whole

Config = dict[str, Any]  # of a program: sections and their keys, as plain values
Accelerator = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["fp32", "bf16", "fp16"]
Seed = Annotated[int, Range(0, 2**63 - 1)]


@dataclass(frozen=True)
class TrainerConfig:
    """The ``trainer`` section; configs/trainer/default.yaml says what each key means."""

    epochs: Count
    batch_size: Count
    lr_decay_epochs: Whole = 0
    accumulate: Count = 1
    steps: Count | None = None
    clip_grad_norm: Positive | None = None
    accelerator: Accelerator = "auto"
    precision: PrecisionName = "fp32"
    tf32: bool = False
    channels_last: bool = False
    compile: bool = False
    threads: Annotated[int, Range(1, 1024)] | None = None
    deterministic: bool = False
    log_every: Count = 50
    image_every: Count = 1000
    checkpoint_every: Count = 500
    val_images: Whole = 500

    def __post_init__(self) -> None:
        if self.lr_decay_epochs > self.epochs:
            raise UserError(
                f"trainer.lr_decay_epochs={self.lr_decay_epochs}: longer than the run (trainer.epochs={self.epochs})"
            )


# Keys that do not change the weights a run ends with, but for rounding: a resumed run may differ in them.
FREE_KEYS = {
    "cache_dir",
    "data_root",
    "dataset.cache",
    "dataset.shards",
    "dataset.workers",
    "name",
    "output_root",
    "resume",
    "trainer.accelerator",
    "trainer.accumulate",  # with the number of processes it makes the shards, which the checkpoint knows
    "trainer.channels_last",
    "trainer.checkpoint_every",
    "trainer.compile",
    "trainer.device",  # what trainer.accelerator was called once
    "trainer.image_every",
    "trainer.log_every",
    "trainer.threads",
}
# Of these, the keys that change the rounding: a deterministic run may not differ in them.
ROUNDING_KEYS = {
    "trainer.accelerator",
    "trainer.accumulate",
    "trainer.channels_last",
    "trainer.compile",
    "trainer.device",
    "trainer.threads",
}

# Keys that mean nothing while another is off: a baseline may be resumed whatever they say.
OPTIONS = {
    "loss.ffl": {
        "loss.weight",
        "loss.alpha",
        "loss.patch_factor",
        "loss.ave_spectrum",
        "loss.log_matrix",
        "loss.prior",
        "loss.batch_matrix",
        "loss.transform",
        "loss.ablation",
    },
    "loss.perceptual": {"loss.perceptual_network"},
    "loss.spectral_regularization": {"loss.spectral_form"},
    "model.vgg_weight": {"model.vgg_network"},
    "loss.share": {"loss.share_every"},
}


def check_section(section: str, values: Mapping[str, Any], target: Callable[..., Any], provided: set[str]) -> None:
    """Check a config section against the arguments of what it builds.

    Args:
        section: name for messages; "" for the top level.
        values: the section's keys and values.
        target: class or function that will be called with them.
        provided: arguments that the program supplies itself.
    Raises:
        UserError: for an unknown key, a missing one, or a value of the wrong type or outside its choices or range.
    """
    prefix = f"{section}." if section else ""
    parameters = inspect.signature(target).parameters
    allowed = {name: item.annotation for name, item in parameters.items() if name not in provided}
    # Unknown keys first: a misspelt required key is reported as misspelt and not as missing.
    for key, value in values.items():
        if key not in allowed:
            raise unknown_key(prefix + key, [prefix + name for name in allowed])
        if not matches(value, allowed[key]):
            raise UserError(f"{prefix}{key}={value}: expected {describe(allowed[key])}")
    for name in allowed:
        if parameters[name].default is inspect.Parameter.empty and name not in values:
            raise UserError(f"{prefix}{name} is missing: expected {describe(allowed[name])}")


def unknown_key(key: str, allowed: Iterable[str], elsewhere: Iterable[str] = ()) -> UserError:
    """The error for a key that does not exist, with the nearest one that does.

    Args:
        key: as it was written.
        allowed: keys that the message lists.
        elsewhere: further keys, one of which may have been meant where none of ``allowed`` is near.
    """
    # Names within the section are compared: the section itself would make any two keys of it look alike.
    section = key[: key.rfind(".") + 1]
    names = {name.removeprefix(section): name for name in allowed}
    near = [names[name] for name in difflib.get_close_matches(key.removeprefix(section), names, n=1)]
    near = near or difflib.get_close_matches(key, list(elsewhere), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return UserError(f"unknown key {key}: {hint}allowed: {', '.join(sorted(allowed))}")


def matches(value: Any, hint: Any) -> bool:
    """Whether a config value fits a type hint; an integer also fits a float, a boolean fits only bool, NaN nothing."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        base, *ranges = arguments
        return matches(value, base) and all(value in limit for limit in ranges)
    if hint is Any or hint is inspect.Parameter.empty:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin in (Union, types.UnionType):
        return any(matches(value, option) for option in arguments)
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in arguments)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and Ellipsis not in arguments:
            return len(value) == len(arguments) and all(map(matches, value, arguments))
        return all(matches(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, Mapping)
    # Python counts True as an integer, and ``epochs=true`` would train for one epoch.
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, hint)


def describe(hint: Any) -> str:
    """A type hint in words, for error messages."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " ".join([describe(arguments[0]), *map(str, arguments[1:])])
    if origin in (Union, types.UnionType):
        return " or ".join(describe(option) for option in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)} ({', '.join(map(describe, arguments))})"
    if origin in (list, tuple):
        return f"a list, each {describe(arguments[0])}"
    if origin is dict:
        return "keys and values such as {key:value}"
    words = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        type(None): "null",
    }
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def section_defaults(section: str, target: Callable[..., Any]) -> dict[str, Any]:
    """The default of each argument of what a config section builds, by ``section.key``."""
    parameters = inspect.signature(target).parameters.values()
    return {f"{section}.{item.name}": item.default for item in parameters if item.default is not item.empty}


def difference(old: Mapping[str, Any], new: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> list[str]:
    """Lines ``key: old -> new`` for every key that changes the weights of a run and differs.

    Args:
        old: config of a run, perhaps written by a version that had fewer keys.
        new: another config.
        defaults: what a key that one of them lacks stands for, by ``section.key``, from ``section_defaults``.
    """
    # A key that only one of the two has is compared with its default: versions add keys whose default changes nothing.
    before, after = ({**(defaults or {}), **flatten(config)} for config in (old, new))
    keys = sorted(flatten(old).keys() | flatten(new).keys())
    ignored = FREE_KEYS | (idle_options(before) & idle_options(after))
    if before.get("trainer.deterministic") and after.get("trainer.deterministic"):
        ignored -= ROUNDING_KEYS
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in keys
        if _plain(before.get(key, "absent")) != _plain(after.get(key, "absent"))
        and key not in ignored
        and not key.startswith("recipe.")
    ]


def idle_options(config: Mapping[str, Any]) -> set[str]:
    """Keys of a flat configuration that mean nothing in it, because what they belong to is off."""
    return set().union(*(options for switch, options in OPTIONS.items() if not config.get(switch, True)))


def _plain(value: Any) -> Any:
    """A default as a config writes it, where tuples are lists."""
    return list(value) if isinstance(value, tuple) else value
