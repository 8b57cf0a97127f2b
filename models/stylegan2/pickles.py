"""Reads the official ``.pkl`` networks of StyleGAN2 without executing anything from them.

Those files hold whole objects with the source code of their classes, which the official loader executes. Here
a restricted unpickler knows a handful of names, each of which makes an inert record; any other name is refused,
and storages become tensors only after the whole file has been read. What is left is state dicts and the
arguments that the networks were built with.
"""

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ffl.errors import UserError
from models.stylegan2.official import flatten

MAX_DEPTH = 32  # of modules within modules; the official networks have 4
# What arguments of networks may consist of; anything else is no setting that a network could be built with.
Plain = str | int | float | bool | None


@dataclass(frozen=True)
class OfficialNetwork:
    """One network of an official pickle.

    Attributes:
        arguments: that it was built with.
        state_dict: official keys to tensors.
    """

    arguments: dict[str, Any]
    state_dict: dict[str, Tensor]

    @property
    def options(self) -> dict[str, Any]:
        """The arguments as options of ``nvlabs_network``; float16 is left off."""
        return {"conv_clamp": None} | flatten(self.arguments) | {"num_fp16_res": 0}


# While a file is being unpickled it can combine the objects that it gets in any order. These records are inert: they
# are read only when all of it has been read, and then as untrusted values.
class _Storage(NamedTuple):
    data: bytes


class _StoredTensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Record(NamedTuple):
    state: dict[str, Any]


class _Maker:
    """A callable that pickled instructions can call and nothing else: it has no attributes to be overwritten."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"the file tries to set {name}")

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


def _make_storage(data: Any) -> _Storage:
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("a storage that is not made of bytes")
    return _Storage(data)


def _make_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _StoredTensor:
    numbers = (offset, *size, *stride) if isinstance(size, tuple) and isinstance(stride, tuple) else (None,)
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor without storage, size or stride")
    return _StoredTensor(storage, offset, size, stride)


def _make_parameter(data: Any, *_: Any) -> _StoredTensor:
    if not isinstance(data, _StoredTensor):
        raise pickle.UnpicklingError("a parameter that is no tensor")
    return data


def _make_record(meta: Any) -> _Record:
    """The attributes of an object of an official class; its source code is dropped unread."""
    if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
        raise pickle.UnpicklingError("a persistent object without state")
    return _Record(meta["state"])


# Every name that a file may refer to. The types are built-in ones, whose attributes can't be overwritten either.
_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("dnnlib.util", "EasyDict"): dict,
    ("torch.storage", "_load_from_bytes"): _Maker(_make_storage),
    ("torch._utils", "_rebuild_tensor_v2"): _Maker(_make_tensor),
    ("torch._utils", "_rebuild_parameter"): _Maker(_make_parameter),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Maker(_make_record),
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return _KNOWN[module, name]


def read_official_pickle(path: Path) -> dict[str, OfficialNetwork]:
    """The networks of an official PyTorch pickle by name: ``G``, ``D``, ``G_ema`` as far as they are there.

    Raises:
        UserError: if the file is absent, not of this kind, or holds anything but tensors, plain containers and the
            official persistent objects. Nothing in it is executed.
    """
    networks = {}
    try:
        with path.open("rb") as file:
            content = _RestrictedUnpickler(file).load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"it holds a {type(content).__name__} in the place of named networks")
        for name in ("G", "D", "G_ema"):
            if not isinstance(record := content.get(name), _Record):
                continue
            arguments = record.state.get("_init_kwargs", {})
            if record.state.get("_init_args", ()) or not isinstance(arguments, dict):
                raise pickle.UnpicklingError("a network built with arguments that have no names")
            tensors: dict[str, Tensor] = {}
            _collect(record, "", tensors, 0)
            networks[name] = OfficialNetwork(_plain(arguments, 0), tensors)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of an official .pkl") from None
    except Exception as error:  # an unpickler raises anything on bytes that are not a pickle
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        hint = ""
        if "dnnlib.tflib" in reason:
            hint = "; networks of the TensorFlow release are to be converted with its official script first"
        raise UserError(
            f"{path}: not an official StyleGAN2 pickle of tensors and settings alone ({reason}){hint}"
        ) from None
    return networks


def read_official_network(path: Path, name: str = "G_ema") -> OfficialNetwork:
    """One network of an official pickle: ``G_ema``, ``G`` or ``D``.

    Raises:
        UserError: as ``read_official_pickle``, or if there is no such network.
    """
    networks = read_official_pickle(path)
    if name not in networks:
        raise UserError(f"{path}: no network {name}; it holds {', '.join(networks) or 'none'}")
    return networks[name]


def _collect(record: _Record, prefix: str, state: dict[str, Tensor], depth: int) -> None:
    """Parameters and buffers of a module and of those inside it, under the keys of a state dict."""
    if depth > MAX_DEPTH:
        raise pickle.UnpicklingError("modules are nested too deep")
    # A state dict leaves out buffers that a module marks as not persistent, such as constants that it computes.
    temporary = record.state.get("_non_persistent_buffers_set", ())
    for group in ("_parameters", "_buffers"):
        for name, value in dict(record.state.get(group, {})).items():
            if value is not None and name not in temporary:
                state[f"{prefix}{name}"] = _tensor(value)
    for name, module in dict(record.state.get("_modules", {})).items():
        if isinstance(module, _Record):
            _collect(module, f"{prefix}{name}.", state, depth + 1)
        elif module is not None:
            raise pickle.UnpicklingError(f"{prefix}{name} is no module")


def _tensor(stored: Any) -> Tensor:
    if not isinstance(stored, _StoredTensor):
        raise pickle.UnpicklingError(f"a {type(stored).__name__} in the place of a tensor")
    # The bytes of a storage are themselves a file of torch.save: it is read as strictly as any other.
    storage = torch.load(io.BytesIO(stored.storage.data), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError("a storage that is none")
    values = torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)  # type: ignore[call-overload]
    if math.prod(stored.size) > len(values):  # overlapping strides could claim any amount of memory
        raise pickle.UnpicklingError("a tensor larger than its storage")
    return values.as_strided(stored.size, stored.stride, stored.offset).clone()


def _plain(value: Any, depth: int) -> Any:
    """Settings without any class of their own."""
    if depth > MAX_DEPTH:
        raise pickle.UnpicklingError("settings are nested too deep")
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, Plain):
        return value
    raise pickle.UnpicklingError(f"a setting of type {type(value).__name__}")
