"""Checks the data sets: what is there, what is missing and where it comes from.

python scripts/prepare_data.py                                   all data sets under data/
python scripts/prepare_data.py data_root=DIR dataset=celeba,dtd  some of them elsewhere
python scripts/prepare_data.py dataset=dtd verify=true           decode every image
python scripts/prepare_data.py dataset=dtd download=true         fetch what is missing, where a public source allows it
python scripts/prepare_data.py dataset=folder folder=DIR         your own images

Exit status: 0 if all that was asked for can be used, 1 if something is missing or bad, 2 for a wrong command line.
"""

import contextlib
import lzma
import multiprocessing
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import DATASETS, SPLITS
from datasets.build import default_workers
from datasets.celeba import AUTHORS_LISTS
from datasets.decoding import undecodable, undecodable_file
from datasets.files import FileImages
from datasets.folder import Folder
from datasets.listing import Listing
from datasets.photos import PHOTOGRAPHS, read_photograph
from ffl.errors import UserError

# The authors' list of test images, at the commit that added it.
CELEBA_TEST_LIST = (
    "https://raw.githubusercontent.com/EndlessSora/focal-frequency-loss/"
    "23139f0c906662128a89f878497ee91b205e03d8/datasets/celeba_recon_lists/test.txt"
)
# What unpacking raises for a damaged or hostile archive, beside OSError.
BAD_ARCHIVE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError)
VERIFY_CHUNK = 32
# So few are decoded before a worker process has started.
FEW_IMAGES = 1000
SHOWN_PROBLEMS = 5


@dataclass(frozen=True)
class Options:
    """The command line."""

    data_root: Path = Path("data")
    datasets: tuple[str, ...] = ()
    folder: str | None = None
    verify: bool = False
    download: bool = False
    workers: int = field(default_factory=default_workers)


@dataclass
class Report:
    """What is known of one data set.

    Attributes:
        name: of the data set.
        found, expected: images found, and of the public data set (None: no such number).
        splits: images per split; a split that does not exist is absent.
        rule: how the splits came about.
        problems: why it cannot be used.
        decoded: images that were decoded; None where none were.
    """

    name: str
    found: int = 0
    expected: int | None = None
    splits: dict[str, int] = field(default_factory=dict)
    rule: str = ""
    problems: list[str] = field(default_factory=list)
    decoded: int | None = None

    @property
    def status(self) -> str:
        if self.problems:
            return "bad" if self.found else "missing"
        return "partial" if self.expected is not None and self.found < self.expected else "ok"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    try:
        options = parse(words)
        reports = [examine(name, options) for name in options.datasets]
    except UserError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(table(reports))
    for report in reports:
        for line in notes(report):
            print(f"{report.name}: {line}")
    return 1 if any(report.problems for report in reports) else 0


def parse(words: list[str]) -> Options:
    """Options from key=value words.

    Raises:
        UserError: an unknown key or data set, or a value of the wrong kind.
    """
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise UserError(f"{word}: write key=value")
        values[key] = value
    known = ("data_root", "dataset", "folder", "verify", "download", "workers")
    for key in values:
        if key not in known:
            raise UserError(f"{key}: no such key; there are {', '.join(known)}")
    default = [name for name in DATASETS if name != Folder.name]
    names = values["dataset"].split(",") if "dataset" in values else default
    for name in names:
        if name not in DATASETS:
            raise UserError(f"dataset={name}: no such data set; there are {', '.join(DATASETS)}")
    folder = values.get("folder")
    if (folder is not None) != (Folder.name in names):
        raise UserError("folder=DIR and dataset=folder go together; give both")
    workers = values.get("workers", str(default_workers()))
    if not workers.isdecimal() or int(workers) < 1:
        raise UserError(f"workers={workers}: must be a positive number")
    download = _flag("download", values)
    if download and "dataset" not in values:
        raise UserError("download=true: say what, for example dataset=dtd")
    return Options(
        Path(values.get("data_root", "data")),
        tuple(names),
        folder,
        _flag("verify", values),
        download,
        int(workers),
    )


def _flag(key: str, values: dict[str, str]) -> bool:
    value = values.get(key, "false").lower()
    if value not in ("true", "false"):
        raise UserError(f"{key}={value}: must be true or false")
    return value == "true"


