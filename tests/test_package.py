"""The wheel: what it holds, and what of it works without the packages of its extras and outside the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ffl import __version__

ROOT = Path(__file__).resolve().parents[1]

# Imports every module below a package, in a process for which some packages are not installed.
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({absent}))  # None: not found
sys.path.insert(0, {wheel!r})
import ffl
assert ffl.__file__.startswith({wheel!r}), ffl.__file__
package = importlib.import_module({package!r})
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
{then}
"""
EXTRAS = {
    "metrics": {"lpips", "numpy", "PIL", "scipy", "torchmetrics", "torchvision", "tqdm"},
    "train": {"hydra", "omegaconf", "yaml", "tensorboard"},
    "figures": {"skimage"},  # torchmetrics imports matplotlib wherever its metadata is there
    "wavelets": {"pywt"},
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    source = folder / "source"  # a copy: the build writes beside its sources
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for path in sorted((ROOT / "ffl").rglob("*")):
        if path.suffix == ".py" or path.name == "py.typed":
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(source)], check=True)
    (built,) = folder.glob("focal_frequency-*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def run(wheel: Path, absent: set[str], package: str = "ffl", then: str = "") -> subprocess.CompletedProcess[str]:
    script = IMPORT_ALL.format(wheel=str(wheel), absent=sorted(absent), package=package, then=then)
    return subprocess.run([sys.executable, "-I", "-c", script], cwd=wheel, capture_output=True, text=True)


def test_the_wheel_holds_the_library_and_its_types_alone(wheel: Path) -> None:
    assert (wheel / "ffl" / "py.typed").is_file()
    assert {path.name for path in wheel.iterdir() if "dist-info" not in path.name} == {"ffl"}
    (metadata,) = wheel.glob("*.dist-info/METADATA")
    assert f"\nVersion: {__version__}\n" in metadata.read_text()
    required = [line for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist")]
    assert [line for line in required if "extra ==" not in line] == ["Requires-Dist: torch>=2.8"]


def test_losses_need_torch_alone(wheel: Path) -> None:
    loss = """
import torch
from ffl import FocalFrequencyLoss, SpectralRegularization, __version__
fake, real = torch.rand(2, 3, 8, 8, requires_grad=True), torch.rand(2, 3, 8, 8)
FocalFrequencyLoss(patch_factor=2)(fake, real).backward()
from ffl.losses import PAIR_LOSSES
for loss in PAIR_LOSSES.values():
    assert loss()(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)) > 0
print(bool(fake.grad.abs().sum() > 0), float(SpectralRegularization()(fake, real)) > 0, __version__)
"""
    done = run(wheel, set().union(*EXTRAS.values()), package="ffl.losses", then=loss)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"True True {__version__}\n"


def test_every_module_imports_outside_the_checkout(wheel: Path) -> None:
    done = run(wheel, EXTRAS["figures"])
    assert done.returncode == 0, done.stderr


def test_metrics_do_without_the_packages_of_training(wheel: Path) -> None:
    done = run(wheel, EXTRAS["train"] | EXTRAS["figures"], package="ffl.metrics")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("package", "absent", "extra"),
    [
        ("ffl.metrics", "torchmetrics", "metrics"),
        ("ffl.metrics", "scipy", "metrics"),
        ("ffl.training", "hydra", "train"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(wheel: Path, package: str, absent: str, extra: str) -> None:
    done = run(wheel, {absent}, package=package)
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said.endswith(f"{absent} is not installed; run: pip install 'focal-frequency[{extra}]'")
