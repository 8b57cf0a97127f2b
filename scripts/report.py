"""A report that opens in a browser from disk: tables, records, comparisons by slider, curves and the audit.

    python scripts/report.py [scale=cpu] [results=DIR] [runs=DIR] [out=outputs/report]
    python scripts/report.py run=DIR [out=DIR/report]

Tables, curves by frequency, figures and the audit come from the records in results/ and outputs/results/; pictures and
curves of training from run directories, where they are there. No server and no other host is asked for anything.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffl.errors import UserError
from ffl.files import report_failed_writes
from ffl.ranges import Count
from ffl.training.command import run_script
from ffl.training.provenance import code_version
from ffl.training.run_directory import RunDirectory
from scripts.tables import check_scale


def report(
    *,
    scale: str | None = None,
    results: Path | None = None,
    runs: Path | None = None,
    run: Path | None = None,
    data_root: Path | None = None,
    cache_dir: Path | None = None,
    images: Count = 4,
    out: Path | None = None,
) -> None:
    """Write the report of all tables, or of one run.

    Args:
        scale: whose tables are meant: cpu, which is the default, or paper.
        results: the folder of the results; null: each table from outputs/results where it is there, else from the
            published results/.
        runs: folder of the run directories, for pictures; outputs by default.
        run: one run directory, whose report is made instead.
        data_root: where the data sets are now; otherwise where they were when each run was made.
        cache_dir: of the decoded images; otherwise that of each run.
        images: test images shown of each run.
        out: the folder of the report; outputs/report, or the folder report of the run.
    Raises:
        UserError: for an argument that cannot be, a folder that cannot be written, or a damaged file; the report of all
            that is whole is then written first.
    """
    # What is asked for.
    folders = {
        "results": (results, "it is where scripts/reproduce.py wrote, as its out=DIR"),
        "runs": (runs, "it is where train.py made its run directories, outputs by default"),
        "run": (run, "it is a run directory, which train.py prints when it begins"),
    }
    for key, (path, advice) in folders.items():
        if path is not None and not path.is_dir():
            raise UserError(f"{key}={path}: no such folder; {advice}")
    if run is not None:
        for key, given in {"scale": scale, "results": results, "runs": runs}.items():
            if given is not None:
                raise UserError(f"{key}={given}: run= makes the report of one run; leave {key} out")
    scale = scale or "cpu"
    check_scale(scale)
    try:
        from scripts.reporting.pictures import Album
        from scripts.reporting.site import Site, build_run_page, build_site
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; run: pip install '.[all]'") from None

    # What every page says of itself. Where the site is written changes nothing in it.
    words = {"scale": scale, "results": results, "runs": runs} if run is None else {"run": run}
    command = " ".join(["python scripts/report.py", *(f"{key}={value}" for key, value in words.items() if value)])
    commit = code_version()["commit"]
    about = {"made_by": command, "commit": commit[:10] if commit else "", "scale": scale}

    folder = out or (Path("outputs/report") if run is None else run / "report")
    album = Album(folder, runs or Path("outputs"), images, data_root, cache_dir)
    damaged: list[str] = []
    warnings: list[str] = []
    with report_failed_writes(folder, "set out=DIR, a folder that you may write to"):
        site = Site(folder, about)
        if run is not None:
            build_run_page(site, RunDirectory(RunDirectory.open(run).path.resolve()), album, warnings)
        else:
            damaged = build_site(site, results, scale, album, warnings)
    for line in dict.fromkeys(warnings):
        print(line)
    print(f"written to {folder / 'index.html'}")
    if damaged:
        raise UserError("; ".join(damaged))


if __name__ == "__main__":
    run_script(report)
