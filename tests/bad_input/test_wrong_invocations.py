"""Every wrong invocation ends with one line that names cause and fix, a non-zero status, and nothing half-written."""

import hashlib
import os
import re
import stat
from collections import Counter
from pathlib import Path, PurePath

import pytest

from bad_input import data_cases, evaluate_cases, export_cases, result_cases, run_cases, script_cases, train_cases
from bad_input.case import Case
from bad_input.place import Place
from bad_input.programs import ROOT, Outcome, run_apart, run_here

CASES = [
    *train_cases.CASES,
    *data_cases.CASES,
    *run_cases.CASES,
    *evaluate_cases.CASES,
    *script_cases.CASES,
    *export_cases.CASES,
    *result_cases.CASES,
]
# What a refused program may leave: images that it decoded on the way, and the locks of that cache.
LEAVES = (
    "outputs",
    "outputs/cache",
    "outputs/cache/*.cache",
    "outputs/cache/*.cache/*",
    "outputs/cache/*.lock",
    "outputs/run/.lock",
)
NO_NETWORK = "http://127.0.0.1:9"  # a port at which nobody answers
LONGEST = 600  # characters of a message
# Run as a user does, to see that what is run in this process behaves alike.
REAL = (
    "train-misspelt-key",
    "data-truncated-jpeg",
    "evaluate-format-2",
    "import-hostile-archive",
    "prepare-broken-image",
)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network or weights."""
    monkeypatch.setenv("FFL_WEIGHTS", "weights")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, NO_NETWORK)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_here(case: Case, place: Place) -> None:
    if case.skip:
        pytest.skip(case.skip)
    case.prepare(place)
    before = contents(place.root)
    outcome = run_here(case.program, case.arguments)
    check(case, outcome)
    check_leaves(case, before, contents(place.root))


@pytest.mark.parametrize("case", [case for case in CASES if case.id in REAL], ids=lambda case: case.id)
def test_in_a_process_of_its_own(case: Case, place: Place) -> None:
    case.prepare(place)
    before = contents(place.root)
    outcome = run_apart(case.program, case.arguments)
    check(case, outcome)
    check_leaves(case, before, contents(place.root))
    if not case.reports:
        assert run_here(case.program, case.arguments).messages() == outcome.messages()


def check(case: Case, outcome: Outcome) -> None:
    """One line, cause and fix, a status that is not zero."""
    everything = outcome.stdout + outcome.stderr
    assert "Traceback" not in everything, everything[-3000:]
    assert outcome.code == (1 if case.reports else 2), everything[-3000:]
    lines = [line for line in outcome.messages() if not line.startswith("warning: ")]
    if case.reports:
        assert lines == []
        lines = [line for line in outcome.stdout.split("\n") if re.search(case.cause, line)]
    else:
        assert lines[:1] == [line for line in lines if line.startswith("error: ")], lines
    assert len(lines) == 1, everything[-3000:]
    (line,) = lines
    assert re.search(case.cause, line), line
    assert re.search(case.fix, line), line
    assert len(line) <= LONGEST, line
    assert str(ROOT) not in line, line


def contents(root: Path) -> dict[str, str]:
    """Every file and folder below ``root``, with what it holds."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            regular = stat.S_ISREG(os.lstat(path).st_mode)
            found[os.path.relpath(path, root)] = hashlib.sha256(Path(path).read_bytes()).hexdigest() if regular else "-"
    return found


def check_leaves(case: Case, before: dict[str, str], after: dict[str, str]) -> None:
    """Nothing that was there is changed, and nothing is new but what may be."""
    new = [name for name in after if name not in before and not allowed(name, case.leaves)]
    assert new == []
    assert {name: after.get(name) for name in before if not allowed(name, LEAVES)} == {
        name: content for name, content in before.items() if not allowed(name, LEAVES)
    }


def allowed(name: str, leaves: tuple[str, ...]) -> bool:
    return any(PurePath(name).match(pattern) for pattern in (*LEAVES, *leaves) if "/" in pattern or "/" not in name)


def test_the_table_is_a_table() -> None:
    assert [name for name, count in Counter(case.id for case in CASES).items() if count > 1] == []
    assert len(CASES) >= 60
    assert set(REAL) <= {case.id for case in CASES}
    assert all(case.cause and case.fix and case.why for case in CASES)
