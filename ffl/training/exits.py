"""How a program ends: one line and an exit status for what a user can put right."""

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator

from ffl.errors import Preempted, SharedError, UserError

EXIT_USER_ERROR = 2
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: try again later
EXIT_INTERRUPTED = 130


@contextlib.contextmanager
def report_user_errors(alike: bool = False) -> Iterator[None]:
    """End the program with one line and status 2 where a user can put right what went wrong.

    Status 75 is a run that a signal stopped and that has saved itself, 130 is Ctrl-C. Of the processes of one run
    process 0 prints the line; another one does so where process 0 does not know what went wrong.

    Args:
        alike: whether every process of the run meets the same mistakes inside the block, such as those in the command
            line, which they share; process 0 alone prints them.
    """
    # RANK is torchrun's, SLURM_PROCID srun's: a command line is checked before the processes meet.
    is_main = int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0) == 0
    # Warnings are about the run and alike in all processes; errors that a library logs may be one process's own.
    warnings = logging.StreamHandler()
    warnings.setLevel(logging.WARNING if is_main else logging.ERROR)
    logging.basicConfig(handlers=[warnings], format="warning: %(message)s")
    try:
        yield
    except UserError as error:
        if is_main or not (alike or isinstance(error, SharedError)):
            _print_error(str(error))
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        # An error without a file is a bug to be traced, and a broken pipe is the reader's choice, as in ``| head``.
        if error.filename is None or error.errno == errno.EPIPE:
            raise
        _print_error(f"{error.filename}: {error.strerror}; choose another place, or see to its permissions and room")
        sys.exit(EXIT_USER_ERROR)
    except Preempted as stop:
        if is_main:
            print(stop, file=sys.stderr)
        sys.exit(EXIT_PREEMPTED)
    except KeyboardInterrupt:
        print("\nstopped; train.py continues where the last checkpoint was with resume=auto", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _print_error(text: str) -> None:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)  # names that users give may hold line breaks
