"""Checkpoints: tensors and plain values only, written atomically, checked and loaded without executing anything.

A file is a zip archive with a checksum of each part, as ``torch.save`` makes it. All of them are compared before
anything is loaded, so that a truncated or altered file is noticed and the one before it can take its place.

Weights that are handed on are a safetensors file instead, whose header says what they are of. It loads like an imported
checkpoint: it names the networks that it holds, which is enough to generate images but not to resume.
"""

import hashlib
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ffl.errors import UserError, missing_extra
from ffl.files import atomic_write
from ffl.tensor_files import UnreadableTensors, read_tensors

log = logging.getLogger(__name__)

FORMAT = 1
ADVICE = "put another copy of it there, or train anew"
HEADER = "focal_frequency"  # the key of a safetensors header that holds ours, as JSON


def save_checkpoint(path: Path, state: dict[str, Any], previous: Path | None = None) -> None:
    """Write ``state`` so that ``path`` always holds a whole checkpoint, the old one or this one.

    Args:
        path: of the file.
        state: tensors and plain values.
        previous: name that the old file is to have from now on; None to let it go.
    Raises:
        OSError: if it cannot be written; the old files are then as they were.
    """
    with atomic_write(path) as file:
        try:
            torch.save({"format": FORMAT, **state}, file)
        except RuntimeError as error:
            # On a full disk torch stumbles over its half-written archive on the way out, and hides why.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        if previous is not None and path.is_file():
            # Nothing changes before all of the new file is on the disk.
            file.flush()
            os.fsync(file.fileno())
            # A hard link gives the old file its second name while the first one still stands. A file system without
            # links moves it, and for a moment there is only the previous checkpoint.
            link = previous.with_name(f".{previous.name}.new")
            link.unlink(missing_ok=True)
            try:
                os.link(path, link)
                os.replace(link, previous)
            except OSError:
                os.replace(path, previous)


def save_weights(path: Path, weights: Mapping[str, Tensor], networks: Sequence[str], step: int | None) -> None:
    """Write weights of some networks of a model as safetensors, which ``load_newest`` reads like a checkpoint.

    Args:
        path: of the file, with the suffix ``.safetensors``.
        weights: all of the networks' weights, under the keys of the model.
        networks: attributes of the model.
        step: of the run that the weights are from; None where it is not known.
    Raises:
        OSError: if it cannot be written.
    """
    save = _safetensors().torch.save
    # The format stores each tensor by itself, in rows: neither views nor other memory layouts.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}
    about = {"format": FORMAT, "step": step, "networks": list(networks), "sha256": _digest(tensors)}
    with atomic_write(path) as file:
        file.write(save(tensors, {"format": "pt", HEADER: json.dumps(about)}))


def _safetensors() -> Any:
    """The package, which only exported weights need."""
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        raise missing_extra(error.name, "train") from None
    return safetensors


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over names and values: a safetensors file has no checksums of its own."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_newest(paths: Sequence[Path], whole: bool = True) -> tuple[Path, dict[str, Any]]:
    """The first checkpoint of several that is there and intact; a warning names a damaged one before it.

    Args:
        paths: from new to old.
        whole: see ``load_checkpoint``.
    Returns:
        Which one it is, and its state.
    Raises:
        UserError: if none is there and intact, or the newest one has another format or is not whole where it has to
            be; the message is about the newest that is there.
    """
    # If none of them exists, the message is about the newest.
    there = [path for path in paths if path.is_file()] or list(paths[:1])
    errors = []
    for path in there:
        try:
            state = _load(path, whole)
        except DamagedError as error:
            errors.append(error)
            continue
        # Going back costs the steps since then, which the user has to know.
        if errors:
            log.warning("%s; going on from %s, step %s", errors[0], path.name, state["step"])
        return path, state
    raise UserError(f"{errors[0]}; {ADVICE}")


def load_checkpoint(path: Path, whole: bool = True) -> dict[str, Any]:
    """Read what ``save_checkpoint`` wrote, tensors on the CPU.

    Args:
        path: of the file.
        whole: whether training is to resume from it. An imported or exported checkpoint names under ``networks`` the
            networks whose weights it holds, which is enough to generate images but not to resume.
    Raises:
        UserError: if the file is absent, damaged, holds more than tensors and plain values, has another format, or is
            not whole where it has to be.
    """
    return load_newest([path], whole)[1]


