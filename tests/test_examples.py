"""The examples run as they stand, and print what they promise; those of packages that are not installed are skipped."""

import importlib.util
import json
import os
import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# What an example needs beyond the packages of all tests, and the number that falls from its first line to its last.
NEEDS: dict[str, tuple[tuple[str, ...], str]] = {
    "plain_pytorch": ((), "FFL"),
    "volume": (("nibabel",), "high"),
    "l1_with_frequency_loss": ((), "FFL"),
    "lightning_module": (("lightning",), "FFL"),
    "diffusers_vae": (("accelerate", "diffusers"), "FFL"),
}


def skip_without(packages: tuple[str, ...]) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed; run: pip install 'focal-frequency[examples]'")


def test_every_program_is_tested_and_on_the_page_of_the_loss() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert files == {f"{name}.py" for name in NEEDS} | {"photographs.ipynb"}
    page = (EXAMPLES.parent / "docs" / "loss.md").read_text()
    assert all(f"`{file}`" in page for file in files)


@pytest.mark.parametrize("name", NEEDS)
def test_training_lowers_the_error_at_the_share_asked_for(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    packages, falling = NEEDS[name]
    skip_without(packages)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    runs: dict[str, list[dict[str, float]]] = {}
    for what, numbers in re.findall(r"^(.*)step \d+: (.*)$", capsys.readouterr().out, re.MULTILINE):
        runs.setdefault(what, []).append({key: float(value) for key, value in re.findall(r"(\w+) ([\d.]+)", numbers)})
    assert len(runs) == (2 if name == "diffusers_vae" else 1)
    for lines in runs.values():
        first, *_, last = lines
        assert last[falling] < first[falling]
        # The weight follows with a delay, so only the first reading is exact.
        assert first.get("share", 0.5) == 0.5
        assert 0.35 < last.get("share", 0.5) < 0.65


@pytest.mark.slow
def test_notebook_runs_top_to_bottom(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a kernel where one is installed, as a reader runs it; else cell by cell in this process."""
    content = (EXAMPLES / "photographs.ipynb").read_text()
    if importlib.util.find_spec("nbclient") and importlib.util.find_spec("ipykernel"):
        import nbclient
        import nbformat

        paths = [str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        executed = nbclient.NotebookClient(nbformat.reads(content, as_version=4), timeout=300).execute()
        outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
        printed = "".join(output.get("text", "") for output in outputs)
        assert any("image/png" in output.get("data", {}) for output in outputs)
    else:
        import matplotlib.pyplot as plt

        plt.switch_backend("agg")
        monkeypatch.setattr(plt, "show", plt.close)
        cells = [cell for cell in json.loads(content)["cells"] if cell["cell_type"] == "code"]
        names = {"__name__": "__main__"}
        for cell in cells:
            exec("".join(cell["source"]), names)
        printed = capsys.readouterr().out
    assert all(0.35 < float(share) < 0.65 for share in re.findall(r"share ([\d.]+)", printed))
    psnr = [float(value) for value in re.findall(r"PSNR ([\d.]+) dB", printed)]
    assert len(psnr) == 2
    assert min(psnr) > 22  # 19 for the mean colour of each crop
