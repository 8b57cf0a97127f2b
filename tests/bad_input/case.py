"""A wrong invocation and what a user must be told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bad_input.place import Place


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        id: short name, unique over all programs.
        program: path below the root of the repository.
        arguments: words of the command line.
        cause: regular expression; the line must name the offending thing.
        fix: regular expression; the same line must say what to do, or what is allowed.
        why: how a user gets there, or what would happen without the check.
        prepare: fills the working directory; what it returns is not used.
        reports: the program is a doctor whose report is its output: the line stands there, and the status is 1.
        leaves: names below the working directory, as of ``Path.match``, that may be new after the program.
        skip: why the case cannot be tried on this machine, if it cannot.
    """

    id: str
    program: str
    arguments: tuple[str, ...]
    cause: str
    fix: str
    why: str
    prepare: Callable[[Place], Any] = lambda place: None
    reports: bool = False
    leaves: tuple[str, ...] = ()
    skip: str | None = None