class DamagedError(Exception):
    """A file that is cut short or altered, or not a checkpoint at all."""


def _load(path: Path, whole: bool) -> dict[str, Any]:
    """The state in one file, for ``load_newest``, which takes another file on a DamagedError."""
    exported = path.suffix == ".safetensors"
    state = _read_safetensors(path) if exported else read_archive(path)
    if not isinstance(state, dict) or "format" not in state:
        raise DamagedError(f"{path}: not a checkpoint of this program")
    if state["format"] != FORMAT:
        raise UserError(
            f"{path}: has format {state['format']}, and this version reads {FORMAT}: take the version that wrote it, "
            "or train anew without resume"
        )

    # Compare the types with those that this program writes, so that nothing below meets another kind of value.
    step, weights, imported = state.get("step"), state.get("model"), "networks" in state
    networks = state.get("networks", [])
    fits = (
        isinstance(weights, dict)
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items())
        and isinstance(networks, list)
        and all(isinstance(name, str) for name in networks)
        and ((type(step) is int and step >= 0) or (step is None and imported))
    )
    if fits and whole and not imported:
        scalers, num_shards = state.get("scalers", {}), state.get("num_shards", 1)  # older versions had neither
        fits = (
            all(isinstance(part, dict) for part in (state.get("optimizers"), scalers))
            and isinstance(state.get("best_error"), float | None)
            and type(num_shards) is int
        )
    if not fits:
        raise DamagedError(f"{path}: a checkpoint with parts missing or of another kind")
    if whole and imported:
        raise UserError(
            f"{path}: an {'exported' if exported else 'imported'} checkpoint, which holds the "
            f"{' and '.join(networks)} alone: evaluate.py takes it, but training cannot resume from it; leave resume "
            "out to start a new run"
        )
    return state


def read_archive(path: Path) -> Any:
    """What ``torch.save`` wrote."""
    # Compare all checksums before anything is read.
    try:
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()
        state = read_tensors(path) if altered is None else None
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint; {ADVICE}") from None
    except UnreadableTensors as error:
        raise DamagedError(f"{path}: not a checkpoint, {error}") from None
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zlib.error, zipfile.BadZipFile):
        raise DamagedError(f"{path}: not a checkpoint, it is cut short or altered") from None
    if altered is not None:
        raise DamagedError(f"{path}: damaged, the checksum of {altered} does not fit")
    return state


def _read_safetensors(path: Path) -> dict[str, Any]:
    """What ``save_weights`` wrote, in the form of a checkpoint."""
    package = _safetensors()
    try:
        with package.safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, package.SafetensorError):
        raise DamagedError(f"{path}: not a safetensors file, it is cut short or altered") from None
    try:
        about = dict(json.loads(header[HEADER]))
    except (KeyError, ValueError, TypeError, RecursionError):
        raise DamagedError(f"{path}: not written by scripts/export.py, its header lacks {HEADER}") from None
    if about.get("sha256") != _digest(tensors):
        raise DamagedError(f"{path}: damaged, the checksum of its tensors does not fit")
    return {**about, "model": tensors}


def load_optimizers(
    optimizers: Mapping[str, torch.optim.Optimizer], states: Mapping[str, dict[str, Any]], path: Path
) -> None:
    """Load the state of optimisers.

    Raises:
        UserError: if the state is that of other optimisers.
    """
    try:
        # torch raises whatever it stumbles over first in a state of another kind.
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(states[name])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path} does not fit the model's optimisers; {ADVICE}") from None


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
    # Compare keys and shapes ourselves: torch's message lists all of them over many lines.
    own = model_state(model)
    if networks is not None:
        own = {key: value for key, value in own.items() if key.partition(".")[0] in networks}
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    reshaped = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    if missing or unexpected or reshaped:
        raise UserError(
            f"{path} does not fit the model: missing {missing[:3]}, unexpected {unexpected[:3]}, "
            f"other shape {reshaped[:3]}; it is of another version or configuration: use that one, or train anew"
        )
    # Not strict, since the objective's weights are in the model and not in the state. All else was compared above.
    model.load_state_dict(state, strict=False)
