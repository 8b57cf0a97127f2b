"""Checks the data sets: what is there, what is missing and where it comes from.

python scripts/prepare_data.py                                   all data sets under data/
python scripts/prepare_data.py data_root=DIR dataset=celeba,dtd  some of them elsewhere
python scripts/prepare_data.py dataset=dtd verify=true           decode every image
python scripts/prepare_data.py dataset=dtd download=true         fetch what is missing, where a public source allows it
python scripts/prepare_data.py dataset=folder folder=DIR         your own images
python scripts/prepare_data.py dataset=celeba shards=DIR         copy it into shards, for train.py dataset.shards=DIR

Exit status: 0 if all that was asked for can be used, 1 if something is missing or bad, 2 for a wrong command line.
"""

import contextlib
import lzma
import multiprocessing
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import DATASETS, SPLITS, list_images
from datasets.build import default_workers
from datasets.celeba import AUTHORS_LISTS
from datasets.decoding import undecodable, undecodable_file
from datasets.files import FileImages
from datasets.listing import Listing
from datasets.photos import PHOTOGRAPHS, read_photograph
from datasets.shards import write_shards
from ffl.errors import MissingExtra, UserError
from ffl.progress import progress_bar
from ffl.ranges import Count
from ffl.training.command import run_script

# The authors' list of test images, at the commit that added it.
CELEBA_TEST_LIST = (
    "https://raw.githubusercontent.com/EndlessSora/focal-frequency-loss/"
    "23139f0c906662128a89f878497ee91b205e03d8/datasets/celeba_recon_lists/test.txt"
)
DOWNLOADS = ("celeba", "dtd")
# What unpacking raises for a damaged or hostile archive, beside OSError.
BAD_ARCHIVE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError)
VERIFY_CHUNK = 32
# So few are decoded before a worker process has started.
FEW_IMAGES = 1000
SHOWN_PROBLEMS = 5


@dataclass
class DataReport:
    """What is known of one data set.

    Attributes:
        name: of the data set.
        found, expected: images found, and of the public data set (None: no such number).
        splits: images per split; a split that does not exist is absent.
        rule: how the splits came about.
        problems: why it cannot be used.
        decoded: images that were decoded; None where none were.
        shards: how many were made, and where; None where none were.
    """

    name: str
    found: int = 0
    expected: int | None = None
    splits: dict[str, int] = field(default_factory=dict)
    rule: str = ""
    problems: list[str] = field(default_factory=list)
    decoded: int | None = None
    shards: tuple[int, Path] | None = None

    @property
    def status(self) -> str:
        if self.problems:
            return "bad" if self.found else "missing"
        return "partial" if self.expected is not None and self.found < self.expected else "ok"


def main(
    *,
    data_root: Path = Path("data"),
    dataset: list[str] | None = None,
    folder: str | None = None,
    verify: bool = False,
    download: bool = False,
    workers: Count | None = None,
    shards: Path | None = None,
    dataset_options: dict[str, Any] | None = None,
) -> None:
    """Print a table of data sets and what is wrong with them; exit with 1 if something is missing or bad.

    Args:
        data_root: folder that holds one folder per data set.
        dataset: their names; all that need no folder= if left out.
        folder: your own images, for dataset=folder.
        verify: decode every image.
        download: fetch what is missing, where a public source allows it.
        workers: processes that decode; one per core, 8 at most, if left out.
        shards: folder to copy the files of one data set to, in a few large ones; each image is decoded to see that it
            can be.
        dataset_options: how the files of one data set are found, as by dataset.KEY of train.py.
    """
    names = [name for name in DATASETS if name != "folder"] if dataset is None else dataset
    if unknown := [name for name in names if name not in DATASETS]:
        raise UserError(f"dataset={unknown[0]}: no such data set; there are {', '.join(DATASETS)}")
    if (folder is not None) != ("folder" in names):
        raise UserError("folder=DIR and dataset=folder go together; give both")
    if download and dataset is None:
        raise UserError("download=true: say what, for example dataset=dtd")
    if len(names) != 1 and (shards or dataset_options):
        key = f"shards={shards}" if shards else "dataset_options"
        raise UserError(f"{key}: is of one data set; name it, for example dataset=celeba")
    options = {**(dataset_options or {}), **({} if folder is None else {"folder": folder})}
    if "shards" in options:
        raise UserError("dataset_options: this is about the files that shards are made of; leave shards out of it")
    if shards and not issubclass(DATASETS[names[0]], FileImages):
        raise UserError(f"shards={shards}: {names[0]} has no files to copy; it comes with a package")
    processes = workers or default_workers()
    reports = [examine(name, data_root, options, download, processes if verify else 0) for name in names]
    if shards and not reports[0].problems:
        _write_shards(reports[0], data_root, options, shards, processes)
    print(table(reports))
    for report in reports:
        for line in notes(report):
            print(f"{report.name}: {line}")
    if any(report.problems for report in reports):
        sys.exit(1)


