"""State dicts that other programs saved: what their shapes tell, and the one strict way into a network.

Official weights are taken in four steps: the shapes in the state dict tell the architecture, the architecture is
compared with what the user says, the network is built, and ``load_strict`` copies the weights into it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from ffl.errors import UserError

Network = TypeVar("Network", bound=nn.Module)

MAX_LISTED = 5  # keys that a message names before it only counts
BATCH_NORM_COUNTER = ".num_batches_tracked"  # absent before PyTorch 0.4.1, and not read in evaluation
DATA_PARALLEL = "module."


class StateDict:
    """A state dict of an official program, while the network that it belongs to is being found out.

    Args:
        kind: of network, for messages.
        tensors: keys to tensors; a ``module.`` before every key, from ``DataParallel``, is dropped.
    Raises:
        UserError: if it holds anything but tensors, or a tensor that claims more values than it stores.
    """

    def __init__(self, kind: str, tensors: Mapping[str, Any]) -> None:
        for key, value in tensors.items():
            if not isinstance(value, Tensor):
                raise UserError(f"{kind}: {key} is a {type(value).__name__}, expected a state dict of tensors")
            # A network of the claimed shape could need any amount of memory, however small the file is.
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise UserError(f"{kind}: {key} claims more values than the file holds; download it again")
        parallel = all(key.startswith(DATA_PARALLEL) for key in tensors)
        self.kind = kind
        self.tensors: dict[str, Tensor] = {
            key.removeprefix(DATA_PARALLEL) if parallel else key: value for key, value in tensors.items()
        }

    def shape(self, key: str, dims: Collection[int] = (4,)) -> tuple[int, ...]:
        """The shape of a tensor that every network of this kind has.

        Args:
            key: of the tensor.
            dims: numbers of dimensions that it may have.
        Raises:
            UserError: if it is absent, has another number of dimensions or no values.
        """
        if key not in self.tensors:
            found = shorten(list(self.tensors)) or "no keys"
            raise UserError(f"this is no complete {self.kind} checkpoint: missing: {key}; found: {found}")
        shape = tuple(self.tensors[key].shape)
        if len(shape) not in dims or 0 in shape:
            raise UserError(f"this is no {self.kind} checkpoint: {key} has the shape {shape}; give the official file")
        return shape

    def count(self, pattern: str) -> int:
        """One more than the largest i for which ``pattern.format(i)`` is a key; 0 if there is none."""
        # No complete network numbers its layers beyond its tensors, which bounds what a damaged file can ask for.
        return max((i + 1 for i in range(len(self.tensors)) if pattern.format(i) in self.tensors), default=0)

    def check_options(self, known: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Compare options of the official program with the weights.

        Args:
            known: names of options to what they are by the weights.
            options: names to what the user or the file says.
        Raises:
            UserError: for an option that is unknown or that the weights contradict.
        """
        for name, value in options.items():
            if name not in known:
                raise UserError(f"{self.kind}: unknown option {name}; it is one of {', '.join(known)}")
            if value != known[name]:
                raise UserError(f"{self.kind}: {name}={value}, but by its weights it is {known[name]}")


@dataclass(frozen=True)
class Architecture:
    """The network of ours that a state dict calls for, and where each tensor belongs in it.

    Attributes:
        weights: the state dict.
        network: the class.
        arguments: of its constructor.
        names: as of ``load_strict``.
        ignored: likewise.
    """

    weights: StateDict
    network: Callable[..., nn.Module]
    arguments: dict[str, Any]
    names: Mapping[str, str] | None = None
    ignored: tuple[str, ...] = ()

    def load(self, network: Network) -> Network:
        """``load_strict`` the weights into a network of this architecture."""
        weights = self.weights
        return load_strict(network, weights.tensors, weights.kind, self.names, ignored=self.ignored)


def load_strict(
    network: Network,
    state_dict: Mapping[str, Tensor],
    kind: str,
    names: Mapping[str, str] | None = None,
    optional: tuple[str, ...] = (),
    ignored: tuple[str, ...] = (),
) -> Network:
    """Copy a state dict into a network that has exactly its keys and shapes.

    Axes of length one may come and go: scalars had one dimension before PyTorch 0.4, and implementations of one
    network differ in them. The counters of batch norm may be absent.

    Args:
        network: of the architecture that the weights call for.
        state_dict: the weights.
        kind: of network, for the message.
        names: keys of ``state_dict`` to those of the network, which keeps its own values for what is not among them;
            None where all keys are the same.
        optional: ends of keys that the state dict may lack; the network keeps its own values for them.
        ignored: ends of keys that the state dict may have and the network has not.
    Returns:
        ``network``.
    Raises:
        UserError: one line with the missing, unexpected and wrongly shaped keys.
    """
    own = network.state_dict()
    names = {key: key for key in own} if names is None else names
    check_keys(state_dict, kind, names, (BATCH_NORM_COUNTER, *optional), ignored)
    pairs = {key: own[ours] for key, ours in names.items() if key in state_dict}
    wrong = [
        f"{key} {tuple(state_dict[key].shape)} for {tuple(target.shape)}"
        for key, target in pairs.items()
        if [n for n in state_dict[key].shape if n != 1] != [n for n in target.shape if n != 1]
    ]
    if wrong:
        raise UserError(f"this is no complete {kind} checkpoint: wrong shape: {shorten(wrong)}")
    # All of the network's own keys are given, so that torch's strict loading has nothing left to refuse.
    loaded = {names[key]: state_dict[key].reshape(target.shape) for key, target in pairs.items()}
    network.load_state_dict({**own, **loaded})
    return network


def check_keys(
    state_dict: Mapping[str, Tensor],
    kind: str,
    expected: Collection[str],
    optional: tuple[str, ...] = (),
    ignored: tuple[str, ...] = (),
) -> None:
    """Raise UserError, naming keys, unless a state dict has the expected ones; arguments as of ``load_strict``."""
    missing = [key for key in expected if key not in state_dict and not key.endswith(optional)]
    unexpected = [key for key in state_dict if key not in expected and not key.endswith(ignored)]
    if missing or unexpected:
        found = {"missing": missing, "unexpected": unexpected}
        lines = [f"{problem}: {shorten(keys)}" for problem, keys in found.items() if keys]
        raise UserError(f"this is no complete {kind} checkpoint: {'; '.join(lines)}")


def shorten(keys: list[str]) -> str:
    """The first few keys and the number of the others."""
    rest = len(keys) - MAX_LISTED
    return ", ".join(keys[:MAX_LISTED]) + (f" and {rest} more" if rest > 0 else "")
