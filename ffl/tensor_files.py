"""Reading files of tensors without executing anything that they hold."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


class UnreadableTensors(Exception):
    """A file that holds more than tensors and plain values, or nothing of the kind; the message is the reason alone."""


def read_tensors(path: Path, known: Sequence[type] = ()) -> Any:
    """Read a file that ``torch.save`` wrote, with its tensors on the CPU.

    Args:
        path: of the file.
        known: further classes that may be in it; they must be harmless to make.
    Raises:
        UnreadableTensors: for anything but tensors, plain values and containers of them, or a damaged file.
        OSError: if it cannot be opened.
    """
    with path.open("rb"):
        pass  # below, what cannot be opened would look like what cannot be decoded
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(known)):
            warnings.simplefilter("ignore")  # of a pickle protocol that torch itself would not have chosen
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises anything on bytes that are not a pickle
        # In our own words: torch's advice is to turn the protection off.
        if refused := re.search(r"GLOBAL ([\w.]+)", str(error)):
            reason = f"it refers to {refused[1]}, and only tensors and plain values are ever loaded"
        elif "PytorchStreamReader" in str(error):
            reason = "it is cut short or altered"
        else:
            reason = "it is not what torch.save writes"
        raise UnreadableTensors(reason) from None
