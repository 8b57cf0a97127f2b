"""Turns a Hydra config and a task into a command-line program with one-line errors."""

import contextlib
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ffl.errors import UserError
from ffl.training.config import flatten, unknown_key

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
CONFIG_DIR = Path(__file__).resolve().parents[2] / "configs"

Config = dict[str, Any]


def compose(program: str, overrides: list[str]) -> Config:
    """The resolved config of ``program`` under ``overrides``, as plain values.

    Raises:
        UserError: for what Hydra or OmegaConf reject, in one line with the allowed keys or choices.
    """
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            config = hydra.compose(program, overrides)
            return _plain(config)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            allowed = _plain(hydra.compose(program, []), resolve=False)
            raise _readable(error, allowed) from None


def _plain(config: DictConfig, resolve: bool = True) -> Config:
    plain = OmegaConf.to_container(config, resolve=resolve, throw_on_missing=resolve)
    assert isinstance(plain, dict)
    plain.pop("hydra", None)
    return {str(key): value for key, value in plain.items()}


def _readable(error: Exception, allowed: Config) -> UserError:
    """One line from Hydra's several, naming key, value and what is allowed."""
    text = f"{error}\n{error.__cause__ or ''}"
    if match := re.search(r"Could not override '([^']+)'", text):
        section = match[1].rpartition(".")[0]
        siblings = [key for key in flatten(allowed) if key.rpartition(".")[0] == section]
        return unknown_key(match[1], siblings or list(allowed))
    if match := re.search(
        r"In '[^']*': Could not find '([^']+)'\s*Available options in '([^']+)':\s*(.*)", text, re.DOTALL
    ):
        group, choices = match[2], ", ".join(match[3].split())
        return UserError(f"{group}={match[1].split('/')[-1]}: no such choice; {group} is one of {choices}")
    if match := re.search(r"Could not find '([^']+)'", text):
        return UserError(f"{match[1]}: no such config group or choice; see --help for the groups")
    return UserError(" ".join(text.split())[:300])


def jobs(arguments: list[str]) -> list[list[str]]:
    """The override lists that a command line stands for: one, or with ``-m`` one per point of the sweep."""
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise UserError(
            f"cannot read the command line: {' '.join(str(error).split())[:200]}; expected key=value"
        ) from None
    if not any(flag in arguments for flag in ("-m", "--multirun")):
        if swept := [item for item in parsed if item.is_sweep_override()]:
            raise UserError(f"{swept[0].input_line}: several values need -m (a sweep), or brackets for one list: [a,b]")
        return [overrides]
    choices = [
        [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()]
        if item.is_sweep_override()
        else [str(item.input_line)]
        for item in parsed
        if not item.is_hydra_override()
    ]
    return [list(point) for point in itertools.product(*choices)]


def run_program(program: str, task: Callable[[Config, list[str]], None], check: Callable[[Config], None]) -> None:
    """The ``main`` of a program.

    Args:
        program: name of its entry config under configs/.
        task: called with the config and the overrides of one job.
        check: raises UserError for an impossible config; called for every job before the first starts.
    """
    # Hydra takes its flags before or after all overrides only; users put -m anywhere.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda item: "=" in item and not item.startswith("-"))
    arguments = sys.argv[1:]
    informs_only = any(re.match(r"-(h|-help|c|-cfg|-info|-hydra-help|-version)", argument) for argument in arguments)
    with user_errors():
        if not informs_only:
            for overrides in jobs(arguments):
                check(compose(program, [item for item in overrides if not item.startswith("hydra")]))

    @hydra.main(config_path=str(CONFIG_DIR), config_name=program, version_base="1.3")
    def main(config: DictConfig) -> None:
        with user_errors():
            task(_plain(config), list(HydraConfig.get().overrides.task))

    main()


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Around a program: what a user can put right ends it with one line and status 2, Ctrl-C with status 130."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print("\nstopped; the same command with resume=auto continues a training run", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
