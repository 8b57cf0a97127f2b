"""Shared fixtures. Puts the repository root and this folder on the import path."""

import os
import sys
from pathlib import Path

# One thread per test process, subprocesses included: tests run side by side, and small tensors gain nothing from two.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT, ROOT / "tests"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    help_ = "minutes that tests/training/test_soak.py trains and evaluates; a few rounds without it"
    parser.addoption("--soak-minutes", type=float, default=0.0, help=help_)
