"""Progress: a bar that is redrawn on a terminal, whole lines in a log file."""

import io
import re
import sys

import pytest

import ffl.progress
from ffl.progress import progress_bar

SHARE = r"decoding: +\d+%\|.*\| [0-3]/3 \[\d\d:\d\d<[\d:?]+, .*image.*\]"


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[io.StringIO, Terminal])
def stream(request: pytest.FixtureRequest) -> io.StringIO:
    made: io.StringIO = request.param()
    return made


def test_work_of_an_instant_leaves_a_log_file_alone(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(3, "decoding", "image") as bar:
        bar.update(3)
    assert bool(stream.getvalue()) == stream.isatty()


def test_lines_without_a_terminal_and_a_bar_on_one(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(ffl.progress, "SECONDS_PER_LINE", 0.0)
    assert list(progress_bar(3, "decoding", "image", items="abc")) == ["a", "b", "c"]
    text = stream.getvalue()
    if stream.isatty():
        assert text.startswith("\rdecoding:")
        assert text.count("\n") == 1
    else:
        assert "\r" not in text
        lines = text.splitlines()
        assert len(lines) >= 3
        assert all(re.fullmatch(SHARE, line) for line in lines), lines
        assert "100%" in lines[-1]


def test_a_hidden_bar_prints_nothing(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(ffl.progress, "SECONDS_PER_LINE", 0.0)
    with progress_bar(3, "decoding", "image", shown=False) as bar:
        bar.update(3)
    assert stream.getvalue() == ""
