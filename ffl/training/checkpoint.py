"""Checkpoints: tensors and plain values only, written atomically, loaded without executing anything."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.files import atomic_write

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` so that ``path`` always holds a whole checkpoint, the old one or this one."""
    with atomic_write(path) as file:
        torch.save({"format": FORMAT, **state}, file)


def load_checkpoint(path: Path, whole: bool = True) -> dict[str, Any]:
    """Read what ``save_checkpoint`` wrote, tensors on the CPU.

    Args:
        path: of the file.
        whole: whether training is to resume from it. A state may name under ``networks`` the networks whose weights
            it holds, all others being absent, as an imported one does: enough to generate images, not to resume.
    Raises:
        UserError: if the file is absent, damaged, holds more than tensors and plain values, has another format, or is
            not whole where it has to be.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except Exception as error:  # the unpickler raises anything on bytes that are not a pickle
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:120]
        raise UserError(f"{path}: not a readable checkpoint of tensors and plain values ({reason})") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of this program (format {FORMAT})")
    if whole and "networks" in state:
        raise UserError(
            f"{path}: an imported checkpoint, which holds the {' and '.join(state['networks'])} alone: evaluate.py "
            "takes it, but training cannot resume from it; leave resume out to start a new run"
        )
    return state


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """Weights of a model without those of its objective, which are frozen and come from published files."""
    return {key: value for key, value in model.state_dict().items() if not key.startswith("objective.")}


def load_model_state(
    model: nn.Module, state: dict[str, Tensor], path: Path, networks: Collection[str] | None = None
) -> None:
    """Load what ``model_state`` returned.

    Args:
        model: to load into.
        state: keys to tensors.
        path: where they are from, for messages.
        networks: attributes of the model that ``state`` holds, all of each; None for the whole model.
    Raises:
        UserError: naming keys that are missing, unexpected or of another shape.
    """
    own = model_state(model)
    if networks is not None:
        own = {key: value for key, value in own.items() if key.partition(".")[0] in networks}
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    reshaped = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    if missing or unexpected or reshaped:
        raise UserError(
            f"{path} does not fit the model: missing {missing[:3]}, unexpected {unexpected[:3]}, "
            f"other shape {reshaped[:3]}"
        )
    model.load_state_dict(state, strict=False)
