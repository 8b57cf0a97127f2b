"""``scripts/prepare_data.py`` as a module, called with words of a command line."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from ffl.training.command import read_words

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prepare_data.py"


class Doctor:
    """The script as a module, and its exit status for words of a command line."""

    def __init__(self) -> None:
        spec = importlib.util.spec_from_file_location("prepare_data", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        sys.modules["prepare_data"] = self.module
        spec.loader.exec_module(self.module)

    def main(self, words: list[str]) -> int:
        try:
            run = self.module.main
            _, values = read_words(run, words)
            run(**values)
        except SystemExit as end:
            return int(end.code or 0)
        return 0
