"""Turns a Hydra config and a task into a command-line program with one-line errors.

A command line is read in three stages: ``ffl.training.words`` refuses misspelt words before the slow imports, ``jobs``
splits a sweep into override lists, and ``compose`` has Hydra make the config of each. All jobs are checked before the
first starts, so that a mistake in the last point of a sweep does not cost the runs before it.
"""

import importlib.util
import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from ffl.errors import UserError
from ffl.training.config import Config
from ffl.training.exits import report_user_errors
from ffl.training.words import ANSWERS, CONFIG_DIR, check_words, split_flags

__all__ = ["Config", "compose", "jobs", "run_program"]

# Choices of hydra/launcher that run the jobs of a sweep elsewhere: the plugin, and our extra that installs it.
LAUNCHERS = {
    "joblib": ("hydra_joblib_launcher", "parallel"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_submitit_launcher", "slurm"),
}


def compose(program: str, overrides: list[str]) -> Config:
    """The resolved config of ``program`` under ``overrides``, as plain values.

    Raises:
        UserError: for words that cannot be read, keys and choices that do not exist, values that are missing or refer
            to nothing. Whether values make sense is for the caller to check.
    """
    # Scripts compose overrides of their own, which were not checked before the imports.
    check_words(program, overrides)
    of_hydra = any(override.lstrip("+~").startswith("hydra") for override in overrides)
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            return _plain(hydra.compose(program, overrides, return_hydra_config=of_hydra))
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise _in_one_line(error, overrides) from None


def _plain(config: DictConfig) -> Config:
    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    plain = OmegaConf.to_container(ours, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _in_one_line(error: Exception, overrides: list[str]) -> UserError:
    """The error for what Hydra or OmegaConf refuses, which names the word to mend.

    It is recognised by type and attributes, since the wording of both libraries changes between versions.
    """
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    key = getattr(cause, "full_key", None)
    if isinstance(error, OverrideParseException):
        fix = """key=value, and quotes around a value with brackets: 'loss.prior="radial(2)"'"""
        said = f"cannot read the command line: {' '.join(error.message.split())[:200]}; expected {fix}"
    elif isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        said = f"{group}={choice}: no such choice; {group} is one of {', '.join(error.options or [])}"
    elif isinstance(cause, MissingMandatoryValue):
        said = f"{key} is missing: set {key}=..."
    elif isinstance(cause, ConfigAttributeError | ConfigKeyError):
        said = f"unknown key {key}: see --hydra-help"
    elif key:
        given = next((item for item in overrides if item.lstrip("+").startswith(f"{key}=")), key)
        said = f"{given}: {str(cause).splitlines()[0].strip()}; give a plain value"
    else:
        said = " ".join(str(error).split())[:300]
    return UserError(said)


def jobs(words: list[str]) -> list[list[str]]:
    """The override lists that a command line stands for: one, or with ``-m`` one per point of the sweep.

    Raises:
        UserError: for a word that cannot be read, or that has several values without ``-m``.
    """
    flags, overrides = split_flags(words)
    is_sweep = bool({"-m", "--multirun"} & set(flags))
    try:
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):  # glob(*) asks which choices there are
            parser = OverridesParser.create(GlobalHydra.instance().config_loader())
            parsed = parser.parse_overrides(overrides)
        choices = [
            [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()]
            if item.is_sweep_override()
            else [str(item.input_line)]
            for item in parsed
        ]
    except HydraException as error:
        raise _in_one_line(error, overrides) from None
    several = [str(item.input_line) for item in parsed if item.is_sweep_override()]
    if several and not is_sweep:
        raise UserError(f"{several[0]}: several values need -m (a sweep), or brackets for one list: [a,b]")
    return [list(point) for point in itertools.product(*choices)]


def run_program(program: str, task: Callable[[Config, list[str]], Any], check: Callable[[Config], None]) -> None:
    """The ``main`` of a program.

    Args:
        program: name of its entry config under configs/.
        task: called with the config and the overrides of each job, which ``check`` has passed.
        check: raises UserError for an impossible config; called for every job before the first starts.
    """
    # All processes of a run have the same command line, and find the same mistakes in it.
    with report_user_errors(alike=True):
        flags, overrides = split_flags(sys.argv[1:])
        answers = any(flag.partition("=")[0] in ANSWERS for flag in flags)
        for_hydra = [word for word in overrides if word.lstrip("+~").startswith("hydra")]
        _prepare_launcher(for_hydra)
        checked: list[tuple[Config, list[str]]] = []
        for words in [] if answers else jobs(sys.argv[1:]):
            config = compose(program, words)
            check(config)
            checked.append((config, words))

    # What happens from here on may concern a single process.
    with report_user_errors():
        if answers or for_hydra:
            _run_hydra(program, task, [*flags, *overrides])
        else:
            for config, words in checked:
                task(config, words)


def _run_hydra(program: str, task: Callable[[Config, list[str]], Any], words: list[str]) -> None:
    """Leave a command line to Hydra: its flags, launchers and sweepers, which compose in the processes they start."""

    @hydra.main(config_path=str(CONFIG_DIR), config_name=program, version_base="1.3")
    def main(config: DictConfig) -> None:
        with report_user_errors():
            task(_plain(config), list(HydraConfig.get().overrides.task))

    sys.argv[1:] = words  # Hydra takes its flags before or after all overrides only
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come here instead of being printed on the way
    try:
        main()
    except Exception as error:
        if not type(error).__module__.startswith("submitit"):
            raise
        raise _of_job(error) from None


def _of_job(error: Exception) -> UserError:
    """The error of a job that a launcher ran elsewhere: the last line that it printed for its user.

    A job that printed none, such as one that ran out of memory, gives the first line of the launcher's own message.
    """
    lines = str(error).splitlines()
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return UserError(said[-1] if said else f"a job of the sweep failed: {lines[0] if lines else error}")


def _prepare_launcher(overrides: list[str]) -> None:
    """See that the launcher of a sweep is installed, and that its processes will find models/ and datasets/."""
    for override in overrides:
        key, _, launcher = override.lstrip("+").partition("=")
        if key != "hydra/launcher" or launcher not in LAUNCHERS:
            continue
        plugin, extra = LAUNCHERS[launcher]
        if not is_installed(plugin):
            raise UserError(f"{override}: the launcher is not installed; pip install '.[{extra}]'")
        paths = [str(CONFIG_DIR.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def is_installed(plugin: str) -> bool:
    """Whether Hydra finds a plugin."""
    try:
        return importlib.util.find_spec(f"hydra_plugins.{plugin}") is not None
    except ModuleNotFoundError:  # not even one plugin
        return False
