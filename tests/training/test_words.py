"""Mistakes in a command line are found from the YAML files alone, which say the same as Hydra makes of them."""

import inspect
import subprocess
import sys
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from ffl.errors import UserError
from ffl.training.config import TrainerConfig, flatten
from ffl.training.objective import Objective
from ffl.training.program import jobs
from ffl.training.words import CONFIG_DIR, check_words, compose_defaults, help_text, split_flags
from models import MODELS
from run_config import PROVIDED

ROOT = Path(__file__).resolve().parents[2]
COMBINATIONS = [
    {},
    *[{"model": path.stem} for path in sorted((CONFIG_DIR / "model").glob("*.yaml"))],
    *[{"model": path.stem, "scale": "cpu"} for path in sorted((CONFIG_DIR / "model").glob("*.yaml"))],
    *[{"dataset": path.stem, "scale": "cpu"} for path in sorted((CONFIG_DIR / "dataset").glob("*.yaml"))],
    *[{"trainer": path.stem} for path in sorted((CONFIG_DIR / "trainer").glob("*.yaml"))],
    {"debug": "smoke", "model": "spade"},
    {"debug": "overfit", "dataset": "dtd"},  # the command line's choice goes before the preset's
    {"scale/model": "cpu_vae", "model": "vae"},
]


@pytest.mark.parametrize("choices", COMBINATIONS, ids=lambda choices: " ".join(choices.values()) or "none")
def test_defaults_are_those_that_hydra_composes(choices: dict[str, str]) -> None:
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = hydra.compose("train", [f"{group}={choice}" for group, choice in choices.items()])
    ours = compose_defaults("train", {group: [choice] for group, choice in choices.items()})
    assert flatten(ours) == flatten(OmegaConf.to_container(config))


@pytest.mark.parametrize(
    "words",
    [
        "model=vae model.mse_weight=0 loss.ffl=true",
        "debug=smoke dataset.label_levels=8",
        "model=ae,vae model.num_layers=3 model.channels=4",  # a sweep: keys of each of them
        "model=choice(ae,vae) dataset=glob(c*) dataset.split_by=paper",
        "recipe.epochs.default=3 +recipe.epochs.dtd=3 recipe.epochs={default:3}",
        "++loss.alpha=2 ~trainer.steps +dataset.exif_orientation=true",
        "model.betas=[0.5,0.9] model.betas.0=0.5 name='a b' seed=${oc.env:SEED}",
        "scale/model=cpu_vae +dataset@other=dtd",
        "hydra.verbose=true hydra/launcher=joblib +hydra.x=1 hydra.launcher.n_jobs=2",
    ],
)
def test_words_that_may_be_right_pass(words: str) -> None:
    check_words("train", words.split(" ") if "'" not in words else [words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("modle=vae", "unknown key modle: did you mean model? allowed: cache_dir, "),
        ("trianer.epochs=3", "unknown key trianer.epochs: did you mean trainer.epochs? allowed: cache_dir, "),
        ("trainer.epoch=3", "unknown key trainer.epoch: did you mean trainer.epochs? allowed: trainer.accelerator, "),
        ("model=vae model.dropout=0.5", "unknown key model.dropout: allowed: model.betas, "),
        ("loss.alpha.x=1", "unknown key loss.alpha.x: did you mean loss.alpha?"),
        ("~loss.alfa", "unknown key loss.alfa: did you mean loss.alpha?"),
        ("++loss.alfa=1", "unknown key loss.alfa: did you mean loss.alpha?"),
        ("table=table8", "unknown key table: "),
        ("optim/lr=1", "unknown key optim/lr: "),
        ("model=ae,vea", "model=vea: no such choice; model is one of ae, pix2pix, segmenter, spade, stylegan2, vae"),
        ("~model", "~model: no such choice; model is one of ae, "),
        ("loss.ffl", "cannot read the command line: 'loss.ffl' is no setting; expected key=value"),
    ],
)
def test_mistakes_are_named(words: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        check_words("train", words.split(" "))
    assert str(error.value).startswith(message)


def test_flags_may_stand_anywhere() -> None:
    assert split_flags(["seed=1", "-m", "--cfg", "job", "loss.ffl=true"]) == (
        ["-m", "--cfg", "job"],
        ["seed=1", "loss.ffl=true"],
    )


def test_a_sweep_is_every_combination() -> None:
    assert jobs(["seed=1"]) == [["seed=1"]]
    points = jobs(["-m", "model=ae,vae", "loss.alpha=0.5,1", "model.betas=[0,1]"])
    assert len(points) == 4
    assert points[1] == ["model=ae", "loss.alpha=1", "model.betas=[0,1]"]
    assert ["dataset=dtd"] in jobs(["-m", "dataset=glob(d*)"])


@pytest.mark.parametrize(
    "words",
    [
        ["train.py", "modle=vae"],
        ["train.py", "model=vea"],
        ["train.py", "--bogus"],
        ["train.py", "--help"],
        ["evaluate.py", "metric=psnr"],
        ["evaluate.py", "--help"],
    ],
    ids=" ".join,
)
def test_nobody_waits_for_imports_to_be_told_of_a_typing_error(words: list[str]) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stopped: print(stopped.code or 0, {'torch', 'hydra', 'numpy'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(ROOT / words[0]), *words[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    helps = "--help" in words
    assert done.stdout.splitlines()[-1] == f"{0 if helps else 2} set()"
    assert done.stderr.startswith("" if helps else "error: ")


def test_the_help_shows_the_chosen_files() -> None:
    shown = help_text("train", ["model=vae"])
    assert "model: vae" in shown
    assert "  kl_weight: " in shown
    assert "hydra:" not in shown


@pytest.mark.parametrize("model", sorted(MODELS))
def test_the_files_name_every_argument(model: str) -> None:
    """A key that no file names is refused even with a ``+``, but for options of data sets."""
    config = compose_defaults("train", {"model": [model]})
    built = {"model": MODELS[model], "loss": Objective, "trainer": TrainerConfig}
    for section, target in built.items():
        arguments = set(inspect.signature(target).parameters) - PROVIDED.get(section, set())
        assert arguments <= config[section].keys()
