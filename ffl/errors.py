"""The exceptions that end a program with one line instead of a traceback.

Programs print the message of a ``UserError`` and exit with status 2; library users catch it. Losses and metrics
called with a wrong tensor raise ValueError or TypeError instead, as any torch module would.
"""


class UserError(Exception):
    """Something the user can put right: a missing folder, a bad file, an impossible option.

    The message is one line that names the thing, the value found, and the fix.
    """


class MissingExtra(UserError, ImportError):
    """A package is not installed, because the extra that brings it was not asked for."""


def missing_extra(package: str | None, extra: str) -> MissingExtra:
    """The error to raise where an optional package cannot be imported.

    Args:
        package: what could not be imported, as ``ModuleNotFoundError.name`` has it; None where it does not say.
        extra: of this distribution: "metrics", "train", "figures", ...
    """
    name = (package or "a package").partition(".")[0]
    return MissingExtra(f"{name} is not installed; run: pip install 'focal-frequency[{extra}]'")


class SharedError(UserError):
    """An error that every process of the run raises with the same message, so that process 0 alone prints it."""


class Preempted(Exception):
    """The run was told to stop and has saved itself; the message is one line that says how to go on."""
