"""The command line of the scripts: a function's signature is the schema of its words.

A script is one function. Its named parameters are the keys that the command line takes as ``key=value``; ``*words``
takes words without ``=``; ``**overrides`` takes every other ``key=value`` as text, such as overrides of ``train.py``.
Types and ranges are checked against the same signature; ``--help`` adds the ``Args:`` of the docstring.
"""

import inspect
import re
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from ffl.errors import UserError
from ffl.training.config import describe, matches, unknown_key
from ffl.training.exits import user_errors


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
    with user_errors():
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
    takes_words = any(item.kind is item.VAR_POSITIONAL for item in parameters.values())
    takes_overrides = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    keys = {name: hints.get(name, Any) for name, item in parameters.items() if item.kind is item.KEYWORD_ONLY}
    positional: list[str] = []
    named: dict[str, Any] = {}
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if word in ("-m", "--multirun") and "multirun" in keys:
            word = "multirun=true"
        elif word.startswith("--") and (name := word[2:].partition("=")[0].replace("-", "_")) in keys:
            if "=" in word:
                word = word[2:]
            elif keys[name] is bool:
                word = f"{name}=true"
            elif remaining:
                word = f"{name}={remaining.pop(0)}"
        elif word.startswith("-"):
            raise UserError(f"unknown flag {word}: settings are key=value; see --help")
        key, equals, text = word.partition("=")
        if not equals:
            if not takes_words:
                raise UserError(f"cannot read {word}; expected key=value, such as {next(iter(keys))}=...")
            positional.append(word)
        elif key in keys:
            named[key] = read_value(key, text, keys[key])
        elif takes_overrides:
            named[key] = text
        else:
            raise unknown_key(key, list(keys))
    for name in keys:
        if name not in named and parameters[name].default is inspect.Parameter.empty:
            raise UserError(f"{name} is missing: expected {name}={describe(keys[name])}")
    return positional, named


def read_value(key: str, text: str, hint: Any) -> Any:
    """The value that ``text`` stands for, of the type that ``hint`` allows.

    Text and paths are taken as they are; a list may be written ``a,b`` or ``[a,b]``; anything else is YAML.

    Raises:
        UserError: naming the key, the value and what is expected.
    """
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if type(None) in options and text in ("null", "None"):
        return None
    if Path in options:
        return Path(text)
    if str in options:
        return text
    is_list = any(get_origin(option) is list for option in options)
    try:
        value = yaml.safe_load(f"[{text}]" if is_list and not text.startswith("[") else text)
    except yaml.YAMLError:
        value = text
    if is_list and isinstance(value, list) and any(get_args(option) == (str,) for option in options):
        value = [str(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):  # YAML takes 1e-3 for text
        value = float(value)
    if not matches(value, hint):
        raise UserError(f"{key}={text}: expected {describe(hint)}")
    return value


def help_text(main: Callable[..., object]) -> str:
    """What ``--help`` prints: the module's docstring, and each key with its type, its default and its meaning."""
    parameters = inspect.signature(main).parameters
    hints = get_type_hints(main, include_extras=True)
    about = inspect.getdoc(inspect.getmodule(main)) or ""
    arguments = re.search(r"^Args:\n((?:[ ]+.*\n?)+)", inspect.getdoc(main) or "", re.MULTILINE)
    entries = re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", arguments[1] if arguments else "", re.MULTILINE)
    meanings = {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}
    lines = [about.strip(), "", "keys (key=value):"]
    for name, item in parameters.items():
        if item.kind is item.VAR_POSITIONAL or item.kind is item.VAR_KEYWORD:
            continue
        default = "required" if item.default is item.empty else f"default {item.default}"
        lines.append(f"  {name:<15} {describe(hints.get(name, Any))}; {default}")
        lines += textwrap.wrap(meanings.get(name, ""), 100, initial_indent=" " * 18, subsequent_indent=" " * 18)
    return "\n".join(lines)
