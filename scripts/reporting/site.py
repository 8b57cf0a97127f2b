"""The pages of the report, made from records alone, and from runs where they are there."""

import json
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import jinja2
import numpy as np
from PIL import Image

from ffl.errors import UserError
from ffl.files import atomic_write, file_sha256, write_text
from ffl.metrics import METRICS
from ffl.training.config import flatten
from ffl.training.model import Task
from ffl.training.record import Record, read_records
from ffl.training.run_directory import RunDirectory
from scripts.reporting.curves import Chart, band_charts, training_charts
from scripts.reporting.downloads import table_csv, table_latex
from scripts.reporting.pictures import DIFFERENCE_SCALE, SPECTRUM_SCALE, Album, RunPictures, gradient_css, save_webp
from scripts.reproduction.pivot import (
    COLUMNS,
    RUN_HEADS,
    Line,
    Pivot,
    count_text,
    duration,
    head,
    make_pivot,
    pair_labels,
    run_texts,
)
from scripts.tables import OWN, PUBLISHED, Table, read_results, read_table, results_file, table_names

FOLDER = Path(__file__).parent
SIDES = ("without", "with")
MARKS = {"holds": "✓", "fails": "✗"}  # any other verdict has no mark: it is not tested

FINDING_KEYS = ("verdict", "summary", "numbers", "missing", "seeds", "tested", "total")

# The facts of a record: names with a text for each seed, or with one that all seeds share.
Facts = list[tuple[str, list[str]]]


@dataclass
class Site:
    """A folder of pages.

    Attributes:
        folder: where they go.
        about: what every page says of itself: ``made_by``, the command that made the site, and ``scale``.
    """

    folder: Path
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Whatever a page shows is escaped: names of runs and of files are other people's text.
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.globals |= {"COLUMNS": COLUMNS, "head": head, "marks": MARKS, "gradient": gradient_css()}
        self.templates.globals["run_heads"] = RUN_HEADS
        self.templates.globals |= {"spectrum_scale": SPECTRUM_SCALE, "gap_scale": DIFFERENCE_SCALE}
        self.templates.filters |= {"mean": statistics.fmean, "duration": duration, "count": count_text, "path": quote}
        self.templates.filters |= {"number": lambda value: "" if value is None else f"{value:.4g}", "zip": zip}
        self.templates.tests["starting"] = str.startswith

    def page(self, name: str, template: str, /, **content: Any) -> None:
        """Write one page."""
        write_text(self.folder / name, self.templates.get_template(template).render(**self.about, **content))

    def static(self) -> None:
        """Copy the style, the script and the two libraries that pages use, with their licences."""
        for path in (FOLDER / "static").rglob("*"):
            if path.is_file():
                with atomic_write(self.folder / "static" / path.relative_to(FOLDER / "static")) as file:
                    file.write(path.read_bytes())


@dataclass(frozen=True)
class Comparison:
    """Two rows of a table on one page, one without and one with FFL as a rule.

    Attributes:
        page: its file.
        title: what is compared.
        labels: what the two are called, by ``SIDES``.
        line: their difference in numbers.
        charts: by band of frequency, and of training where the runs are there.
        pictures: of both runs by side; none where one of them has none.
        remark: on the pictures; "" for nothing.
    """

    page: str
    title: str
    labels: dict[str, str]
    line: Line
    charts: list[Chart]
    pictures: dict[str, RunPictures]
    remark: str


@dataclass(frozen=True)
class TablePage:
    """A table and what stands beside it.

    Attributes:
        page: its file.
        pivot: the table as data.
        scale: of its runs.
        comparisons: by group, then by (without, with) rows.
        runs: a line for each run, of texts and the numbers to sort them by.
        dialogs: what is behind each number: ``id``, ``title``, ``seeds``, ``facts``, and ``pictures`` with a ``remark``
            where a run is there.
        own: whether its records are the user's own and not the published ones.
    """

    page: str
    pivot: Pivot
    scale: str
    comparisons: dict[str, dict[tuple[str, str], Comparison]]
    runs: list[list[tuple[str, float | None]]]
    dialogs: list[dict[str, Any]]
    own: bool


