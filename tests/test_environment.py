"""environment.yml, pyproject.toml and the layout agree."""

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"torch": "pytorch"}


def _versions(requirements: list[str]) -> dict[str, str]:
    return dict(re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in requirements)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_conda_environment_lists_the_packages_of_pyproject() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = _versions([line for lines in listed for line in lines if not line.startswith("focal-frequency[")])
    wanted = {CONDA_NAMES.get(name, name): version for name, version in wanted.items()}
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    by_conda = [item for item in listed if isinstance(item, str) and item != "pip"]
    by_pip = next(item["pip"] for item in listed if isinstance(item, dict))
    assert _versions(by_conda + by_pip) == {**wanted, "python": project["requires-python"]}


def test_the_library_does_not_import_the_programs_around_it() -> None:
    forbidden = re.compile(r"^\s*(from|import) (models|datasets|train|evaluate|scripts)\b", re.MULTILINE)
    offenders = [str(path) for path in (ROOT / "ffl").rglob("*.py") if forbidden.search(path.read_text())]
    assert offenders == []


def test_data_sets_and_models_import_the_library_only() -> None:
    for folder, other in (("models", "datasets"), ("datasets", "models")):
        forbidden = re.compile(rf"^\s*(from|import) ({other}|train|evaluate|scripts)\b", re.MULTILINE)
        assert [str(path) for path in (ROOT / folder).rglob("*.py") if forbidden.search(path.read_text())] == []
