"""The one command line of the scripts: words become typed arguments, or one line that names word and fix."""

import shlex
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from ffl.errors import UserError
from ffl.ranges import Count, NonNegative
from ffl.training.command import help_text, read_words, run_script


def measure(
    *words: str,
    run: Path,
    scale: Literal["cpu", "paper", "off"] = "paper",
    rounds: Count = 3,
    psi: NonNegative | None = None,
    rows: list[str] | None = None,
    seeds: list[int] = [0],  # noqa: B006
    runs: list[Path] | None = None,
    label: str | None = None,
    plan: bool = False,
    multirun: bool = False,
    **overrides: str,
) -> None:
    """Stands for a script.

    Args:
        words: what to measure.
        run: a run directory,
            as train.py makes it.
        rounds, psi: two numbers.
        overrides: of train.py.
    Returns:
        This is no part of the help.
    """
    print(words, run, rounds)


def only_keys(*, name: str, plan: bool = False) -> None:
    """Takes neither words nor overrides."""


def some_words(*subsets: Literal["loss", "metrics"]) -> None:
    """Takes certain words alone."""


def test_words_may_be_choices() -> None:
    assert read_words(some_words, ["metrics", "loss"]) == (["metrics", "loss"], {})
    with pytest.raises(UserError, match=r"^speed: expected one of loss, metrics$"):
        read_words(some_words, ["speed"])
    assert "  SUBSETS ...    one of loss, metrics" in help_text(some_words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", {}),
        ("rounds=4", {"rounds": 4}),
        ("psi=1e-3", {"psi": 0.001}),
        ("psi=2", {"psi": 2}),
        ("psi=null", {"psi": None}),
        ("rows=a,b", {"rows": ["a", "b"]}),
        ("rows=[a,b]", {"rows": ["a", "b"]}),
        ("rows=7", {"rows": ["7"]}),  # names may be numbers
        ("rows=off,007,a\\ b", {"rows": ["off", "007", "a b"]}),
        ("runs=a,b/c", {"runs": [Path("a"), Path("b/c")]}),
        ("seeds=1,2", {"seeds": [1, 2]}),
        ("label=1e-3", {"label": "1e-3"}),  # text is taken as it is
        ("label=a=b", {"label": "a=b"}),
        ("label=null", {"label": None}),
        ("run=null", {"run": Path("null")}),  # nothing else would be a path
        ("scale=off", {"scale": "off"}),  # which YAML takes for false
        ("plan=true", {"plan": True}),
        ("--plan", {"plan": True}),
        ("--rounds 4", {"rounds": 4}),
        ("--rounds=4", {"rounds": 4}),
        ("-m", {"multirun": True}),
        ("rounds=4 rounds=5", {"rounds": 5}),
        ("loss.alpha=2 +recipe.epochs.dtd=3", {"loss.alpha": "2", "+recipe.epochs.dtd": "3"}),
    ],
)
def test_words_become_arguments(words: str, expected: dict[str, Any]) -> None:
    positional, named = read_words(measure, ["run=outputs/a", *shlex.split(words)])
    assert positional == []
    assert named == {"run": Path("outputs/a"), **expected}


def test_words_without_equals_keep_their_order() -> None:
    assert read_words(measure, ["b", "run=x", "a"]) == (["b", "a"], {"run": Path("x")})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "run is missing: expected run=a path"),
        ("run=x rounds=0", "rounds=0: expected an integer at least 1"),
        ("run=x rounds=1.5", "rounds=1.5: expected an integer at least 1"),
        ("run=x rounds=many", "rounds=many: expected an integer at least 1"),
        ("run=x rounds=true", "rounds=true: expected an integer at least 1"),
        ("run=x rounds=null", "rounds=null: expected an integer at least 1"),
        ("run=x rounds=[1", "rounds=[1: expected an integer at least 1"),
        ("run=x psi=nan", "psi=nan: expected a number at least 0 or null"),
        ("run=x psi=.inf", "psi=.inf: expected a number at least 0 or null"),
        ("run=x psi=-1", "psi=-1: expected a number at least 0 or null"),
        ("run=x scale=tiny", "scale=tiny: expected one of cpu, paper, off"),
        ("run=x seeds=1,x", "seeds=1,x: expected a list, each an integer"),
        ("run=x rows=a,,b", "rows=a,,b: expected a list, each text or null"),
        ("run=x plan=yes", "plan=yes: expected true or false"),
        ("run=x plan=maybe", "plan=maybe: expected true or false"),
        ("run=", "run=: expected a path"),
        ("run=x label=", "label=: expected text or null"),
        ("run=x rows=", "rows=: expected a list, each text or null"),
        ("run=x --bogus", "unknown flag --bogus: settings are key=value; see --help"),
        ("run=x --bogus=1", "unknown flag --bogus=1: settings are key=value; see --help"),
        ("run=x -r", "unknown flag -r: settings are key=value; see --help"),
        ("run=x --rounds", "--rounds: expected one argument, an integer at least 1"),
        ("run=x =5", "cannot read =5; expected key=value, such as run=..."),
    ],
)
def test_a_mistake_is_named(words: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_words(measure, words.split())
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nam=x", "unknown key nam: did you mean name? allowed: name, plan"),
        ("loss.alpha=2", "unknown key loss.alpha: allowed: name, plan"),
        ("x", "cannot read x; expected key=value, such as name=..."),
        ("-m", "unknown flag -m: settings are key=value; see --help"),
    ],
)
def test_a_script_takes_no_more_than_its_parameters(word: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_words(only_keys, ["name=a", word])
    assert str(error.value) == message


def test_help_says_type_default_and_meaning_of_each_key() -> None:
    lines = help_text(measure).splitlines()
    assert (
        lines[0]
        == "The one command line of the scripts: words become typed arguments, or one line that names word and fix."
    )
    keys = lines[lines.index("  WORDS ...") :]
    assert [" ".join(line.split()) for line in keys] == [
        "WORDS ...",
        "what to measure.",
        "run= a path; required",
        "a run directory, as train.py makes it.",
        "scale= one of cpu, paper, off; default paper",
        "rounds= an integer at least 1; default 3",
        "two numbers.",
        "psi= a number at least 0; optional",
        "two numbers.",
        "rows= a list, each text; optional",
        "seeds= a list, each an integer; default 0",
        "runs= a list, each a path; optional",
        "label= text; optional",
        "plan= true or false; default false",
        "multirun= true or false; default false",
        "KEY=VALUE ...",
        "of train.py.",
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["psnr", "run=a"], None, "('psnr',) a 3\n"),
        (["run=a", "--help"], None, "KEY=VALUE ..."),
        (["run=a", "rounds=0"], 2, "error: rounds=0: expected an integer at least 1\n"),
    ],
)
def test_a_script_runs_helps_or_refuses(
    words: list[str],
    code: int | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["measure.py", *words])
    if code is None:
        run_script(measure)
    else:
        with pytest.raises(SystemExit) as stopped:
            run_script(measure)
        assert stopped.value.code == code
    printed = capsys.readouterr()
    assert said in (printed.out if code is None else printed.err)
