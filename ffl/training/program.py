"""Turns a Hydra config and a task into a command-line program with one-line errors."""

import contextlib
import errno
import importlib.util
import itertools
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ffl.errors import Preempted, SharedError, UserError
from ffl.training import distributed
from ffl.training.config import flatten, unknown_key

EXIT_USER_ERROR = 2
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: try again later
EXIT_INTERRUPTED = 130
CONFIG_DIR = Path(__file__).resolve().parents[2] / "configs"
GROUPS = {
    path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in CONFIG_DIR.iterdir() if path.is_dir()
}
FLAGS = {"-h", "--help", "--hydra-help", "-m", "--multirun", "-c", "--cfg", "--resolve", "-p", "--package"}
FLAGS |= {"-i", "--info", "--version"}
# Choices of hydra/launcher that run the jobs of a sweep elsewhere: the plugin, and our extra that installs it.
LAUNCHERS = {
    "joblib": ("hydra_joblib_launcher", "parallel"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_submitit_launcher", "slurm"),
}

Config = dict[str, Any]


def compose(program: str, overrides: list[str]) -> Config:
    """The resolved config of ``program`` under ``overrides``, as plain values.

    Raises:
        UserError: for what Hydra or OmegaConf reject, in one line with the allowed keys or choices.
    """
    of_hydra = any(override.lstrip("+~").startswith("hydra") for override in overrides)
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            _check_groups(overrides)
            return _plain(hydra.compose(program, overrides, return_hydra_config=of_hydra))
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            allowed = _plain(hydra.compose(program, []), resolve=False)
            raise _readable(error, allowed, overrides) from None


def _plain(config: DictConfig, resolve: bool = True) -> Config:
    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    plain = OmegaConf.to_container(ours, resolve=resolve, throw_on_missing=resolve)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _check_groups(overrides: list[str]) -> None:
    """Refuse what is no choice of a group: Hydra's own messages do not name it."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key.lstrip("~+") not in GROUPS:
            if not key:
                raise UserError(f"{override}: expected key=value")
            continue
        if key.startswith("~") or not re.fullmatch(r"[\w-]*[A-Za-z_][\w-]*", value) or value == "null":
            group = key.lstrip("~+")
            raise UserError(f"{override}: no such choice; {group} is one of {', '.join(GROUPS[group])}")


def _readable(error: Exception, allowed: Config, overrides: list[str]) -> UserError:
    """One line from Hydra's several, naming key, value and what is allowed."""
    text = f"{error}\n{error.__cause__ or ''}"
    if match := re.search(r"Could not override '(hydra\.[^']+)'", text):
        return UserError(f"unknown key {match[1]}: see --hydra-help")
    if match := re.search(r"Could not override '([^']+)'", text):
        section = match[1].rpartition(".")[0]
        siblings = [key for key in flatten(allowed) if key.rpartition(".")[0] == section]
        return unknown_key(match[1], siblings or list(allowed))
    if match := re.search(
        r"In '[^']*': Could not find '([^']+)'\s*Available options in '([^']+)':(.*?)(?:Config search path|$)",
        text,
        re.DOTALL,
    ):
        group, choices = match[2], ", ".join(match[3].split())
        return UserError(f"{group}={match[1].split('/')[-1]}: no such choice; {group} is one of {choices}")
    if match := re.search(r"Could not find '([^']+)'", text):
        return UserError(f"{match[1]}: no such config group or choice; see --help for the groups")
    if match := re.search(r"Missing mandatory value:.*full_key: (\S+)", text, re.DOTALL):
        return UserError(f"{match[1]} is missing: set {match[1]}=...")
    if match := re.search(r"(.*)\n\s*full_key: (\S+)", text):
        given = next((item for item in overrides if item.lstrip("+").startswith(f"{match[2]}=")), match[2])
        return UserError(f"{given}: {match[1].strip()}; give a plain value")
    if isinstance(error, OverrideParseException):
        return UserError(f"cannot read the command line: {' '.join(text.split())[:200]}; expected key=value")
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
    with user_errors(speaks=distributed.env_rank() == 0):  # all processes have the same command line
        for argument in arguments:
            if argument.startswith("-") and argument.partition("=")[0] not in FLAGS:
                raise UserError(f"unknown flag {argument}: settings are key=value; flags are -m, --cfg job and --help")
        if not informs_only:
            _prepare_launcher(arguments)
            for overrides in jobs(arguments):
                check(compose(program, overrides))

    @hydra.main(config_path=str(CONFIG_DIR), config_name=program, version_base="1.3")
    def main(config: DictConfig) -> None:
        with user_errors():
            task(_plain(config), list(HydraConfig.get().overrides.task))

    with user_errors():
        os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come here instead of being printed on the way
        try:
            main()
        except Exception as error:
            if not type(error).__module__.startswith("submitit"):
                raise
            raise _of_job(error) from None


def _of_job(error: Exception) -> UserError:
    """What a job that a launcher started elsewhere has said last, or where to look for it."""
    lines = str(error).splitlines()
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return UserError(said[-1] if said else f"a job of the sweep failed: {lines[0] if lines else error}")


def _prepare_launcher(arguments: list[str]) -> None:
    """See that the launcher of a sweep is installed, and that its processes will find models/ and datasets/."""
    for argument in arguments:
        key, _, launcher = argument.lstrip("+").partition("=")
        if key != "hydra/launcher" or launcher not in LAUNCHERS:
            continue
        plugin, extra = LAUNCHERS[launcher]
        if not is_installed(plugin):
            raise UserError(f"{argument}: the launcher is not installed; pip install '.[{extra}]'")
        paths = [str(CONFIG_DIR.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def is_installed(plugin: str) -> bool:
    """Whether Hydra finds a plugin."""
    try:
        return importlib.util.find_spec(f"hydra_plugins.{plugin}") is not None
    except ModuleNotFoundError:  # not even one plugin
        return False


def run_script(
    main: Callable[[list[str]], object], description: str | None, details: Callable[[], str] | None = None
) -> None:
    """Run a script that takes its words itself: its help, or ``main`` with one line for each mistake.

    Args:
        main: called with the words of the command line.
        description: printed for ``-h`` or ``--help``.
        details: more for the help that takes reading files to know.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(description)
        if details is not None:
            print(details())
        return
    with user_errors():
        main(arguments)


@contextlib.contextmanager
def user_errors(speaks: bool = True) -> Iterator[None]:
    """Around a program: what a user can put right ends it with one line and status 2.

    Status 75 is a run that a signal stopped and that has saved itself, 130 is Ctrl-C. What all processes of a run know
    is printed by process 0, what only one of them knows by that one.

    Args:
        speaks: whether this process prints the line at all.
    """
    warnings = logging.StreamHandler()
    warnings.setLevel(logging.WARNING if distributed.env_rank() == 0 else logging.ERROR)
    logging.basicConfig(handlers=[warnings], format="warning: %(message)s")
    try:
        yield
    except UserError as error:
        text = " ".join(str(error).split())  # names that users give may hold line breaks
        if speaks and (distributed.env_rank() == 0 or not isinstance(error, SharedError)):
            print(f"error: {text}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        if error.filename is None or error.errno == errno.EPIPE:
            raise
        reason = f"{error.filename}: {error.strerror}; choose another place, or see to its permissions and room"
        print(f"error: {' '.join(reason.split())}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except Preempted as stop:
        if distributed.env_rank() == 0:
            print(stop, file=sys.stderr)
        sys.exit(EXIT_PREEMPTED)
    except KeyboardInterrupt:
        print("\nstopped; train.py continues where the last checkpoint was with resume=auto", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
