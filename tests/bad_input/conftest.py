"""The working directory of a program under test."""

from pathlib import Path

import pytest

from bad_input.place import Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)