def build_site(site: Site, results: Path | None, scale: str, album: Album, warnings: list[str]) -> list[str]:
    """Write the report of all tables.

    Args:
        site: where.
        results: folder of all results; None: the user's own, and for what is not there the published ones.
        scale: a choice of configs/scale.
        album: of the runs, for their pictures.
        warnings: gets a line for each run without pictures.
    Returns:
        A line for each file that is damaged, which the site leaves out.
    Raises:
        UserError: if there is no table at all.
    """
    damaged: list[str] = []

    # The tables that there are.
    pages: list[TablePage] = []
    for name in table_names():
        path = results_file(results, scale, name)
        if path is None:
            continue
        try:
            pages.append(table_page(name, path, album))
        except UserError as error:
            damaged.append(str(error))
    if not pages:
        where = "outputs/results or results" if results is None else str(results)
        advice = f"no table of scale={scale} in {where}; run scripts/reproduce.py first"
        raise UserError(damaged[0] if damaged else advice)

    # The audit, if it is of these tables.
    audit, audit_remark = None, ""
    path_of_audit = first_file(results, f"{scale}/audit.json")
    if path_of_audit is None:
        audit_remark = f"No audit is there; python scripts/audit.py scale={scale} makes one."
    else:
        try:
            audit = read_audit(path_of_audit)
            digests = {page.pivot.table.name: results_file(results, scale, page.pivot.table.name) for page in pages}
            other = [
                name
                for name, digest in audit["tables"].items()
                if (path := digests.get(name)) is not None and file_sha256(path) != digest
            ]
            if other:
                audit_remark = f"The audit is of other numbers of {', '.join(other)} than this report; make it again."
        except UserError as error:
            damaged.append(str(error))
            audit_remark = str(error)
    figures = published_figures(site, results, scale, damaged)

    # The pages. The front page comes last: where something cannot be written, an older one still leads to older pages.
    site.static()
    links = {"tables": pages, "audit": audit, "figures": figures}
    for table in pages:
        stem = table.page.removesuffix(".html")
        write_text(site.folder / "downloads" / f"{stem}.csv", table_csv(table.pivot))
        write_text(site.folder / "downloads" / f"{stem}.tex", table_latex(table.pivot))
        site.page(table.page, "table.html", table=table, stem=stem, **links)
        for pairs in table.comparisons.values():
            for comparison in pairs.values():
                site.page(comparison.page, "comparison.html", table=table, comparison=comparison, **links)
    if figures:
        site.page("figures.html", "figures.html", **links)
    if audit is not None:
        site.page("audit.html", "audit.html", remark=audit_remark, **links)
    findings = [] if audit is None else front_lines(audit)
    shown = [
        comparison
        for table in pages
        for pairs in table.comparisons.values()
        for comparison in pairs.values()
        if comparison.pictures
    ]
    site.page(
        "index.html", "index.html", findings=findings, remark=audit_remark, damaged=damaged, shown=shown[:2], **links
    )
    warnings += album.problems.values()
    return damaged


def first_file(results: Path | None, name: str) -> Path | None:
    """A file of the results folder; of the user's own before the published one where no folder is given."""
    folders = [OWN, PUBLISHED] if results is None else [results]
    return next((path for folder in folders if (path := folder / name).is_file()), None)


# Tables and comparisons.


