"""The words of a command line, checked against configs/ before Hydra or torch are imported.

Both take seconds to import, so that a misspelt key, an unknown choice and ``--help`` are answered here, from the YAML
files alone. What passes goes to ``ffl.training.program``, where Hydra composes the configuration.
"""

import itertools
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import yaml

from ffl.errors import UserError
from ffl.training.config import flatten, unknown_key
from ffl.training.exits import report_user_errors

CONFIG_DIR = Path(__file__).resolve().parents[2] / "configs"
ANSWERS = {"--hydra-help", "-c", "--cfg", "-i", "--info", "--version"}  # flags with which Hydra prints and stops
FLAGS = ANSWERS | {"-m", "--multirun", "--resolve", "-p", "--package"}
GLOBAL = "# @package _global_\n"  # the first line of a file whose keys are those of the top, not of its group
FLAGS_WITH_WORD = {"-c", "--cfg", "-i", "--info", "-p", "--package"}


def answer_at_once(program: str) -> None:
    """Print the help, or end the program with one line for a mistake; return where there is work to do.

    Args:
        program: name of its entry config under configs/.
    """
    words = sys.argv[1:]
    with report_user_errors(alike=True):
        asks = {"-h", "--help"} & set(words)
        _, overrides = split_flags([word for word in words if word not in asks])
        check_words(program, overrides)
        if asks:
            print(help_text(program, overrides))
            sys.exit()


def split_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags of a command line, with the words that belong to them, and the overrides, wherever each stands.

    Raises:
        UserError: for a flag that does not exist.
    """
    # Hydra takes flags in front of all overrides or behind them; here they may stand anywhere.
    flags: list[str] = []
    overrides: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("-"):
            if word.partition("=")[0] not in FLAGS:
                raise UserError(f"unknown flag {word}: settings are key=value; flags are -m, --cfg job and --help")
            flags.append(word)
        elif before in FLAGS_WITH_WORD and "=" not in word:  # such as job, after --cfg
            flags.append(word)
        else:
            overrides.append(word)
    return flags, overrides


def check_words(program: str, overrides: Sequence[str]) -> None:
    """Refuse words that cannot be read, and keys, groups and choices that do not exist.

    Values are not looked at, nor are words for Hydra itself (``hydra.verbose=true``, ``hydra/launcher=joblib``).

    Args:
        program: name of its entry config under configs/.
        overrides: words such as ``model=vae``, ``loss.alpha=2``, ``+recipe.epochs.dtd=3``, ``~trainer.steps``. A group
            may have several choices, as in a sweep; the keys of each of them are known then.
    Raises:
        UserError: naming the word and what is allowed.
    """
    # Groups first: which keys there are depends on what is chosen.
    groups = chosen_by_default(program)
    choices: dict[str, list[str]] = {}
    settings: list[str] = []
    for override in overrides:
        key, equals, value = override.lstrip("+~").partition("=")
        if not key or not (equals or override.startswith("~")):
            raise UserError(f"cannot read the command line: {override!r} is no setting; expected key=value")
        if key.startswith("hydra") or "@" in key:
            continue
        if key not in groups:
            settings.append(override)
            continue
        allowed = sorted(path.stem for path in (CONFIG_DIR / key).glob("*.yaml"))
        choices[key] = allowed if "(" in value else value.split(",")  # Hydra reads choice(a,b) and glob(*)
        wrong = [choice for choice in choices[key] if choice not in allowed]
        if override.startswith("~") or wrong:
            said = f"{key}={wrong[0]}" if equals else override
            raise UserError(f"{said}: no such choice; {key} is one of {', '.join(allowed)}")

    # Then keys: those of the chosen files, whole sections, and elements of lists.
    defaults = compose_defaults(program, choices)
    known = flatten(defaults)
    for override in settings:
        key = override.lstrip("+~").partition("=")[0]
        section = key.rpartition(".")[0]
        if key in known or any(name.startswith(f"{key}.") for name in known):
            continue
        if isinstance(known.get(section), list):  # model.betas.0=0.5
            continue
        # With a + come options that no file names: more of a data set's, a recipe for another one, keys of a null.
        if override.startswith("+") and (section.startswith(("dataset", "recipe")) or known.get(section, "") is None):
            continue
        siblings = [name for name in known if name.rpartition(".")[0] == section] if section else []
        raise unknown_key(key, siblings or defaults, elsewhere=[] if siblings else known)


def read_defaults(path: Path) -> dict[str, str]:
    """The choices by group in the ``defaults`` list of a config file; {} where there is no file.

    A choice for a group that another file has chosen already has the key ``override /GROUP``, as Hydra writes it.
    """
    entries = (yaml.safe_load(path.read_text()) or {}).get("defaults", []) if path.is_file() else []
    pairs = [(key, choice) for entry in entries if isinstance(entry, Mapping) for key, choice in entry.items()]
    return {key.removeprefix("optional "): choice for key, choice in pairs}


def chosen_by_default(program: str) -> dict[str, str]:
    """The choices of a program's own entry config by group, such as ``{"model": "ae"}``."""
    choices = read_defaults(CONFIG_DIR / f"{program}.yaml")
    return {group: choice for group, choice in choices.items() if not group.startswith("override ")}


