import subprocess
import sys
from pathlib import Path

import pytest
from image_files import fill
from oracles import SHARED
from prepare_script import SCRIPT, Doctor

from ffl.errors import UserError


def cells(output: str, name: str) -> list[str]:
    return next(line for line in output.splitlines() if line.startswith(f"{name} ")).split()


def test_present_and_missing(doctor: Doctor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "celeba_hq", 20, "jpg")
    assert doctor.main([f"data_root={tmp_path}"]) == 1
    output = capsys.readouterr().out
    assert cells(output, "photos")[1:4] == ["ok", "14", "14"]
    assert cells(output, "celeba_hq")[1:] == ["partial", "20", "30,000", "18", "—", "2"]
    assert cells(output, "dtd")[1:3] == ["missing", "0"]
    assert f"dtd: folder {tmp_path / 'dtd'} is missing; DTD r1.0.1: https://" in output
    assert doctor.main([f"data_root={tmp_path}", "dataset=celeba_hq,photos"]) == 0
    assert "dtd" not in capsys.readouterr().out


@pytest.mark.parametrize("workers", [1, 2])
def test_verify_names_the_bad_image(
    doctor: Doctor,
    tmp_path: Path,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor.module, "FEW_IMAGES", 30)
    names = fill(tmp_path, 40)
    words = ["dataset=folder", f"folder={tmp_path}", "verify=true", f"workers={workers}"]
    assert doctor.main(words) == 0
    assert "all 40 images can be decoded" in capsys.readouterr().out
    (tmp_path / names[11]).write_bytes(b"no image")
    assert doctor.main(words) == 1
    output = capsys.readouterr().out
    assert f"folder: {tmp_path / names[11]}: not an image" in output
    assert cells(output, "folder")[1:3] == ["bad", "40"]


def test_help_needs_no_data() -> None:
    shown = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True)
    assert shown.returncode == 0
    assert "verify=true" in shown.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verify"], "cannot read verify; expected key=value"),
        (["root=x"], "unknown key root: .*data_root"),
        (["dataset=imagenet"], "dataset=imagenet: no such data set"),
        (["verify=maybe"], "verify=maybe: expected true or false"),
        (["workers=0"], "workers=0: expected an integer at least 1"),
        (["download=true"], "download=true: say what"),
        (["dataset=folder"], "folder=DIR and dataset=folder go together"),
        (["folder=x"], "folder=DIR and dataset=folder go together"),
    ],
)
def test_wrong_words_are_user_errors(doctor: Doctor, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        doctor.main(words)


def test_download_uses_the_public_downloader(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torchvision.datasets
    from torchvision.datasets import utils

    def celeba(root: str, split: str, download: bool) -> None:
        assert download
        fill(Path(root) / "celeba" / "img_align_celeba", 10, "jpg")

    def fetch(url: str, root: str, filename: str) -> None:
        assert url.startswith("https://")
        Path(root).mkdir(parents=True)
        (Path(root) / filename).write_text("img_align_celeba/000003.jpg\n")

    def failing(root: str, download: bool) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets, "CelebA", celeba)
    monkeypatch.setattr(torchvision.datasets, "DTD", failing)
    monkeypatch.setattr(utils, "download_url", fetch)
    assert doctor.main([f"data_root={tmp_path}", "dataset=celeba", "download=true"]) == 0
    output = capsys.readouterr().out
    assert cells(output, "celeba")[1:] == ["partial", "10", "202,599", "9", "—", "1"]
    assert "the authors' lists" in output
    assert doctor.main([f"data_root={tmp_path}", "dataset=dtd,celeba_hq", "download=true"]) == 1
    output = capsys.readouterr().out
    assert "dtd: download of dtd failed (no network); DTD r1.0.1: https://" in output
    assert "celeba_hq: folder" in output
    assert "(no automatic download)" in output


def test_real_images(doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    if not (SHARED / "data" / "dtd").is_dir():
        pytest.skip(f"no images at {SHARED / 'data'}")
    assert doctor.main([f"data_root={SHARED / 'data'}", "dataset=dtd,celeba_64"]) == 0
    output = capsys.readouterr().out
    assert cells(output, "dtd")[1:] == ["partial", "1,784", "5,640", "1,427", "—", "357"]
    assert cells(output, "celeba_64")[1:] == ["ok", "26,000", "—", "22,000", "1,000", "3,000"]
