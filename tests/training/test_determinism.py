"""``trainer.deterministic`` gives the numbers of other machines, or says what it lacks."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffl.errors import UserError
from ffl.training.checkpoint import load_checkpoint
from ffl.training.config import TrainerConfig, difference
from ffl.training.determinism import VARIABLES, deterministic_algorithms, fix_instructions
from ffl.training.loader import Loader
from ffl.training.objective import Objective
from ffl.training.trainer import Trainer
from models.ae import VanillaAutoencoder
from scripts.benchmarks import determinism
from scripts.benchmarks.timing import Conditions

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "fixed"),
    [
        (["model=vae", "trainer.deterministic=true"], True),
        (["-m", "++trainer.deterministic=false,True"], True),
        (["trainer.deterministic=false", "name=true"], False),
        (["trainer.deterministic"], False),
        ([], False),
    ],
)
def test_variables_are_set_where_a_run_asks_for_them(
    words: list[str], fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"MKL_CBWR": "AVX2"})
    fix_instructions(words)
    assert os.environ == (VARIABLES if fixed else {"MKL_CBWR": "AVX2"})


def _trained(folder: Path, machine: dict[str, str]) -> dict[str, torch.Tensor]:
    """Weights that train.py gives with these environment variables."""
    words = ["model=vae", "debug=smoke", "loss.ffl=true", "trainer.steps=2", "trainer.deterministic=true"]
    words += ["trainer.accelerator=cpu", "dataset.train_images=8", "dataset.test_images=8", "dataset.val_images=1"]
    words += [f"output_root={folder}", f"cache_dir={folder}/cache", "name=run", "trainer.checkpoint_every=2"]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    done = subprocess.run(command, env={**os.environ, **machine}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "deterministic: CPU threads 1, AVX2" in done.stdout
    weights: dict[str, torch.Tensor] = load_checkpoint(folder / "run/checkpoints/last.pt")["model"]
    return weights


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="needs AVX2")
def test_an_older_processor_with_more_threads_trains_the_same_weights(tmp_path: Path) -> None:
    # What the older instructions change without the key is measured by scripts/benchmark.py determinism.
    ours = _trained(tmp_path / "here", {})
    theirs = _trained(tmp_path / "there", {**determinism.MACHINES["SSE4.2"], "OMP_NUM_THREADS": "2"})
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


class _Images:
    """Eight random images."""

    def __len__(self) -> int:
        return 8

    def batch(self, indices: np.ndarray, seed: int | None) -> dict[str, Any]:
        return {"image": torch.rand(len(indices), 3, 8, 8), "index": torch.from_numpy(indices)}


def test_a_program_that_loaded_torch_before_is_told_how_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    model = VanillaAutoencoder((8, 8), Objective(), hidden_dim=8)
    config = TrainerConfig(epochs=1, batch_size=4, accelerator="cpu", deterministic=True)
    monkeypatch.delenv("MKL_CBWR", raising=False)
    with pytest.raises(UserError, match=r"deterministic=true: MKL_CBWR=COMPATIBLE is not set; .* MKL_CBWR=COMPATIBLE "):
        Trainer(model, Loader(_Images(), 4, 0), None, config, seed=0)  # type: ignore[arg-type]
    # Variables that come too late do nothing, and are not believed.
    for key, value in VARIABLES.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    with pytest.raises(UserError, match=r"deterministic=true: torch runs AVX512 and not AVX2; .* with AVX2$"):
        Trainer(model, Loader(_Images(), 4, 0), None, config, seed=0)  # type: ignore[arg-type]
    half = TrainerConfig(epochs=1, batch_size=4, accelerator="cpu", deterministic=True, precision="bf16")
    with pytest.raises(
        UserError, match=r"deterministic=true: AVX2 has no instructions for bf16; set trainer\.prec.*fp32"
    ):
        Trainer(model, Loader(_Images(), 4, 0), None, half, seed=0)  # type: ignore[arg-type]
    torch.set_num_threads(before)


def test_an_operation_without_a_deterministic_way_is_named() -> None:
    values, places = torch.zeros(4), torch.tensor([1, 1])
    named = r"^trainer\.deterministic=true: put_ .*; train on a CPU, or set it to false$"
    with pytest.raises(UserError, match=named), deterministic_algorithms(True):
        values.put_(places, torch.ones(2))
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic_algorithms(False):
        values.put_(places, torch.ones(2))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"), deterministic_algorithms(True):
        torch.ones(2) @ torch.ones(3)


def test_a_deterministic_run_may_not_be_resumed_with_other_rounding() -> None:
    def config(deterministic: bool, threads: int) -> dict[str, Any]:
        return {"trainer": {"deterministic": deterministic, "threads": threads, "log_every": threads}}

    assert difference(config(True, 1), config(True, 2)) == ["trainer.threads: 1 -> 2"]
    assert difference(config(False, 1), config(False, 2)) == []
    assert difference(config(True, 1), config(False, 1)) == ["trainer.deterministic: True -> False"]


def test_rows_of_the_benchmark_compare_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each machine against this one, without the key and with it, on processes that stand in."""

    def results(variables: dict[str, str], fixed: bool, *_: Any) -> dict[str, torch.Tensor]:
        return {"sum": torch.tensor([3.0, 4.0 if fixed or variables == determinism.HERE else 4.5])}

    monkeypatch.setattr(determinism, "_results", results)
    rows = list(determinism.measure(Conditions(torch.device("cpu"), ("ae",), None, Path("data"), True)))
    assert [row["machine"] for row in rows] == list(determinism.MACHINES)
    for row in rows:
        assert (row["equal"], row["deterministic_equal"]) == (False, True)
        assert row["difference"] == pytest.approx(0.5 / 5)
        assert row["deterministic_difference"] == 0
    operations = [determinism.operations() for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(operations[0].values(), operations[1].values(), strict=True))
    with pytest.raises(UserError, match="set accelerator=cpu"):
        list(determinism.measure(Conditions(torch.device("cuda"), ("ae",), None, Path("data"), True)))
