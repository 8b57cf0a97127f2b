"""Configs are checked against the signatures of what they build, before any data is read.

The typed arguments of a class are the schema of its section: nothing is declared twice, and an error names the key, the
value and what is allowed.
"""

import difflib
import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ffl.errors import UserError


@dataclass(frozen=True)
class TrainerConfig:
    """The ``trainer`` section; configs/trainer/default.yaml says what each key means."""

    epochs: int
    batch_size: int
    lr_decay_epochs: int = 0
    accumulate: int = 1
    steps: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    log_every: int = 50
    image_every: int = 1000
    checkpoint_every: int = 500
    val_images: int = 500

    def __post_init__(self) -> None:
        for key in (
            "epochs",
            "batch_size",
            "accumulate",
            "log_every",
            "image_every",
            "checkpoint_every",
            "steps",
            "threads",
        ):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(f"trainer.{key}={value}: must be at least 1")
        for key in ("lr_decay_epochs", "val_images"):
            if getattr(self, key) < 0:
                raise UserError(f"trainer.{key}={getattr(self, key)}: must not be negative")
        if self.lr_decay_epochs > self.epochs:
            raise UserError(
                f"trainer.lr_decay_epochs={self.lr_decay_epochs}: longer than the run (trainer.epochs={self.epochs})"
            )


# Keys that do not change the weights a run ends with: a resumed run may differ in them.
FREE_KEYS = {
    "cache_dir",
    "data_root",
    "name",
    "output_root",
    "resume",
    "trainer.device",
    "trainer.threads",
    "trainer.log_every",
    "trainer.image_every",
    "trainer.checkpoint_every",
}


def check_section(section: str, values: Mapping[str, Any], target: Callable[..., Any], provided: set[str]) -> None:
    """Check a config section against the arguments of what it builds.

    Args:
        section: name for messages; "" for the top level.
        values: the section's keys and values.
        target: class or function that will be called with them.
        provided: arguments that the program supplies itself.
    Raises:
        UserError: for an unknown key, a missing one, or a value of the wrong type or outside the allowed choices.
    """
    prefix = f"{section}." if section else ""
    function = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(function)
    parameters = inspect.signature(target).parameters
    allowed = {name: hints.get(name, Any) for name in parameters if name not in provided}
    for key, value in values.items():
        if key not in allowed:
            raise unknown_key(prefix + key, [prefix + name for name in allowed])
        if not matches(value, allowed[key]):
            raise UserError(f"{prefix}{key}={value}: expected {describe(allowed[key])}")
    for name in allowed:
        if parameters[name].default is inspect.Parameter.empty and name not in values:
            raise UserError(f"{prefix}{name} is missing: expected {describe(allowed[name])}")


def unknown_key(key: str, allowed: list[str]) -> UserError:
    """The error for a key that does not exist, with the nearest ones that do."""
    near = difflib.get_close_matches(key, allowed, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return UserError(f"unknown key {key}: {hint}allowed: {', '.join(sorted(allowed))}")


def matches(value: Any, hint: Any) -> bool:
    """Whether a config value fits a type hint; an integer also fits a float, a boolean fits only bool."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
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
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, hint)


def describe(hint: Any) -> str:
    """A type hint in words, for error messages."""
    origin, arguments = get_origin(hint), get_args(hint)
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
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text", type(None): "null"}
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


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines ``key: old -> new`` for every key that changes the weights of a run and differs."""
    before, after = flatten(old), flatten(new)
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and key not in FREE_KEYS and not key.startswith("recipe.")
    ]
