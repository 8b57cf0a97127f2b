"""Check what the paper says in words about its tables and figures, on its own numbers and on ours.

    python scripts/audit.py [scale=cpu] [results=results] [output_root=outputs] [data_root=DIR] [cache_dir=DIR]

Reads results/paper.yaml, the tables that scripts/reproduce.py wrote to results/<scale>, the runs that they name and
results/benchmark, and writes results/<scale>/audit.md and audit.json: holds, fails or not tested, with the numbers.
What is measured from runs (error and power by frequency band) needs their data sets once (data_root, cache_dir: where
they are, if not as in the run) and is kept in each run directory.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffl.errors import UserError
from ffl.files import write_text
from ffl.training.program import CONFIG_DIR, run_script
from scripts.audits.report import VERDICTS, build_report, markdown
from scripts.audits.sources import OurSource

KEYS = ("scale", "results", "output_root", "data_root", "cache_dir")


def audit(arguments: list[str]) -> dict[str, Any]:
    """The program; ``arguments`` are its key=value words.

    Returns:
        The report, as written to audit.json.
    Raises:
        UserError: for an argument that cannot be, or a table that cannot be read.
    """
    if malformed := [item for item in arguments if "=" not in item]:
        raise UserError(f"cannot read {malformed[0]}; expected key=value, such as scale=cpu")
    settings = dict(item.split("=", 1) for item in arguments)
    if unknown := settings.keys() - set(KEYS):
        raise UserError(f"unknown key {min(unknown)}; allowed: {', '.join(KEYS)}")
    scale = settings.get("scale", "cpu")
    scales = sorted(path.stem for path in (CONFIG_DIR / "scale").glob("*.yaml"))
    if scale not in scales:
        raise UserError(f"scale={scale}: no such scale; expected one of {', '.join(scales)}")
    ours = OurSource(
        results=Path(settings.get("results", "results")),
        scale=scale,
        output_root=Path(settings.get("output_root", "outputs")),
        data_root=Path(settings["data_root"]) if "data_root" in settings else None,
        cache_dir=Path(settings.get("cache_dir", "outputs/cache")),
    )
    report = build_report(ours, f"python scripts/audit.py scale={scale}")
    folder = ours.results / scale
    write_text(folder / "audit.json", json.dumps(report, indent=2) + "\n")
    write_text(folder / "audit.md", markdown(report))
    for side, words in (("paper", "the paper's numbers"), ("ours", f"ours, scale={scale}")):
        counts = report["counts"]["claims"][side]
        print(f"{words:<22} " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS))
    print(f"written to {folder / 'audit.md'} and {folder / 'audit.json'}")
    return report


if __name__ == "__main__":
    run_script(audit, __doc__)
