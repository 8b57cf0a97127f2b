"""The command line of the scripts: a function's signature is the schema of its words.

A script is one function. Its keyword-only parameters are the keys that the command line takes as ``key=value``;
``*words`` takes words without ``=``; ``**overrides`` takes every other ``key=value`` as text, such as overrides of
``train.py``. Types and ranges are checked against the same signature; ``--help`` adds the ``Args:`` of the docstring.
"""

import inspect
import re
import sys
import textwrap
import types
from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from ffl.errors import UserError
from ffl.training.config import describe, matches, unknown_key
from ffl.training.exits import report_user_errors


def run_script(main: Callable[..., object]) -> None:
    """Call ``main`` with the words of the command line, or print its help.

    Mistakes end the program with one line and status 2.

    Args:
        main: the script's function; see the module for what its parameters mean.
    """
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(help_text(main))
        return
    with report_user_errors():
        positional, named = read_words(main, words)
        main(*positional, **named)


def read_words(main: Callable[..., object], words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The arguments for ``main`` that words of a command line stand for.

    ``--key value``, ``--key=value`` and, for a switch, ``--key`` mean ``key=value``; ``-m`` means ``multirun=true``.

    Args:
        main: whose signature says what is allowed.
        words: as the shell passed them.
    Returns:
        Words without ``=``, and values by key.
    Raises:
        UserError: naming the word that is wrong and what is allowed.
    """
    parameters = inspect.signature(main).parameters
    hints = get_type_hints(main, include_extras=True)
    kinds = {item.kind: hints.get(name, str) for name, item in parameters.items()}
    keys = {name: hints.get(name, Any) for name, item in parameters.items() if item.kind is Parameter.KEYWORD_ONLY}
    positional: list[str] = []
    named: dict[str, Any] = {}
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)

        # Flags are another way to write keys.
        if word in ("-m", "--multirun") and "multirun" in keys:
            word = "multirun=true"
        elif word.startswith("-"):
            flag, equals, text = word.partition("=")
            key = flag.removeprefix("--").replace("-", "_")
            if key not in keys or not flag.startswith("--"):
                raise UserError(f"unknown flag {word}: settings are key=value; see --help")
            if not equals and keys[key] is bool:
                text = "true"
            elif not equals and not remaining:
                raise UserError(f"{flag}: expected one argument, {describe(keys[key])}")
            elif not equals:
                text = remaining.pop(0)
            word = f"{key}={text}"

        # A word without "=" is positional where the script takes such words.
        key, equals, text = word.partition("=")
        if not equals and Parameter.VAR_POSITIONAL in kinds:
            if not matches(word, kinds[Parameter.VAR_POSITIONAL]):
                raise UserError(f"{word}: expected {describe(kinds[Parameter.VAR_POSITIONAL])}")
            positional.append(word)
        elif not equals or not key:
            raise UserError(f"cannot read {word}; expected key=value, such as {next(iter(keys))}=...")
        elif key in keys:
            named[key] = read_value(key, text, keys[key])
        elif Parameter.VAR_KEYWORD in kinds:
            named[key] = text
        else:
            raise unknown_key(key, keys)

    # A key without a default must be there.
    for name, hint in keys.items():
        if name not in named and parameters[name].default is Parameter.empty:
            raise UserError(f"{name} is missing: expected {name}={describe(hint)}")
    return positional, named


def read_value(key: str, text: str, hint: Any) -> Any:
    """The value that ``text`` stands for, of the type that ``hint`` allows.

    Text and paths are taken as they are; a list may be written ``a,b`` or ``[a,b]``; anything else is YAML.

    Raises:
        UserError: naming the key, the value and what is expected.
    """
    # Of a union such as ``list[str] | None`` the parts say how to read the text.
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    elements = next((get_args(option)[0] for option in options if get_origin(option) is list), None)
    mistake = UserError(f"{key}={text}: expected {describe(hint)}")
    if not text:
        raise mistake
    if type(None) in options and text in ("null", "None"):
        return None

    # Text is not for YAML, which takes yes for true, off for false and 007 for a number.
    if Path in options or str in options:
        return Path(text) if Path in options else text
    if any(get_origin(option) is Literal and text in get_args(option) for option in options):
        return text
    if bool in options:
        if text.lower() not in ("true", "false"):
            raise mistake
        return text.lower() == "true"
    if elements in (str, Path):
        items = [item.strip().strip("'\"") for item in text.removeprefix("[").removesuffix("]").split(",")]
        if not all(items):
            raise mistake
        return [elements(item) for item in items]

    # Hydra, which reads the other programs' words, wants no space after a colon that YAML needs one after.
    if any(get_origin(option) is dict for option in options):
        text = re.sub(r"([{,]\s*\w+):(?=\S)", r"\1: ", text)
    try:
        value = yaml.safe_load(f"[{text}]" if elements and not text.startswith("[") else text)
    except yaml.YAMLError:
        raise mistake from None
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):  # YAML takes 1e-3 for text
        value = float(value)
    if not matches(value, hint):
        raise mistake
    return value


def help_text(main: Callable[..., object]) -> str:
    """What ``--help`` prints: the module's docstring, and each key with its type, its default and its meaning."""
    parameters = inspect.signature(main).parameters
    hints = get_type_hints(main, include_extras=True)
    # The meanings stand in the docstring alone; "low, high: ..." is that of two keys.
    arguments = re.search(r"^Args:\n((?:[ ]+.*\n?)+)", inspect.getdoc(main) or "", re.MULTILINE)
    entries = re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", arguments[1] if arguments else "", re.MULTILINE)
    meanings = {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}
    lines = [(inspect.getdoc(inspect.getmodule(main)) or "").strip(), ""]
    for name, item in parameters.items():
        if item.kind is Parameter.VAR_POSITIONAL:
            hint = hints.get(name, str)
            lines.append(
                f"  {f'{name.upper()} ...':<14} {describe(hint)}" if hint is not str else f"  {name.upper()} ..."
            )
        elif item.kind is Parameter.VAR_KEYWORD:
            lines.append("  KEY=VALUE ...")
        else:
            # A default is shown as the command line would write it.
            value = item.default
            if value is Parameter.empty or value is None:
                default = "optional" if value is None else "required"
            elif isinstance(value, list | tuple):
                default = f"default {','.join(map(str, value))}"
            else:
                default = f"default {str(value).lower() if isinstance(value, bool) else value}"
            hint = describe(hints.get(name, Any)).removesuffix(" or null")
            lines.append(f"  {f'{name}=':<14} {hint}; {default}")
        lines += textwrap.wrap(meanings.get(name, ""), 110, initial_indent=" " * 17, subsequent_indent=" " * 17)
    return "\n".join(lines)