def compose_defaults(program: str, choices: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The keys of a program's configuration with their defaults, as the files have them: nothing is interpolated.

    Args:
        program: name of its entry config under configs/.
        choices: by group, what the command line chooses; of several choices the keys of each are there.
    """
    chosen: dict[str, Sequence[str]] = {group: [choice] for group, choice in chosen_by_default(program).items()}
    chosen |= choices
    # A preset such as debug=smoke chooses in other groups too, where the command line does not.
    for group, names in list(chosen.items()):
        for name in names:
            for key, choice in read_defaults(CONFIG_DIR / group / f"{name}.yaml").items():
                other = key.removeprefix("override /")
                chosen[other] = choices.get(other, [choice])

    # Later files are written over earlier ones, in Hydra's order. The name of a file may depend on other choices, as
    # ${scale}_${model}, and such a file need not exist.
    config: dict[str, Any] = {}
    for group, names in chosen.items():
        for name in names:
            others = re.findall(r"\$\{(\w+)\}", name)
            for combination in itertools.product(*(chosen[other] for other in others)):
                stem = Template(name).substitute(dict(zip(others, combination, strict=True)))
                if (path := CONFIG_DIR / group / f"{stem}.yaml").is_file():
                    _merge(config, _read_choice(path, group))
    _merge(config, yaml.safe_load((CONFIG_DIR / f"{program}.yaml").read_text()))
    return {key: value for key, value in config.items() if key not in ("defaults", "hydra")}


def _read_choice(path: Path, group: str) -> dict[str, Any]:
    """The values of a file where they belong: in the group's section, or at the top for ``@package _global_``."""
    text = path.read_text()
    own = yaml.safe_load(text) or {}
    config: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":  # a file beside it that this one changes
            config = _read_choice(path.with_name(f"{entry}.yaml"), group)
    return _merge(config, own if text.startswith(GLOBAL) else {group: own})


def _merge(config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with ``changes`` written over it, section by section."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            _merge(config[key], value)
        else:
            config[key] = value
    return config


def help_text(program: str, overrides: Sequence[str] = ()) -> str:
    """What ``--help`` prints: groups, and the files of the choices, whose comments explain the keys.

    Args:
        program: name of its entry config under configs/.
        overrides: may choose, as in ``train.py model=vae --help``.
    """
    entry = CONFIG_DIR / f"{program}.yaml"
    about = yaml.safe_load(entry.read_text())["hydra"]["help"]
    groups = {group: choice for group, choice in chosen_by_default(program).items() if "/" not in group}
    for word in overrides:
        group, _, choice = word.partition("=")
        if group in groups and (CONFIG_DIR / group / f"{choice}.yaml").is_file():  # not several, as in a sweep
            groups[group] = choice
    # The files are the documentation: their comments stand beside the keys, and nothing is described twice.
    lines = [about["header"]]
    if groups:
        lines += ["", "== Groups: choose with group=choice =="]
    for group, choice in groups.items():
        others = sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))
        lines.append(f"{f'{group}: {choice}':<18} of {', '.join(others)}")
    lines += ["", "== Keys and their defaults: change with key=value, keys of a section with section.key=value =="]
    lines.append(re.sub(r"(?m)^(defaults|hydra):\n(?: .*\n|\n)*", "", entry.read_text()).strip())  # blocks for Hydra
    for group, choice in groups.items():
        text = (CONFIG_DIR / group / f"{choice}.yaml").read_text()
        if not text.startswith(GLOBAL):
            text = f"{group}:\n{textwrap.indent(text, '  ')}"
        elif f"\n{group}:" not in text:  # a preset without keys of its own
            continue
        # Keys whose default is a recipe's are written as ${oc.select:recipe.epochs.${dataset.name},...}.
        text = re.sub(r"\$\{oc\.select:(recipe\.\w+)\.\S+", r"\1.DATASET", text.removeprefix(GLOBAL))
        lines += ["", text.strip()]
    return "\n".join([*lines, "", about["footer"]])
