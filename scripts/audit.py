"""Check what the paper says in words about its tables and figures, on its own numbers and on ours.

    python scripts/audit.py [scale=cpu] [results=DIR] [out=outputs/results]

Reads results/paper.yaml, the tables that scripts/reproduce.py wrote, what Figures 1 and 9 measured and the costs that
scripts/benchmark.py measured, and nothing else: neither runs nor data sets. Writes <out>/<scale>/audit.md and
audit.json: holds, fails or not tested, with the numbers, where the gain sits and when there is one.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffl.errors import UserError
from ffl.files import write_text
from ffl.training.command import run_script
from scripts.audits.evidence import OurSource
from scripts.audits.report import SIDES, VERDICTS, build_report, markdown
from scripts.tables import OWN, check_scale


def audit(*, scale: str = "cpu", results: Path | None = None, out: Path = OWN) -> dict[str, Any]:
    """Judge every claim and write the report.

    Args:
        scale: a choice of configs/scale.
        results: the folder of the results to audit; null: each table from outputs/results where it is there, else from
            the published results/.
        out: the folder of the report; out=results is for maintainers, who publish it.
    Returns:
        The report, as written to audit.json.
    Raises:
        UserError: for an argument that cannot be, or a table that cannot be read.
    """
    check_scale(scale)
    if results is not None and not results.is_dir():
        raise UserError(f"results={results}: no such folder; it is where scripts/reproduce.py wrote, as its out=DIR")
    # The report names the command that makes it again. Where a report is written changes nothing in it, so that out= is
    # left out: a fresh clone gives the published text.
    command = f"python scripts/audit.py scale={scale}" + (f" results={results}" if results else "")
    report = build_report(OurSource(results, scale), command)
    write_text(out / scale / "audit.json", json.dumps(report, indent=2) + "\n")
    write_text(out / scale / "audit.md", markdown(report))
    for side, words in SIDES.items():
        counts = report["counts"]["claims"][side]
        print(f"{words:<36} " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS))
    print(f"written to {out / scale / 'audit.md'} and {out / scale / 'audit.json'}")
    return report


if __name__ == "__main__":
    run_script(audit)