def examine(name: str, data_root: Path, options: dict[str, Any], download: bool, workers: int) -> DataReport:
    """Look at one data set; ``workers`` is how many processes decode all of it, 0 for none."""
    report = DataReport(name)
    if name == "photos":
        _examine_photos(report)
        return report
    try:
        if download:
            _download(name, data_root)
        listing = list_images(name, data_root, **options)
        assert listing is not None
    except UserError as err:
        report.problems.append(str(err).removeprefix(f"dataset {name}: "))
        return report
    report.found, report.expected, report.rule = listing.found, listing.expected, listing.rule
    report.splits = {split: len(paths) for split, paths in listing.splits.items()}
    report.problems += [f"the {split} split is empty" for split, count in report.splits.items() if not count]
    if workers:
        report.decoded = listing.found
        report.problems += [f"{path}: {reason}" for path, reason in verify_images(listing, workers, name)]
    return report


def _write_shards(report: DataReport, data_root: Path, options: dict[str, Any], path: Path, workers: int) -> None:
    kind = DATASETS[report.name]
    assert issubclass(kind, FileImages)
    try:
        chosen = kind.listing_options(**options)
        listing = kind.find_files(data_root, **options)
        files = kind.source_files(listing)
        report.shards = write_shards(path, report.name, chosen, listing, files, workers), path
        report.decoded = listing.found
    except MissingExtra:
        raise
    except UserError as err:
        report.problems.append(f"no shards were made: {err}")


def _examine_photos(report: DataReport) -> None:
    report.expected, report.rule = len(PHOTOGRAPHS), "cut into crops by region"
    for file in PHOTOGRAPHS:
        try:
            reason = undecodable(read_photograph(file))
        except UserError as err:
            report.problems.append(str(err))
            continue
        report.found += 1
        if reason is not None:
            report.problems.append(f"{file}: {reason}")
    report.decoded = report.found


def verify_images(listing: Listing, workers: int, label: str) -> list[tuple[Path, str]]:
    """Decode every image; the paths that fail, and why, in the order of the listing."""
    paths = [listing.root / path for split in SPLITS for path in listing.splits.get(split, [])]
    progress = partial(progress_bar, len(paths), f"verify {label}", "image")
    if workers == 1 or len(paths) <= FEW_IMAGES:
        reasons = [undecodable_file(path) for path in progress(paths)]
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context) as pool:
            reasons = list(progress(pool.map(undecodable_file, paths, chunksize=VERIFY_CHUNK)))
    return [(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason is not None]


def _download(name: str, data_root: Path) -> None:
    """Fetch what is missing of a data set.

    Raises:
        UserError: there is no public download, or it failed.
    """
    # What is there is not fetched again.
    try:
        list_images(name, data_root)
        there = True
    except UserError as err:
        there = False
        if name not in DOWNLOADS:
            raise UserError(f"{err} (no automatic download)") from err
    try:
        from torchvision import datasets as public
        from torchvision.datasets import utils

        if not there:
            data_root.mkdir(parents=True, exist_ok=True)
            if name == "celeba":
                public.CelebA(str(data_root), split="all", download=True)
            else:
                with _keep_members_inside():
                    public.DTD(str(data_root), download=True)
        # The paper's test images are told by the authors' list, which CelebA's own archive does not hold.
        lists = data_root / AUTHORS_LISTS
        if name == "celeba" and not any((folder / "test.txt").is_file() for folder in (lists, data_root / "celeba")):
            utils.download_url(CELEBA_TEST_LIST, str(lists), "test.txt")
    except (OSError, RuntimeError, ImportError, *BAD_ARCHIVE) as err:
        reason = " ".join(str(err).split())
        raise UserError(f"download of {name} failed ({reason}); {DATASETS[name].source}") from err


@contextlib.contextmanager
def _keep_members_inside() -> Iterator[None]:
    """Let no archive write outside its folder, or make links out of it, or devices: torchvision lets all through.

    The published checksum is compared before; this holds even if another archive had the same one.
    """
    if not hasattr(tarfile, "data_filter"):
        raise RuntimeError("this Python cannot unpack safely; use 3.10.12, 3.11.4 or newer, or unpack it yourself")
    before = getattr(tarfile.TarFile, "extraction_filter", None)
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # type: ignore[assignment]
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before  # type: ignore[assignment]


def table(reports: list[DataReport]) -> str:
    """One row per data set."""
    rows = [("data set", "status", "found", "expected", *SPLITS)]
    for report in reports:
        counts = [f"{report.splits[split]:,}" if split in report.splits else "—" for split in SPLITS]
        expected = "—" if report.expected is None else f"{report.expected:,}"
        rows.append((report.name, report.status, f"{report.found:,}", expected, *counts))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(left + right).rstrip())
    return "\n".join(lines)


def notes(report: DataReport) -> list[str]:
    """What the table has no room for."""
    lines = [report.rule] if report.rule else []
    if report.decoded is not None and not report.problems:
        lines.append(f"all {report.decoded:,} images can be decoded")
    if report.status == "partial":
        lines.append("fewer images than the public data set: numbers are not comparable with published ones")
    if report.shards is not None:
        lines.append(
            "{} shards in {}; python train.py dataset={} dataset.shards={}".format(
                *report.shards, report.name, report.shards[1]
            )
        )
    lines += report.problems[:SHOWN_PROBLEMS]
    if len(report.problems) > SHOWN_PROBLEMS:
        lines.append(f"and {len(report.problems) - SHOWN_PROBLEMS} more problems")
    return lines


if __name__ == "__main__":
    run_script(main)
