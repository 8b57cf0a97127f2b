"""An archive with the published checksum still cannot write outside its folder, or make links out of it or devices."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from torchvision.datasets import DTD

from bad_input.place import Place, noise
from bad_input.programs import Outcome, run_here

ARCHIVE = "data/dtd/dtd-r1.0.1.tar.gz"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A working directory in ``inner``, below which nothing may be changed but ``data``."""
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    return Place(tmp_path / "inner")


def downloaded(place: Place, members: list[tarfile.TarInfo], monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """What the program says of an archive of these members that is taken for the published one."""
    (place / ARCHIVE).parent.mkdir(parents=True)
    with tarfile.open(place / ARCHIVE, "w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    monkeypatch.setattr(DTD, "_MD5", hashlib.md5((place / ARCHIVE).read_bytes()).hexdigest())
    return run_here("scripts/prepare_data.py", ["dataset=dtd", "download=true"])


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        member("../../../outside"),
        member("../../outside"),
        member("dtd/link", tarfile.SYMTYPE, "/etc"),
        member("dtd/link", tarfile.SYMTYPE, "../../../.."),
        member("dtd/hard", tarfile.LNKTYPE, "../../../secret"),
        member("dtd/null", tarfile.CHRTYPE),
        member("dtd/disk", tarfile.BLKTYPE),
        member("dtd/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.name}-{info.type.decode()}".replace("/", "_"),
)
def test_hostile_members_are_refused(hostile: tarfile.TarInfo, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write({"../secret": b"secret"})
    done = downloaded(place, [hostile], monkeypatch)
    assert done.code == 1
    assert done.messages() == []
    lines = [line for line in done.stdout.split("\n") if "download of dtd failed" in line]
    assert len(lines) == 1
    assert "DTD r1.0.1: https://" in lines[0]
    assert {os.path.relpath(path, place.root) for path in place.root.parent.rglob("*")} <= {
        ".", "data", "data/dtd", ARCHIVE, "data/dtd/dtd", "../secret"
    }  # fmt: skip


def test_an_absolute_path_is_put_below_the_folder(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    target = place.root.parent / "outside"
    downloaded(place, [member(str(target))], monkeypatch)
    assert not target.exists()


def test_a_damaged_archive_is_one_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write({ARCHIVE: b"\x1f\x8b\x08 no archive"})
    monkeypatch.setattr(DTD, "_MD5", hashlib.md5((place / ARCHIVE).read_bytes()).hexdigest())
    done = run_here("scripts/prepare_data.py", ["dataset=dtd", "download=true"])
    assert (done.code, done.messages()) == (1, [])
    assert "download of dtd failed" in done.stdout


def test_a_good_archive_is_unpacked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would also pass if nothing were ever unpacked."""
    (place / ARCHIVE).parent.mkdir(parents=True)
    with tarfile.open(place / ARCHIVE, "w:gz") as archive:
        for number in range(1, 3):
            image = io.BytesIO()
            noise(8, 8, number).save(image, "jpeg")
            for name, content in (
                (f"dtd/images/banded/banded_{number:04d}.jpg", image.getvalue()),
                (f"dtd/labels/{'train' if number == 1 else 'test'}1.txt", f"banded/banded_{number:04d}.jpg\n".encode()),
            ):
                archive.addfile(member(name, size=len(content)), io.BytesIO(content))
    monkeypatch.setattr(DTD, "_MD5", hashlib.md5((place / ARCHIVE).read_bytes()).hexdigest())
    run_here("scripts/prepare_data.py", ["dataset=dtd", "download=true"])
    assert (place / "data/dtd/dtd/images/banded/banded_0001.jpg").is_file()