def table_page(name: str, path: Path, album: Album) -> TablePage:
    """A table with its records and comparisons.

    Raises:
        UserError: if its file is damaged.
    """
    table = read_table(name)
    # Everything that the file says. Its records may lack what they should have; what fails later is not its fault.
    try:
        results = read_results(path)
        pivot = make_pivot(table, results)
        trainings = {where[:2]: by_seed for where, by_seed in pivot.cells.items() if where[2] == "training"}
        numbers = [
            (block, line, metric, record_facts(cell.records, trainings.get((line.row, block.group), {})))
            for block in pivot.blocks
            for line in block.lines
            for metric, cell in line.cells.items()
            if cell.records
        ]
        charts = {
            (block.group, line.without, line.row): charts_of_pair(pivot, block.group, line)
            for block in pivot.blocks
            for line in block.differences
        }
        runs = []
        for record, tested in pivot.runs:
            about = record.details or {}
            counts = [about["train_images"], about["epochs"], about["steps"], tested]
            values = [None, record.provenance["seed"], None, *counts, None, record.value]
            runs.append(list(zip(run_texts(record, tested), values, strict=True)))
    except UserError:
        raise
    except (OSError, KeyError, TypeError, AttributeError, IndexError, ValueError):
        raise UserError(f"{path}: not a readable JSON table; make it again with scripts/reproduce.py") from None

    # A dialog for each number of ours, with the pictures of the first seed whose run is there.
    dialogs = []
    for block, line, metric, facts in numbers:
        records, pictures, remark = line.cells[metric].records, None, ""
        for seed, training in trainings.get((line.row, block.group), {}).items():
            if (directory := album.directory_of(training)) is not None:
                pictures = album.of_run(directory, task_of(table, block.group))
                remark = pictures.remark(records.get(seed)) if pictures else ""
                break
        title = f"{COLUMNS[metric].label}, {' '.join(line.labels)}" + (f", {block.title}" if block.title else "")
        named_by = {"id": f"record-{block.group}-{line.row}-{metric}", "title": title}
        dialogs.append({**named_by, "seeds": list(records), "facts": facts, "pictures": pictures, "remark": remark})

    # A page for each pair of rows that has curves or pictures.
    comparisons: dict[str, dict[tuple[str, str], Comparison]] = {}
    for block in pivot.blocks:
        for line in block.differences:
            made = compare(pivot, block.group, line, charts[block.group, line.without, line.row], album)
            if made is not None:
                comparisons.setdefault(block.group, {})[line.without, line.row] = made
    own = PUBLISHED not in path.resolve().parents
    return TablePage(f"{name}.html", pivot, results.scale, comparisons, runs, dialogs, own)


def labels_of_pair(table: Table, line: Line) -> dict[str, str]:
    """What the two rows of a difference are called, by ``SIDES``."""
    _, *names = pair_labels(table, line.without, line.row)
    # A column of labels is called FFL where its labels are "w/o" and "w/".
    suffix = " FFL" if table.labels[-1] == "FFL" else ""
    return dict(zip(SIDES, (name + suffix for name in names), strict=True))


def charts_of_pair(pivot: Pivot, group: str, line: Line) -> list[Chart]:
    """The curves by band of frequency of two rows; none where one of them has no record of its bands."""
    rows = zip(SIDES, (line.without, line.row), strict=True)
    bands = {side: list(pivot.cells.get((row, group, "bands"), {}).values()) for side, row in rows}
    return band_charts(bands, labels_of_pair(pivot.table, line)) if all(bands.values()) else []


def compare(pivot: Pivot, group: str, line: Line, charts: list[Chart], album: Album) -> Comparison | None:
    """The comparison of two rows, whose ``charts`` are given; None where there are neither curves nor pictures."""
    table, rows = pivot.table, dict(zip(SIDES, (line.without, line.row), strict=True))
    labels = labels_of_pair(table, line)

    # Of several seeds the first whose two runs are there.
    trainings = {side: pivot.cells.get((row, group, "training"), {}) for side, row in rows.items()}
    pictures: dict[str, RunPictures] = {}
    remark = ""
    for seed in sorted(trainings["without"].keys() & trainings["with"].keys()):
        directories = {side: album.directory_of(trainings[side][seed]) for side in SIDES}
        found = {side: directory for side, directory in directories.items() if directory is not None}
        if len(found) < len(SIDES):
            continue
        charts = [*charts, *training_charts(found, labels)]
        drawn = {side: album.of_run(directory, task_of(table, group)) for side, directory in found.items()}
        pictures = {side: shown for side, shown in drawn.items() if shown is not None}
        if len(pictures) < len(SIDES):
            pictures = {}
        for side, shown in pictures.items():
            for (row, of, _), by_seed in pivot.cells.items():
                if (row, of) == (rows[side], group) and seed in by_seed:
                    remark = shown.remark(by_seed[seed]) or remark
        break
    if not charts and not pictures:
        return None
    shared, *_ = pair_labels(table, line.without, line.row)
    title = f"{labels['with']} beside {labels['without']}" + (f", {shared}" if shared else "")
    group_title = table.groups[group].title
    title += f" ({group_title})" if group_title else ""
    page = f"{table.name}-{group}-{line.without}-{line.row}.html"
    return Comparison(page, title, labels, line, charts, pictures, remark)


