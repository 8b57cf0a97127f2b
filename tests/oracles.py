"""Official behaviour as numbers: loads the reference vectors of ``../shared/oracles``.

The vectors are not part of the repository. Where they are absent, every test that uses them skips and says so.
"""

import functools
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

SHARED = Path(__file__).resolve().parents[2] / "shared"
FOLDER = SHARED / "oracles"


@functools.cache
def _rule() -> ModuleType:
    spec = importlib.util.spec_from_file_location("oracle_rule", FOLDER / "rule.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def _cases() -> dict[str, dict[str, Any]]:
    if not (FOLDER / "index.json").is_file():
        return {}
    return {case["name"]: case for case in json.loads((FOLDER / "index.json").read_text())["cases"]}


def names(prefix: str) -> list[Any]:
    """Names of the cases that start with ``prefix``, for ``pytest.mark.parametrize``; one skipped entry if absent."""
    found = [name for name in _cases() if name.startswith(prefix)]
    skip = pytest.mark.skip(reason=f"no reference vectors at {FOLDER}")
    return found or [pytest.param(prefix, marks=skip)]


class Case:
    """One reference case: how to build inputs and weights, and what must come out."""

    def __init__(self, name: str) -> None:
        if name not in _cases():
            pytest.skip(f"no reference vector {name} at {FOLDER}")
        self.entry = _cases()[name]
        self.args: dict[str, Any] = self.entry.get("args", {})
        self.arrays = dict(np.load(FOLDER / self.entry["file"])) if "file" in self.entry else {}

    def inputs(self) -> dict[str, np.ndarray]:
        """Input arrays by name, made by the recorded rule."""
        return _rule().make_inputs(self.entry["inputs"])

    def tensors(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Inputs as tensors; floating ones in ``dtype`` where given."""
        out = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in self.inputs().items()}
        return {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in out.items()}

    def state_dict(self, network: str = "model") -> dict[str, Tensor]:
        """Weights of one network by the recorded rule, aliases included; keys kept by the constructor are left out."""
        weights = self.entry["weights"][network]
        filled = _rule().fill_state(
            self.entry["state_dict"][network],
            weights["profile"],
            weights["gain"],
            weights["salt"],
            tuple(weights["kept"]),
            weights["sn_iters"],
        )
        for alias, key in weights.get("aliases", {}).items():
            filled[alias] = filled[key]
        # ascontiguousarray would turn a scalar into an array of one element
        return {key: torch.from_numpy(np.asarray(value, order="C")) for key, value in filled.items()}

    def key_shapes(self, network: str = "model") -> dict[str, list[int]]:
        """Keys and shapes of the official state dict, in its order."""
        return {key: shape for key, shape, _ in self.entry["state_dict"][network]}

    def check(
        self, name: str, got: Tensor | np.ndarray | float, *, float64: bool = False, atol: float | None = None
    ) -> None:
        """Assert that output ``name`` equals the official one within the tolerance that its entry states.

        ``float64=True`` compares with the value computed in float64 (training traces), to 1e-9 relative.
        """
        array = got.detach().cpu().numpy() if isinstance(got, Tensor) else np.asarray(got)
        spec = self.entry["outputs"][name]
        want = self.arrays[spec["float64"] if float64 else name]
        assert list(array.shape) == list(spec["shape"]), f"{name}: shape {array.shape}, official {spec['shape']}"
        sampled = _rule().sample(array, spec.get("slices"))
        scale = float(np.abs(want).max()) if want.size else 0.0
        allowed = (
            atol
            if atol is not None
            else (1e-9 * max(scale, 1e-3) if float64 else self.entry["tolerance"][name]["atol"])
        )
        if np.array_equal(sampled, want):  # also infinities
            return
        error = float(np.abs(sampled.astype(np.float64) - want.astype(np.float64)).max())
        assert error <= allowed, f"{name}: off by {error:.3g}, allowed {allowed:.3g} (largest value {scale:.3g})"
        if "stats" in spec and not float64:
            mean, std, abs_sum = _rule().stats(array)
            want_mean, want_std, want_sum = self.arrays[spec["stats"]]
            assert abs(mean - want_mean) <= allowed, f"{name}: mean {mean}, official {want_mean}"
            assert abs(std - want_std) <= allowed, f"{name}: std {std}, official {want_std}"
            assert abs(abs_sum - want_sum) <= allowed * array.size, f"{name}: sum |x| {abs_sum}, official {want_sum}"