def examine(name: str, options: Options) -> Report:
    """Look at one data set, fetching it first and decoding all of it where that was asked for."""
    dataset = DATASETS[name]
    if not issubclass(dataset, FileImages):
        return _examine_photos(name)
    list_files: Callable[[Path], Listing] = dataset.list_files
    if issubclass(dataset, Folder) and name == Folder.name:
        list_files = partial(dataset.list_files, folder=str(options.folder))
    report = Report(name)
    if options.download:
        try:
            _download(name, options.data_root, list_files)
        except UserError as err:
            report.problems.append(str(err).removeprefix(f"dataset {name}: "))
            return report
    try:
        listing = list_files(options.data_root)
    except UserError as err:
        report.problems.append(str(err).removeprefix(f"dataset {name}: "))
        return report
    report.found, report.expected, report.rule = listing.found, listing.expected, listing.rule
    report.splits = {split: len(paths) for split, paths in listing.splits.items()}
    report.problems += [f"the {split} split is empty" for split, count in report.splits.items() if not count]
    if options.verify:
        broken = verify(listing, options.workers, name)
        report.decoded = listing.found
        report.problems += [f"{path}: {reason}" for path, reason in broken]
    return report


def _examine_photos(name: str) -> Report:
    report = Report(name, expected=len(PHOTOGRAPHS), rule="cut into crops by region", decoded=0)
    for file in PHOTOGRAPHS:
        try:
            reason = undecodable(read_photograph(file))
        except UserError as err:
            report.problems.append(str(err))
            continue
        report.found += 1
        report.decoded = report.found
        if reason is not None:
            report.problems.append(f"{file}: {reason}")
    return report


def verify(listing: Listing, workers: int, label: str) -> list[tuple[Path, str]]:
    """Decode every image; the paths that fail, and why, in the order of the listing."""
    paths = [listing.root / path for split in SPLITS for path in listing.splits.get(split, [])]
    progress = partial(tqdm, total=len(paths), desc=f"verify {label}", unit="img", disable=None)
    if workers == 1 or len(paths) <= FEW_IMAGES:
        reasons = [undecodable_file(path) for path in progress(paths)]
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context) as pool:
            reasons = list(progress(pool.map(undecodable_file, paths, chunksize=VERIFY_CHUNK)))
    return [(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason is not None]


def _download(name: str, data_root: Path, list_files: Callable[[Path], Listing]) -> None:
    """Fetch what is missing of a data set.

    Raises:
        UserError: there is no public download, or it failed.
    """
    downloads: dict[str, Callable[[Path], None]] = {"celeba": _download_celeba, "dtd": _download_dtd}
    try:
        list_files(data_root)
        present = True
    except UserError as err:
        present = False
        if name not in downloads:
            raise UserError(f"{err} (no automatic download)") from err
    try:
        if not present:
            data_root.mkdir(parents=True, exist_ok=True)
            downloads[name](data_root)
        if name == "celeba":
            _download_celeba_list(data_root)
    except (OSError, RuntimeError, ImportError, *BAD_ARCHIVE) as err:
        reason = " ".join(str(err).split())
        raise UserError(f"download of {name} failed ({reason}); {_source(name)}") from err


def _source(name: str) -> str:
    dataset = DATASETS[name]
    return dataset.source if issubclass(dataset, FileImages) else ""


def _download_celeba(data_root: Path) -> None:
    from torchvision.datasets import CelebA

    CelebA(str(data_root), split="all", download=True)


def _download_dtd(data_root: Path) -> None:
    from torchvision.datasets import DTD

    with _members_stay_inside():
        DTD(str(data_root), download=True)


@contextlib.contextmanager
def _members_stay_inside() -> Iterator[None]:
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


def _download_celeba_list(data_root: Path) -> None:
    from torchvision.datasets.utils import download_url

    if not (data_root / AUTHORS_LISTS / "test.txt").is_file() and not (data_root / "celeba" / "test.txt").is_file():
        download_url(CELEBA_TEST_LIST, str(data_root / AUTHORS_LISTS), "test.txt")


def table(reports: list[Report]) -> str:
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


def notes(report: Report) -> list[str]:
    """What the table has no room for."""
    lines = [report.rule] if report.rule else []
    if report.decoded is not None and not report.problems:
        lines.append(f"all {report.decoded:,} images can be decoded")
    if report.status == "partial":
        lines.append("fewer images than the public data set: numbers are not comparable with published ones")
    lines += report.problems[:SHOWN_PROBLEMS]
    if len(report.problems) > SHOWN_PROBLEMS:
        lines.append(f"and {len(report.problems) - SHOWN_PROBLEMS} more problems")
    return lines


if __name__ == "__main__":
    sys.exit(main())