def task_of(table: Table, group: str) -> Task:
    """What the models of a group of columns are asked to do; ``parse_table`` has checked it."""
    return cast(Task, table.groups[group].task)


def record_facts(records: Mapping[int, Record], trainings: Mapping[int, Record]) -> Facts:
    """What a reader must know of a number: where it comes from, and what it means."""
    columns: list[dict[str, str]] = []
    for seed, record in records.items():
        where, environment = record.provenance, record.provenance.get("environment") or {}
        training = trainings.get(seed)
        trained = (training.details if training is not None else None) or {}
        values: dict[str, Any] = {
            "value": record.value,
            "real halves": record.floor,
            "real images": record.ceiling,
            "not there": record.missing,
            "caution": record.warning,
            "command": trained.get("command"),
            "seed": seed,
            "data set": record.protocol.get("reference", where.get("dataset")),
            "test images": record.num_images,
            "run": where.get("run"),
            "step": where.get("step"),
            "training images": trained.get("train_images"),
            "epochs": trained.get("epochs"),
            "trained with commit": _commit(trained),
            "trained on": trained.get("hardware"),
            "training time": None if training is None or training.value is None else duration(training.value),
            "measured with commit": _commit(where),
            "measured on": environment.get("gpu") or environment.get("cpu"),
            "measured at": record.utc,
            "evaluation time": None if record.seconds is None else f"{record.seconds:.1f} s",
            "checkpoint SHA-256": where.get("checkpoint_sha256"),
        }
        meaning = {f"protocol: {key}": value for key, value in record.protocol.items() if key != "reference"}
        config = {f"config: {key}": value for key, value in flatten(trained.get("config") or {}).items()}
        columns.append({key: _text(value) for key, value in {**values, **meaning, **config}.items()})
    names = dict.fromkeys(name for column in columns for name in column)
    facts = [(name, [column.get(name, "") for column in columns]) for name in names]
    return [(name, texts[:1] if len(set(texts)) == 1 else texts) for name, texts in facts if any(texts)]


def _commit(about: Mapping[str, Any]) -> str:
    return f"{str(about['commit'])[:10]}{' and changes' if about.get('dirty') else ''}" if about.get("commit") else ""


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# The audit.


def read_audit(path: Path) -> dict[str, Any]:
    """The audit's report, with the choices of its filters.

    Raises:
        UserError: if it is damaged, or of another version.
    """
    try:
        audit: dict[str, Any] = json.loads(path.read_text())
        models = list(dict.fromkeys(effect["model"] for effect in audit["effects"]))
        data = list(dict.fromkeys(effect["data"] for effect in audit["effects"]))
        # A page that is half made would say nothing of what it lacks.
        shown: list[tuple[dict[str, Any], tuple[str, ...]]] = [(audit, ("scale", "command"))]
        shown += [(claim, ("id", "section", "reading", "models", "data_sets")) for claim in audit["claims"]]
        for item in (*audit["claims"], *audit["effects"]):
            shown += [(item[side], FINDING_KEYS) for side in ("paper", "ours") if item[side] is not None]
        if any(key not in of for of, keys in shown for key in keys):
            raise KeyError
        verdicts = dict.fromkeys(item["ours"]["verdict"] for item in (*audit["claims"], *audit["effects"]))
        audit["choices"] = {"model": models, "data": data, "verdict": list(verdicts)}
        front_lines(audit)
        if not isinstance(audit["tables"], dict) or not isinstance(audit["pictures_alone"], list):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: not a readable audit; make it again with scripts/audit.py") from None
    return audit


