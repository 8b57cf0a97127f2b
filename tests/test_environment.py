"""environment.yml, pyproject.toml and the layout agree."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from ffl import __version__

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


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_lowest_versions_are_all_the_lower_bounds() -> None:
    """What make test-lowest takes from the text of pyproject.toml is what a reader of TOML finds in it."""
    import tomllib

    text = (ROOT / "pyproject.toml").read_text()
    pattern = re.search(r"grep -oE '(.*?)' pyproject.toml", (ROOT / "Makefile").read_text())
    assert pattern is not None
    taken = {line.removeprefix('"') for line in re.findall(pattern[1], text)}
    content = tomllib.loads(text)
    listed = [content["project"]["dependencies"], *content["project"]["optional-dependencies"].values()]
    bounds = {line.partition(",")[0] for lines in [*listed, content["build-system"]["requires"]] for line in lines}
    assert taken == {line for line in bounds if ">=" in line}


def test_every_file_names_the_present_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    versions = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:2] == ["Unreleased", __version__]


def test_the_library_does_not_import_the_programs_around_it() -> None:
    forbidden = re.compile(r"^\s*(from|import) (models|datasets|train|evaluate|scripts)\b", re.MULTILINE)
    offenders = [str(path) for path in (ROOT / "ffl").rglob("*.py") if forbidden.search(path.read_text())]
    assert offenders == []


def test_data_sets_and_models_import_the_library_only() -> None:
    for folder, other in (("models", "datasets"), ("datasets", "models")):
        forbidden = re.compile(rf"^\s*(from|import) ({other}|train|evaluate|scripts)\b", re.MULTILINE)
        assert [str(path) for path in (ROOT / folder).rglob("*.py") if forbidden.search(path.read_text())] == []
