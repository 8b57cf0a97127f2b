import errno
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from image_files import DiesInWorker, Logged, WithLabels, encoded, fill, noise
from PIL import Image
from training.processes import Program

from datasets import build, cache
from datasets.cache import Item, check_blocks, open_cache, read_about
from datasets.decoding import ResizeCrop
from ffl.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
DECODER = ResizeCrop(8)


def items(names: list[str]) -> list[Item]:
    return [(name,) for name in names]


def plain_loop(folder: Path, names: list[str]) -> np.ndarray:
    return np.stack([DECODER((folder / name).read_bytes())["image"] for name in names])


def rewrite_about(path: Path, change: dict) -> None:
    """Change ``cache.json`` as somebody who knows its checksum would."""
    about = {**json.loads((path / "cache.json").read_text()), **change}
    del about["checksum"]
    (path / "cache.json").write_text(json.dumps({**about, "checksum": cache._checksum(about)}))


def caches(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.cache"))


def content(path: Path) -> dict[str, bytes]:
    """The files of a cache."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, list[str]]:
    return tmp_path / "images", fill(tmp_path / "images", 30)


@pytest.fixture
def in_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use worker processes from the second image on."""
    monkeypatch.setattr(build, "WORTH_WORKERS", 0.0)
    monkeypatch.setattr(build, "TRIAL_SECONDS", 1e-9)
    monkeypatch.setattr(build, "CHUNK", 4)


def test_cache_holds_what_a_plain_loop_decodes(tmp_path: Path, images: tuple[Path, list[str]]) -> None:
    folder, names = images
    first = open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    assert np.array_equal(first.pixels.arrays["image"], plain_loop(folder, names))
    assert first.rows.tolist() == list(range(30))
    again = open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    assert np.array_equal(again.pixels.arrays["image"], first.pixels.arrays["image"])
    assert again.digest == first.digest
    assert len(caches(tmp_path / "c")) == 1


def test_workers_build_the_same_file(tmp_path: Path, images: tuple[Path, list[str]], in_workers: None) -> None:
    folder, names = images
    log = tmp_path / "log"
    decoder = Logged(8, log=str(log))
    parallel = open_cache(tmp_path / "c", "x", folder, items(names), decoder, workers=2)
    assert np.array_equal(parallel.pixels.arrays["image"], plain_loop(folder, names))
    pids = log.read_text().split()
    assert len(pids) == 30
    assert len(set(pids) - {str(os.getpid())}) >= 1
    alone = open_cache(tmp_path / "d", "x", folder, items(names), decoder, workers=1)
    assert content(alone.path) == content(parallel.path)


def test_later_runs_decode_nothing(tmp_path: Path, images: tuple[Path, list[str]]) -> None:
    folder, names = images
    decoder = Logged(8, log=str(tmp_path / "log"))
    for _ in range(3):
        open_cache(tmp_path / "c", "x", folder, items(names), decoder)
    assert len((tmp_path / "log").read_text().split()) == 30


def test_changed_files_and_options_make_another_cache(tmp_path: Path, images: tuple[Path, list[str]]) -> None:
    folder, names = images
    before = open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    noise(12, 10, seed=99).save(folder / names[3])
    after = open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    assert np.array_equal(after.pixels.arrays["image"], plain_loop(folder, names))
    assert after.digest != before.digest
    assert open_cache(tmp_path / "c", "x", folder, items(names), ResizeCrop(9)).pixels.arrays["image"].shape[2] == 9
    assert len(open_cache(tmp_path / "c", "x", folder, items(names[1:]), DECODER).rows) == 29
    assert len(caches(tmp_path / "c")) == 4


def test_digest_is_of_content_and_cache_survives_a_move(tmp_path: Path, images: tuple[Path, list[str]]) -> None:
    folder, names = images
    first = open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    shutil.copytree(folder, tmp_path / "moved")  # keeps times of modification
    moved = open_cache(tmp_path / "c", "x", tmp_path / "moved", items(names), DECODER)
    assert moved.path == first.path
    os.utime(folder / names[0], (1, 1))
    touched = open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    assert touched.path != first.path
    assert touched.digest == first.digest


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    positions = {"start": 0, "middle": len(data) // 2, "end": len(data) - 1}
    if how in positions:
        data[positions[how]] ^= 1
    elif how == "truncated":
        del data[-100:]
    elif how == "half":
        del data[len(data) // 2 :]
    elif how == "longer":
        data += b"x"
    elif how == "zeros":
        data[:] = bytes(len(data))
    path.write_bytes(b"" if how == "empty" else data)
    if how == "absent":
        path.unlink()


@pytest.mark.parametrize("file", ["image.npy", "cache.json"])
@pytest.mark.parametrize("how", ["start", "middle", "end", "truncated", "half", "longer", "zeros", "empty", "absent"])
def test_damaged_cache_is_noticed_and_rebuilt(
    tmp_path: Path, images: tuple[Path, list[str]], file: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder, names = images
    path = open_cache(tmp_path / "c", "x", folder, items(names), DECODER).path
    intact = content(path)
    damage(path / file, how)
    assert content(path) != intact
    rebuilt = open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    assert "damaged" in caplog.text
    assert np.array_equal(rebuilt.pixels.arrays["image"], plain_loop(folder, names))
    assert content(path) == intact


def test_a_file_in_the_place_of_a_cache_is_replaced(tmp_path: Path, images: tuple[Path, list[str]]) -> None:
    folder, names = images
    path = open_cache(tmp_path / "c", "x", folder, items(names), DECODER).path
    shutil.rmtree(path)
    path.write_bytes(b"of an older version")
    assert len(open_cache(tmp_path / "c", "x", folder, items(names), DECODER).rows) == 30


def test_arrays_are_plain_npy_files(tmp_path: Path, images: tuple[Path, list[str]]) -> None:
    folder, names = images
    made = open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    assert np.array_equal(np.load(made.path / "image.npy"), made.pixels.arrays["image"])


def test_sampled_check_covers_first_and_last_block(
    tmp_path: Path, images: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "BLOCK", 512)
    folder, names = images
    path = open_cache(tmp_path / "c", "x", folder, items(names), DECODER).path
    sums = read_about(path, cache.cache_key(folder, items(names), DECODER))["blocks"]["image.npy"]
    file = path / "image.npy"
    assert len(sums) == -(-file.stat().st_size // 512) > 10
    for number in (0, len(sums) - 1):
        data = bytearray(file.read_bytes())
        data[number * 512 + 20] ^= 1
        file.write_bytes(data)
        with pytest.raises(cache.Damaged, match=f"block {number} of {len(sums)}"):
            check_blocks(file, sums, 3 * 512)
        data[number * 512 + 20] ^= 1
        file.write_bytes(data)
    check_blocks(file, sums, 3 * 512)
    check_blocks(file, sums, None)


@pytest.mark.parametrize("workers", [1, 2])
def test_undecodable_image_is_named(
    tmp_path: Path, images: tuple[Path, list[str]], workers: int, in_workers: None
) -> None:
    folder, names = images
    (folder / names[17]).write_bytes(encoded(noise(40, 40), "jpeg")[:-300])
    with pytest.raises(UserError, match=rf"{names[17]}: cannot be decoded \(.*truncated.*on_error=skip"):
        open_cache(tmp_path / "c", "x", folder, items(names), DECODER, workers=workers)
    assert caches(tmp_path / "c") == []
    assert list((tmp_path / "c").glob("*.partial")) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_undecodable_images_can_be_skipped(
    tmp_path: Path,
    images: tuple[Path, list[str]],
    workers: int,
    caplog: pytest.LogCaptureFixture,
    in_workers: None,
) -> None:
    folder, names = images
    for bad in (0, 17):
        (folder / names[bad]).write_bytes(b"no image")
    made = open_cache(tmp_path / "c", "x", folder, items(names), DECODER, on_error="skip", workers=workers)
    good = [number for number in range(30) if number not in (0, 17)]
    assert made.rows.tolist() == good
    assert [index for index, _ in made.problems] == [0, 17]
    assert np.array_equal(made.pixels.arrays["image"][made.rows], plain_loop(folder, [names[i] for i in good]))
    assert f"2 of 30 images skipped, such as {names[0]}" in caplog.text
    # A cache with gaps is still an error to those who want none.
    with pytest.raises(UserError, match=names[0]):
        open_cache(tmp_path / "c", "x", folder, items(names), DECODER)


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="none of the 1 images"):
        open_cache(tmp_path / "c", "x", tmp_path, items(["a.png"]), DECODER, on_error="skip")


def test_absent_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png: cannot be read"):
        open_cache(tmp_path / "c", "x", tmp_path, items(["a.png"]), DECODER)


def test_unwritable_folder_and_full_disk_are_user_errors(
    tmp_path: Path, images: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, names = images
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the image cache .*set cache_dir"):
        open_cache(tmp_path / "file" / "c", "x", folder, items(names), DECODER)

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="No space left"):
        open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    assert list((tmp_path / "c").glob("*.partial")) == []


def test_dead_workers_are_replaced_by_this_process(
    tmp_path: Path, images: tuple[Path, list[str]], in_workers: None, caplog: pytest.LogCaptureFixture
) -> None:
    folder, names = images
    made = open_cache(tmp_path / "c", "x", folder, items(names), DiesInWorker(8), workers=2)
    assert "ended early" in caplog.text
    assert np.array_equal(made.pixels.arrays["image"], plain_loop(folder, names))


def test_arrays_of_several_types(tmp_path: Path) -> None:
    files: list[Item] = []
    for number in range(3):
        noise(8, 8, seed=number).save(tmp_path / f"{number}.png")
        label = np.full((8, 8), 300 * number + 1, dtype=np.uint16)
        Image.fromarray(label).save(tmp_path / f"{number}_label.png")
        files.append((f"{number}.png", f"{number}_label.png"))
    made = open_cache(tmp_path / "c", "x", tmp_path, files, WithLabels(8))
    assert {name: (array.dtype.name, array.shape) for name, array in made.pixels.arrays.items()} == {
        "image": ("uint8", (3, 3, 8, 8)),
        "label": ("uint16", (3, 8, 8)),
        "instance": ("int32", (3, 8, 8)),
    }
    assert made.pixels.arrays["label"][:, 0, 0].tolist() == [1, 301, 601]
    assert made.pixels.arrays["instance"][:, 7, 7].tolist() == [-1000, -301_000, -601_000]
    # Every file of an item counts for the digest.
    Image.fromarray(np.full((8, 8), 9, dtype=np.uint16)).save(tmp_path / "1_label.png")
    assert open_cache(tmp_path / "c", "x", tmp_path, files, WithLabels(8)).digest != made.digest


def test_large_caches_stay_on_disk(
    tmp_path: Path, images: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, names = images
    small = open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    assert not isinstance(small.pixels.arrays["image"], np.memmap)
    monkeypatch.setattr(cache, "IN_MEMORY_BYTES", 0)
    mapped = open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    assert isinstance(mapped.pixels.arrays["image"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        mapped.pixels.arrays["image"][0] = 0
    assert np.array_equal(mapped.pixels.arrays["image"], small.pixels.arrays["image"])


BUILD = """
import logging, sys
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from datasets import build
from datasets.cache import open_cache
from image_files import Logged
build.WORTH_WORKERS, build.TRIAL_SECONDS, build.CHUNK = 0.0, 0.05, 4

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    folder = Path({folder!r})
    items = [(path.name,) for path in sorted(folder.iterdir())]
    made = open_cache(
        Path({cache!r}), "x", folder, items, Logged(8, log={log!r}, seconds={seconds}), workers={workers}
    )
    print(made.digest)
"""


def start(tmp_path: Path, folder: Path, seconds: float, workers: int) -> subprocess.Popen[str]:
    script = tmp_path / "build_cache.py"
    script.write_text(
        BUILD.format(
            root=str(ROOT),
            tests=str(ROOT / "tests" / "datasets"),
            folder=str(folder),
            cache=str(tmp_path / "c"),
            log=str(tmp_path / "log"),
            seconds=seconds,
            workers=workers,
        )
    )
    # A session of its own: all of its processes can be counted.
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def test_two_processes_decode_once(tmp_path: Path, images: tuple[Path, list[str]]) -> None:
    folder, _ = images
    both = [start(tmp_path, folder, seconds=0.05, workers=1) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    assert len((tmp_path / "log").read_text().split()) == 30
    assert sum("built" in errors for _, errors in outputs) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_leaves_nothing_behind(tmp_path: Path, images: tuple[Path, list[str]], workers: int) -> None:
    folder, names = images
    log = tmp_path / "log"
    process = start(tmp_path, folder, seconds=0.12, workers=workers)

    def decoded_by_all() -> bool:
        pids = log.read_text().split() if log.exists() else []
        return len(set(pids)) >= (2 if workers > 1 else 1) and len(pids) >= 4

    wait_until(decoded_by_all)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert caches(tmp_path / "c") == []
    assert len(list((tmp_path / "c").glob("*.partial"))) == 1

    def all_gone() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(all_gone, 20)
    # The next start is not held up by the dead one's lock, and clears its remains.
    decoder = Logged(8, log=str(log), seconds=0.12)
    key = cache.cache_key(folder, items(names), decoder)
    assert list((tmp_path / "c").glob(f"x-{key[:20]}.*.partial")) != []
    made = open_cache(tmp_path / "c", "x", folder, items(names), decoder, workers=1)
    assert np.array_equal(made.pixels.arrays["image"], plain_loop(folder, names))
    assert list((tmp_path / "c").glob("*.partial")) == []


def _build_slowly(folder: str, cache_dir: str) -> None:
    names = sorted(os.listdir(folder))
    open_cache(Path(cache_dir), "x", Path(folder), items(names), Logged(8, log=os.devnull, seconds=0.01), workers=1)


def test_builds_killed_at_any_moment_end_in_the_cache_of_an_unbroken_one(
    tmp_path: Path, images: tuple[Path, list[str]]
) -> None:
    folder, names = images
    decoder, dice = Logged(8, log=os.devnull, seconds=0.01), random.Random(3)
    unbroken = content(open_cache(tmp_path / "unbroken", "x", folder, items(names), decoder, workers=1).path)
    (tmp_path / "c").mkdir()
    killed = 0
    for _ in range(12):
        program = Program(_build_slowly, str(folder), str(tmp_path / "c"), cwd=tmp_path)
        wait_until(lambda: list((tmp_path / "c").iterdir()) or not program.running())  # noqa: B023
        time.sleep(dice.random() * 0.5)
        program.send(signal.SIGKILL)
        killed += program.wait() == -signal.SIGKILL
        for path in caches(tmp_path / "c"):  # whatever has the name of a cache is one
            assert content(path) == unbroken
            shutil.rmtree(path)
    assert killed >= 6
    made = open_cache(tmp_path / "c", "x", folder, items(names), decoder, workers=1)
    assert content(made.path) == unbroken
    assert list((tmp_path / "c").glob("*.partial")) == []


def test_four_builders_that_are_told_to_stop_leave_the_work_to_the_next(
    tmp_path: Path, images: tuple[Path, list[str]]
) -> None:
    folder, names = images
    (tmp_path / "c").mkdir()
    for number in range(4):
        (tmp_path / str(number)).mkdir()
    builders = [
        Program(_build_slowly, str(folder), str(tmp_path / "c"), cwd=tmp_path / str(number)) for number in range(4)
    ]
    wait_until(lambda: list((tmp_path / "c").glob("*.partial")))
    assert all(builder.send(signal.SIGTERM) for builder in builders)
    assert [builder.wait() for builder in builders] == [-signal.SIGTERM] * 4
    assert caches(tmp_path / "c") == []
    _build_slowly(str(folder), str(tmp_path / "c"))
    (made,) = caches(tmp_path / "c")
    assert np.array_equal(np.load(made / "image.npy"), plain_loop(folder, names))
    assert list((tmp_path / "c").glob("*.partial")) == []


@pytest.mark.parametrize(
    "change",
    [
        {"key": "0" * 64},
        {"problems": [[10**9, "x"]]},
        {"problems": 5},
        {"blocks": {"image.npy": []}},
        {"blocks": {"image.npy": "x"}},
        {"blocks": {}},
        {"blocks": 5},
    ],
)
def test_what_a_cache_says_of_itself_is_not_believed(
    tmp_path: Path, images: tuple[Path, list[str]], change: dict, caplog: pytest.LogCaptureFixture
) -> None:
    """A cache.json whose own checksum fits, but that somebody else wrote."""
    folder, names = images
    path = open_cache(tmp_path / "c", "x", folder, items(names), DECODER).path
    intact = content(path)
    rewrite_about(path, change)
    made = open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    assert np.array_equal(made.pixels.arrays["image"], plain_loop(folder, names))
    assert "damaged" in caplog.text
    assert content(path) == intact


@pytest.mark.parametrize("array", [np.zeros((30, 3, 8, 9), np.uint8), np.zeros((3, 3, 8, 8), np.uint8), np.zeros(1)])
def test_arrays_of_another_shape_are_not_believed(
    tmp_path: Path, images: tuple[Path, list[str]], array: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    """An array that somebody else wrote, with checksums that fit."""
    folder, names = images
    path = open_cache(tmp_path / "c", "x", folder, items(names), DECODER).path
    np.save(path / "image.npy", array)
    rewrite_about(path, {"blocks": {"image": cache._sync_and_sum(path / "image.npy")}})
    made = open_cache(tmp_path / "c", "x", folder, items(names), DECODER)
    assert np.array_equal(made.pixels.arrays["image"], plain_loop(folder, names))
    assert "damaged" in caplog.text


def test_progress_and_result_are_logged(
    tmp_path: Path, images: tuple[Path, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder, names = images
    open_cache(tmp_path / "c", "label", folder, items(names), DECODER)
    assert "built" in caplog.text
    assert "30 items" in caplog.text