def front_lines(audit: Mapping[str, Any]) -> list[dict[str, str]]:
    """What was found, in a line for the claims and one for each model and data set."""
    # A count "holds beyond chance" is that of those among "holds" which seeds leave no doubt about.
    counts, sure = audit["counts"]["claims"]["ours"], " beyond chance"
    verdicts = [verdict for verdict in counts if not verdict.endswith(sure)]
    of_them = {
        verdict: f" ({counts[verdict + sure]} of them{sure})" for verdict in verdicts if verdict + sure in counts
    }
    words = ", ".join(f"{counts[name]} {name.removesuffix('s')}{of_them.get(name, '')}" for name in verdicts)
    lines = [{"head": "What the paper says in words", "text": f"on our numbers {words}", "verdict": ""}]
    pairs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for effect in audit["effects"]:
        pairs.setdefault((effect["model"], effect["data"]), []).append(effect)
    for (model, data), effects in pairs.items():
        said = []
        for side, who in (("ours", "ours"), ("paper", "the paper's")):
            tested = [effect for effect in effects if effect[side]["verdict"] in MARKS]
            better = sum(effect[side]["verdict"] == "holds" for effect in tested)
            numbers = [line for effect in tested for line in effect[side]["numbers"]]
            part = f"{who} better in {better} of {len(tested)} metrics" if tested else f"{who} not tested"
            said.append(part + (f" ({', '.join(numbers)})" if numbers and side == "ours" else ""))
        ours = [effect["ours"]["verdict"] for effect in effects if effect["ours"]["verdict"] in MARKS]
        verdict = "" if not ours else "holds" if set(ours) == {"holds"} else "fails" if "holds" not in ours else "mixed"
        lines.append({"head": f"{model}, {data}", "text": "; ".join(said), "verdict": verdict})
    return lines


# Figures.


def published_figures(site: Site, results: Path | None, scale: str, damaged: list[str]) -> list[dict[str, Any]]:
    """The figures of the results folder with their captions; ``damaged`` gets a line for each unreadable one."""
    folders = [OWN, PUBLISHED] if results is None else [results]
    found = (path for folder in folders for path in (folder / scale).glob("*.png"))
    names = dict.fromkeys(path.name for path in found if path.with_suffix(".json").is_file())
    figures = []
    for name in sorted(names, key=lambda name: [int(part) for part in re.findall(r"\d+", name)] or [10**6]):
        path = first_file(results, f"{scale}/{name}")
        assert path is not None
        try:
            caption = str(json.loads(path.with_suffix(".json").read_text())["caption"])
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            damaged.append(f"{path}: it or its JSON is not readable; make it again with scripts/figure.py")
            continue
        number = path.stem.removeprefix("figure")
        # Half of the bytes of a PNG, and the same pixels.
        file = f"figures/{path.stem}.webp"
        save_webp(site.folder / file, pixels)
        title = f"Figure {number}" if number.isdecimal() else path.stem.capitalize()
        size = (pixels.shape[1], pixels.shape[0])
        figures.append({"file": file, "title": title, "caption": caption, "size": size})
    return figures


# One run.


def build_run_page(site: Site, directory: RunDirectory, album: Album, warnings: list[str]) -> None:
    """Write the report of one run: settings, measurements, curves and pictures; ``warnings`` as of ``build_site``."""
    try:
        about = json.loads((directory.path / "run.json").read_text())
        command = " ".join(map(str, about["command"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        about, command = {}, ""
        warnings.append(f"{directory.path / 'run.json'}: not readable; the page does not say where the run comes from")
    config, status = directory.config(), directory.status()

    # The newest record of each measurement; the same metric may be there of several checkpoints and protocols. Lines
    # that were edited or cut are left out, as read_records does it.
    newest: dict[str, Record] = {}
    for record in read_records(directory.records):
        if isinstance(record.protocol, dict) and isinstance(record.provenance, dict) and type(record.num_images) is int:
            about_it = [record.metric, *(record.protocol.get(key, "") for key in ("task", "reference", "quantisation"))]
            newest[" ".join(map(str, about_it))] = record
    measured = [record for record in newest.values() if record.metric in METRICS]
    bands = [record for record in newest.values() if record.metric == "bands"][-1:]
    label = {"with": directory.path.name}
    charts = training_charts({"with": directory}, label)
    try:
        charts = [*band_charts({"with": bands}, label), *charts]
    except (KeyError, TypeError, ValueError):
        warnings.append(f"{directory.records}: its bands are not readable; evaluate the run again")
    pictures = album.of_run(directory)
    warnings += album.problems.values()

    site.static()
    site.page(
        "index.html",
        "run.html",
        name=directory.path.name,
        command=command,
        origin={key: value for key, value in flatten(about).items() if key != "command"},
        config=flatten(config),
        status=status,
        records=[(record, record_facts({config.get("seed", 0): record}, {})) for record in measured],
        charts=charts,
        pictures=pictures,
        remarks=list(album.problems.values()),
    )
