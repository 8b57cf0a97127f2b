"""The README and docs/ do what they say: their Python runs, their commands are valid, and their extensions work."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ffl.training.program import compose, jobs
from run_config import check

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
AUDIT = "outputs/results/cpu/audit.md"
COPIED = (
    "configs",
    "datasets",
    "ffl",
    "models",
    "results",
    "scripts",
    "train.py",
    "evaluate.py",
    "run_config.py",
    "pyproject.toml",
)


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """The title and the text of each fenced block of a language."""
    found = re.findall(rf'^```{language}(?: title="(.*?)")?\n(.*?)^```$', page.read_text(), re.DOTALL | re.MULTILINE)
    return [(title, text) for title, text in found]


def commands(program: str) -> list[list[str]]:
    """The words that the README and the pages give a program, but where they leave something open with "…"."""
    texts = [page.read_text() for page in (ROOT / "README.md", *PAGES) if page.stem != "extending"]
    found = re.findall(rf"^python {re.escape(program)} (.*)$", "\n".join(texts).replace("\\\n", " "), re.MULTILINE)
    words = dict.fromkeys(tuple(shlex.split(line, comments=True)) for line in found if "…" not in line)
    return [list(command) for command in words]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem not in ("extending", "loss")], ids=lambda p: p.stem
)
def test_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of loss.md, whose values are compared as well, is tested with the loss."""
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    for title, text in blocks(page, "python"):
        exec(compile(text, title or str(page), "exec"), space)


@pytest.mark.parametrize("words", commands("train.py"), ids=" ".join)
def test_training_commands_are_valid(words: list[str]) -> None:
    for overrides in jobs(words):
        check(compose("train", overrides))


@pytest.mark.parametrize("words", commands("evaluate.py"), ids=" ".join)
def test_evaluation_commands_compose(words: list[str]) -> None:
    runs = jobs(words)
    assert len(runs) == 1 or "-m" in words
    for overrides in runs:
        assert compose("evaluate", overrides)


@pytest.mark.slow
def test_extensions_work_as_written(tmp_path: Path) -> None:
    # A checkout of their own, in which each block becomes its file.
    files = subprocess.run(["git", "ls-files", *COPIED], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    page = ROOT / "docs" / "extending.md"
    text = page.read_text()
    for title, block in [*blocks(page, "python"), *blocks(page, "yaml")]:
        assert len(block.splitlines()) <= 40, title
        path = tmp_path / title.removeprefix("at the end of ")
        assert path.exists() == title.startswith("at the end of ")
        path.write_text((path.read_text() if path.exists() else "") + block)

    # The flowers are not at hand; any pictures do.
    from PIL import Image

    folder = tmp_path / "data" / "flowers"
    folder.mkdir(parents=True)
    for number in range(20):
        Image.new("RGB", (80, 70), (10 * number, 100, 200)).save(folder / f"image_{number:04}.jpg")

    for _, command in blocks(page, "console"):
        words = [sys.executable, *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}{done.stderr}"
    assert "worst pixel" in (tmp_path / "outputs/results/cpu/linear.md").read_text()
    assert "[FFL improves the pixels of a linear autoencoder](#linearpixels)" in (tmp_path / AUDIT).read_text()
    assert text.count("```console") >= 6
