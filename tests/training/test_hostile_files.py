"""Nothing that a file holds is ever executed: what the sources may not call, and files that try."""

import ast
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from processes import write_images

import evaluate
import train
from ffl.errors import UserError
from ffl.training.checkpoint import load_checkpoint
from ffl.training.program import compose

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path for folder in ("ffl", "models", "datasets", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))
] + [ROOT / "train.py", ROOT / "evaluate.py"]
# Calls that run what they are given or that unpack where they are told, and what makes one of them safe.
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "instantiate",
    "unpack_archive",
    "extractall",
    "extract",
    "system",
}
UNPICKLERS = {"load", "loads", "Unpickler"}
# Its unpickler refuses every name but a handful, see tests/models/test_stylegan2_pickles.py.
RESTRICTED = {ROOT / "models/stylegan2/pickles.py"}


def offences(source: str) -> list[str]:
    """Calls in a source text that could execute what a file holds, or write where an archive says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        keywords = {item.arg: ast.unparse(item.value) for item in node.keywords}
        name = ast.unparse(node.func)
        owner, _, last = name.rpartition(".")
        if (not owner and last in FORBIDDEN) or (owner and last in FORBIDDEN - {"eval", "compile"}):
            found.append(name)
        if owner in ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve") and last in UNPICKLERS:
            found.append(name)
        if name == "torch.load" and keywords.get("weights_only") != "True":
            found.append(name)
        if name in ("np.load", "numpy.load") and keywords.get("allow_pickle", "False") != "False":
            found.append(name)
        if name == "yaml.load" and not any(ast.unparse(item) == "_PlainLoader" for item in node.args):
            found.append(name)
        if keywords.get("shell") == "True":
            found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_executes_what_a_file_holds(path: Path) -> None:
    allowed = {"pickle.Unpickler"} if path in RESTRICTED else set()
    assert [name for name in offences(path.read_text()) if name not in allowed] == []


@pytest.mark.parametrize(
    "line",
    [
        "eval(metric)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.load(file)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, yaml.Loader)",
        "hydra.utils.instantiate(config)",
        "tarfile.open(path).extractall(folder)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
    ],
)
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    assert len(offences(line)) == 1
    assert offences("model.eval(); torch.load(p, weights_only=True); re.compile(x); network.compile()") == []


class FolderMaker:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("executed",)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run, in the working directory."""
    monkeypatch.chdir(tmp_path)
    words = [*write_images(tmp_path / "images"), "trainer.steps=4", "trainer.checkpoint_every=2", "name=run"]
    words += ["trainer.batch_size=8", "model.hidden_dim=8"]
    train.train(compose("train", words), words)
    (tmp_path / "words.txt").write_text("\n".join(words))
    return tmp_path / "outputs/run"


def _resume() -> None:
    words = [*Path("words.txt").read_text().splitlines(), "resume=auto"]
    train.train(compose("train", words), words)


def _evaluate(checkpoint: str = "last") -> None:
    words = ["run=outputs/run", "metrics=[psnr]", f"checkpoint={checkpoint}"]
    evaluate.evaluate(compose("evaluate", words))


@pytest.mark.parametrize("where", ["plain pickle", "in an archive", "in a tensor's place"])
def test_checkpoints_that_hold_code_are_refused_unread(run: Path, where: str, caplog: pytest.LogCaptureFixture) -> None:
    last = run / "checkpoints/last.pt"
    state = torch.load(last, weights_only=True)
    if where == "plain pickle":
        last.write_bytes(pickle.dumps(FolderMaker()))
    elif where == "in an archive":
        torch.save({**state, "extra": FolderMaker()}, last)
    else:
        torch.save({**state, "model": {**state["model"], "network.model.0.fc.bias": FolderMaker()}}, last)
    shutil.copy(last, run / "checkpoints/best.pt")
    assert pickle.loads(pickle.dumps(FolderMaker())) is None  # it does execute where it is let
    Path("executed").rmdir()
    with pytest.raises(UserError, match=r"best\.pt: not a checkpoint"):
        _evaluate("best")
    _evaluate()  # falls back to the checkpoint before
    assert "going on from previous.pt, step 2" in caplog.text
    _resume()
    assert load_checkpoint(last)["step"] == 4
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("model", {"_target_": "os.mkdir", "path": "executed"}, "unknown key model._target_"),
        ("model", {"name": "os.mkdir"}, "model.name=os.mkdir: expected one of ae, "),
        ("model", {"name": ["ae"]}, "expected one of ae, "),
        ("model", {"hidden_dim": {"_target_": "os.mkdir"}}, "model.hidden_dim="),
        ("dataset", {"name": "__import__('os').mkdir('executed')"}, "dataset.name="),
        ("dataset", {"_target_": "os.mkdir"}, "unknown key dataset._target_"),
        ("seed", "x", "seed=x: expected an integer"),
    ],
)
def test_what_a_stored_config_names_is_looked_up_never_imported(
    run: Path, section: str, change: Any, message: str
) -> None:
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config[section] = {**config[section], **change} if isinstance(change, dict) else change
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError) as error:
        _evaluate()
    assert str(error.value).startswith("outputs/run/config.yaml: ")
    assert message in str(error.value)
    assert not Path("executed").exists()


def test_interpolations_of_a_stored_config_stay_text(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "secret")
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["dataset"]["folder"] = "${oc.env:SECRET}"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"\$\{oc\.env:SECRET\}"):
        _evaluate()
