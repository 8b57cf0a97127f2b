"""python scripts/report.py: pages say what records say, lead nowhere else, and work in a browser."""

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from ffl.errors import UserError
from ffl.files import file_sha256
from ffl.images import from_uint8, to_uint8
from ffl.metrics import METRICS
from ffl.training.command import read_words
from ffl.training.program import compose
from ffl.training.record import Record, append_records
from ffl.training.run_directory import RunDirectory
from scripts.figures.runs import generate
from scripts.report import report
from scripts.reporting.curves import band_charts, training_charts
from scripts.reporting.downloads import escape
from scripts.reporting.pictures import DIFFERENCE_SCALE, SPECTRUM_SCALE, Album, spectrum_of
from scripts.reporting.site import read_audit
from scripts.runs import open_run
from scripts.tables import PUBLISHED, TableResults, by_seed, read_results
from train import train

TINY = ["model=ae", "dataset=photos", "dataset.image_size=16", "dataset.train_images=32", "dataset.val_images=4"]
TINY += ["dataset.test_images=12", "trainer.batch_size=4", "trainer.steps=2", "trainer.log_every=1"]
EVIL = "<img src=x onerror=alert(1)>"


def main(*words: str) -> None:
    """``python scripts/report.py`` with these words."""
    _, named_words = read_words(report, list(words))
    report(**named_words)


@cache
def parsed(path: Path) -> "Page":
    """A page of the site, whose files do not change."""
    return Page(path)


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, and the rows of its tables."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows and self.rows[-1] and {"td", "th"} & set(self.open[-6:]):
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data}".strip()

    def handle_endtag(self, tag: str) -> None:
        while tag in self.open and self.open.pop() != tag:
            pass

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """Tiny autoencoders without and with FFL; the name of the second is markup."""
    folder = tmp_path_factory.mktemp("outputs")
    made = {}
    for side, name, words in (("without", "plain", []), ("with", EVIL, ["loss.ffl=true"])):
        items = [*TINY, *words, f"output_root={folder}", f"cache_dir={folder / 'cache'}"]
        config = compose("train", items)
        config["name"] = name
        made[side] = train(config, items)
    return made


def photo_records(runs: dict[str, RunDirectory]) -> list[Record]:
    """Records of the table of photographs as scripts/reproduce.py writes them, of made-up values."""
    records = []
    for side, run in runs.items():
        config, better = run.config(), side == "with"
        where = {"row": f"photos_{side}", "group": "reconstruction", "run": run.path.name, "seed": 1112}
        where |= {"model": "ae", "dataset": "photos", "checkpoint_sha256": file_sha256(run.last)}
        protocol = {"task": "reconstruction", "reference": "photos test", "size": [16, 16]}
        values = {"psnr": 21.0 + better, "ssim": 0.5, "kd_effnet_lite0": 0.25 - 0.125 * better}
        for metric, value in values.items():
            records.append(Record(metric, value, 12, protocol, where, "2026-01-01T00:00:00+00:00", 1.5))
        bands = {"edges": [0.5, 2.0, 4.0, 8.0], "real": [9.0, 4.0, 2.0, 1.0, 0.0], "fake": [9.0, 4.0, 1.0, 0.5, 0.0]}
        bands["error"] = [0.0, 1.0, 1.0, 0.5, 0.0]
        records.append(Record("bands", None, 12, protocol, where, details=bands))
        details = {"command": f"python train.py {EVIL}", "commit": "0" * 40, "dirty": False, "config": config}
        details |= {"train_images": 32, "epochs": 0.25, "steps": 2, "images": 8, "hardware": "a <b>CPU</b>"}
        records.append(Record("training", 3.0, 0, {}, where, details=details))
    return records


@pytest.fixture(scope="module")
def results(runs: dict[str, RunDirectory], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published tables, and that of photographs with the tiny runs in its rows."""
    folder = tmp_path_factory.mktemp("results")
    shutil.copytree(PUBLISHED / "cpu", folder / "cpu", ignore=shutil.ignore_patterns("*.pdf", "*.md", "figure[!5]*"))
    (folder / "photos").mkdir()
    made = TableResults("photos", "paper", [f"A note with {EVIL}."], photo_records(runs))
    (folder / "photos" / "table.json").write_text(made.to_json())
    return folder


@pytest.fixture(scope="module")
def site(runs: dict[str, RunDirectory], results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    main(f"results={results}", f"runs={runs['with'].path.parent}", "images=2", f"out={folder}")
    return folder


# What pages say.


def test_tables_show_the_published_numbers_and_mark_the_same_ones(site: Path) -> None:
    for name in ("table1", "table5", "table8"):
        path = PUBLISHED / "cpu" / f"{name}.md"
        written = re.split(r"^## (?:Notes|Runs)", path.read_text(), maxsplit=1, flags=re.MULTILINE)[0]
        page = (site / f"{name}.html").read_text()
        numbers = re.findall(r"\*\*([^*|]+)\*\*", written)
        plain = re.findall(r"(?<![\w.*])[+-]?\d+\.\d+(?: ± \d+\.\d+)?(?![\w.*])", written.replace("**", ""))
        assert len(plain) > 20
        for number in numbers:
            assert f"<strong>{number}</strong>" in page, (name, number)
        for number in plain:
            assert number in page, (name, number)
        assert page.count("<strong>") == len(numbers)


def test_a_cell_opens_its_record(site: Path) -> None:
    page = parsed(site / "table1.html")
    links = [link["href"] for link in page.all("a") if link.get("class") == "record"]
    dialogs = [dialog["id"] for dialog in page.all("dialog")]
    assert len(set(links)) == len(links) > 20
    assert {link[1:] for link in links} <= set(dialogs)
    assert len(set(dialogs)) == len(dialogs)
    text = (site / "table1.html").read_text()
    dialog = text[text.index('<dialog id="record-reconstruction-celeba_with-psnr"') :]
    dialog = dialog[: dialog.index("</dialog>")]
    seeds = by_seed(read_results(PUBLISHED / "cpu" / "table1.json").records, "celeba_with", "reconstruction", "psnr")
    for record in seeds.values():
        for fact in (f"{record.value:.6g}", str(record.provenance["seed"]), record.provenance["checkpoint_sha256"]):
            assert fact in dialog
    for fact in ("python train.py model=ae", "celeba_64 test", "trained on", "training time", "quantisation"):
        assert fact in dialog


def test_the_front_page_says_what_the_audit_found(site: Path) -> None:
    audit = json.loads((PUBLISHED / "cpu" / "audit.json").read_text())
    page = parsed(site / "index.html")
    counts = audit["counts"]["claims"]["ours"]
    for verdict in ("holds", "fails", "not tested"):
        assert f"{counts[verdict]} {verdict.removesuffix('s')}" in page.text
    for effect in audit["effects"]:
        assert f"{effect['model']}, {effect['data']}" in page.text
        for line in effect["ours"]["numbers"]:
            assert line in page.text
    text = parsed(site / "audit.html").text
    for claim in audit["claims"]:
        assert claim["statement"] in text
        assert claim["ours"]["summary"] in text or claim["ours"]["verdict"] == "not tested"


def test_csv_holds_the_numbers_of_the_records(site: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((site / "downloads" / "table1.csv").read_text())))
    records = read_results(PUBLISHED / "cpu" / "table1.json").records
    checked = 0
    for row in rows:
        if row["kind"] == "value" and row["ours"] and row["metric"] != "coherence_top":
            seeds = by_seed(records, row["row"], row["group"], row["metric"])
            values = [
                record.value * METRICS[row["metric"]].unit for record in seeds.values() if record.value is not None
            ]
            assert float(row["ours"]) == pytest.approx(np.mean(values), rel=1e-12)
            assert int(row["seeds"]) == len(values)
            if len(values) > 1:
                assert float(row["standard deviation"]) == pytest.approx(np.std(values, ddof=1), rel=1e-9)
            checked += 1
    assert checked > 20
    celeba = next(row for row in rows if (row["row"], row["metric"]) == ("celeba_with", "psnr"))
    assert (celeba["paper"], celeba["best in paper"], celeba["Dataset"], celeba["FFL"]) == (
        "21.703",
        "1",
        "CelebA",
        "w/",
    )


def test_latex_has_the_rows_of_the_table(site: Path) -> None:
    text = (site / "downloads" / "table1.tex").read_text()
    for rule in ("\\toprule", "\\midrule", "\\bottomrule", "\\begin{tabular}{ll", "\\end{tabular}"):
        assert text.count(rule) == (1 if "ll" in rule else 2)
    for part in text.split("\\begin{tabular}")[1:]:
        columns = len(re.match(r"\{([lr]+)\}", part)[1])
        lines = [line for line in part.splitlines() if line.endswith("\\\\")]
        assert len(lines) >= 3
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
    # Its numbers are those of the Markdown, with the marks of LaTeX.
    written = (PUBLISHED / "cpu" / "table1.md").read_text().splitlines()
    for line in [line for line in written if line.startswith(("| CelebA | w/ |", "| DTD: w/ − w/o |"))]:
        for cell in line.split("|")[3:-1]:
            cell = re.sub(r"\*\*(.*?)\*\*", r"\\textbf{\1}", cell.strip())
            cell = re.sub(r"(?<![\w.])-(?=\d)", "$-$", cell).replace("±", "$\\pm$")
            assert cell in text
    assert escape("a_b & 50% \\ {x}\n^~<>") == (
        "a\\_b \\& 50\\% \\textbackslash{} \\{x\\} \\textasciicircum{}\\textasciitilde{}\\textless{}\\textgreater{}"
    )


# What pages lead to.


def test_every_page_leads_to_files_of_the_site_alone_and_shows_names_as_text(site: Path) -> None:
    pages = sorted(site.glob("*.html"))
    assert len(pages) > 15
    seen: set[Path] = set()
    for path in pages:
        page = parsed(path)
        ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
        assert [html.get("lang") for html in page.all("html")] == ["en"]
        for tag, attributes in page.tags:
            assert not any(key.startswith("on") for key in attributes), (path, tag, attributes)
            for key in ("src", "href", "data-real", "data-with", "data-without"):
                link = attributes.get(key)
                if not link or link == "data:,":
                    continue
                assert not re.match(r"[a-z]+:|/", link), (path, link)
                file, _, anchor = link.partition("#")
                target = path.parent / unquote(file) if file else path
                assert target.is_file(), (path, link)
                assert file or anchor in ids, (path, link)
                seen.add(target)
        for image in page.all("img"):
            assert image["alt"], (path, image)
            assert int(image["width"]) > 0
            assert image["loading"] == "lazy"
    assert set(pages) <= seen
    pictures = set((site / "pictures").rglob("*.webp"))
    assert pictures
    assert pictures <= seen
    text = "".join(parsed(path).text for path in pages)
    assert EVIL in text
    assert f"A note with {EVIL}." in text


def test_libraries_come_with_their_licences(site: Path) -> None:
    for name in ("img-comparison-slider", "uplot"):
        assert "Permission is hereby granted" in (site / "static" / "vendor" / name / "LICENSE").read_text()


# Pictures and curves.


def test_pictures_are_the_images_of_the_run_and_their_spectra(site: Path, runs: dict[str, RunDirectory]) -> None:
    opened = open_run(runs["with"].path)
    fake = to_uint8(generate(opened, 2), "paper")
    folder = site / "pictures" / EVIL / "reconstruction"
    real = to_uint8(from_uint8(opened.dataset.batch(np.arange(2), None)["image"]), "paper")
    data = f"photos-{opened.dataset.fingerprint[:8]}"
    for index in range(2):
        shown = np.asarray(Image.open(folder / f"{index}.webp"))
        assert np.array_equal(shown, fake[index].permute(1, 2, 0).numpy())
        source = np.asarray(Image.open(site / "pictures" / data / f"{index}.webp"))
        assert np.array_equal(source, real[index].permute(1, 2, 0).numpy())
        power = {}
        for name, image in (("fake", shown), ("real", source)):
            spectrum = np.fft.fftshift(np.abs(np.fft.fft2(image.transpose(2, 0, 1) / 255, norm="ortho")) ** 2, (1, 2))
            power[name] = 10 * np.log10(np.maximum(spectrum.mean(0), 1e-10))
        grey = np.asarray(Image.open(folder / f"{index}-spectrum.webp").convert("L")).astype(float)
        low, high = SPECTRUM_SCALE
        wanted = np.clip((power["fake"] - low) / (high - low), 0, 1) * 255
        assert np.abs(grey - wanted).max() <= 0.51
        gap = np.asarray(Image.open(folder / f"{index}-gap.webp").convert("RGB")).astype(int)
        difference = power["fake"] - power["real"]
        # Purple lacks green most, orange lacks blue; where there is no gap the map is nearly white.
        for place in np.argwhere(difference < -DIFFERENCE_SCALE / 2):
            assert gap[tuple(place)][2] > gap[tuple(place)][1]
        for place in np.argwhere(difference > DIFFERENCE_SCALE / 2):
            assert gap[tuple(place)][0] > gap[tuple(place)][2]


def test_a_flat_image_has_all_its_power_in_the_middle() -> None:
    spectrum = spectrum_of(torch.full((3, 8, 8), 1.0))
    assert spectrum[4, 4].item() == pytest.approx(10 * math.log10(64))
    spectrum[4, 4] = -100
    assert spectrum.max().item() == pytest.approx(-100)


def test_curves_of_bands_are_means_over_seeds_and_leave_out_what_an_axis_cannot_show() -> None:
    def bands(fake: float, seed: int, paired: bool = True) -> Record:
        details = {"edges": [0.5, 2.0, 4.0], "real": [9.0, 4.0, 2.0, 0.0], "fake": [9.0, fake, 1.0, 0.0]}
        return Record(
            "bands", None, 9, {}, {"seed": seed}, details={**details, "error": [0.0, 1.0, 1.0, 0.0] * paired or None}
        )

    labels = {"without": "w/o", "with": "w/"}
    charts = band_charts({"without": [bands(2.0, 1), bands(4.0, 2)], "with": [bands(4.0, 1)]}, labels)
    assert [chart["title"].split()[0] for chart in charts] == ["power", "squared", "coherence:"]
    assert charts[0]["x"]["names"] == ["1 to 2", "2 to 4", "4 and more"]
    assert charts[0]["x"]["values"] == pytest.approx([math.sqrt(2), math.sqrt(8), math.sqrt(4 * 4 * math.sqrt(2))])
    without, with_ = charts[0]["series"]
    spread = 0.25 * math.sqrt(2)
    assert without["values"] == pytest.approx([0.75, 0.5, None])
    assert without["low"][:2] == pytest.approx([0.75 - spread, 0.5])
    assert without["high"][:2] == pytest.approx([0.75 + spread, 0.5])
    assert with_["values"][:2] == [1.0, 0.5]
    assert "low" not in with_
    assert charts[1]["series"][1]["values"][:2] == [0.25, 0.5]
    alone = band_charts({"with": [bands(4.0, 1, paired=False)]}, {"with": "w/"})
    assert [chart["title"].split()[0] for chart in alone] == ["power"]
    assert band_charts({"with": []}, labels) == []


def test_curves_of_training_come_from_the_log(runs: dict[str, RunDirectory]) -> None:
    losses, shares = training_charts(runs, {"without": "w/o", "with": "w/"})
    lines = {side: run.log_lines() for side, run in runs.items()}
    assert losses["x"]["values"] == [1, 2]
    found = {curve["label"]: curve["values"] for curve in losses["series"]}
    assert found["generator/mse, w/o"] == [line["losses"]["generator/mse"] for line in lines["without"]]
    assert found["generator/ffl, w/"] == [line["losses"]["generator/ffl"] for line in lines["with"]]
    assert all(0 <= value <= 1 for curve in shares["series"] for value in curve["values"])


def test_pictures_of_other_weights_say_so_and_other_runs_have_none(
    runs: dict[str, RunDirectory], tmp_path: Path
) -> None:
    records = {record.metric: record for record in photo_records(runs) if record.provenance["row"] == "photos_with"}
    album = Album(tmp_path, runs["with"].path.parent, 1)
    directory = album.directory_of(records["training"])
    assert directory is not None
    shown = album.of_run(directory, "reconstruction")
    assert shown is not None
    assert shown.remark(records["psnr"]) == shown.remark(records["training"]) == ""
    assert "another training" in shown.remark(Record("psnr", 1.0, 1, {}, {"checkpoint_sha256": "0" * 64}))

    training = records["training"]
    for change in ({"run": "../" + runs["with"].path.name}, {"run": "not there"}):
        moved = Record("training", 1.0, 0, {}, {**training.provenance, **change}, details=training.details)
        assert album.directory_of(moved) is None
    assert not album.problems
    config = {**training.details["config"], "seed": 7}
    moved = Record("training", 1.0, 0, {}, training.provenance, details={**training.details, "config": config})
    assert album.directory_of(moved) is None
    assert "seed: 7 -> 1112" in album.problems[runs["with"].path.name]


# One run.


def test_a_run_has_a_report_of_its_own(runs: dict[str, RunDirectory], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(runs["with"].path, run.path)
    append_records(run.records, [record for record in photo_records(runs) if record.metric != "training"])
    main(f"run={run.path}", "images=1")
    page = Page(run.path / "report" / "index.html")
    text = re.sub(r"\s+", " ", page.text)
    assert "Finished at step 2 of 2, 8 images" in text
    assert "PSNR ↑" in text
    assert len(page.all("img-comparison-slider")) == 1
    assert [
        json.loads(chart["data-chart"])["title"].split()[0] for chart in page.all("figure") if "data-chart" in chart
    ] == [
        "power",
        "squared",
        "coherence:",
        "losses",
        "share",
    ]


# Bad input.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scale=huge"], "scale=huge: no such scale; expected one of cpu, paper"),
        (["results=nowhere"], "results=nowhere: no such folder"),
        (["runs=nowhere"], "runs=nowhere: no such folder"),
        (["run=nowhere"], "run=nowhere: no such folder"),
        (["run=.", "scale=cpu"], "scale=cpu: run= makes the report of one run; leave scale out"),
        (["run=."], "not a run directory"),
        (["images=0"], "images=0: expected"),
        (["pages=3"], "unknown key pages"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        main(*words)
    assert "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())


def small_results(folder: Path) -> Path:
    """Table 2 and the audit."""
    (folder / "cpu").mkdir(parents=True)
    for name in ("table2.json", "audit.json"):
        shutil.copy(PUBLISHED / "cpu" / name, folder / "cpu" / name)
    return folder


DAMAGES: dict[str, tuple[str, Any]] = {
    "half of a table": ("table3.json", lambda text: text[: len(text) // 2]),
    "records without a value": ("table3.json", lambda text: text.replace('"value"', '"valeu"')),
    "records without a row": ("table3.json", lambda text: text.replace('"row"', '"wor"')),
    "records that are text": (
        "table3.json",
        lambda text: '{"table": "table3", "scale": "cpu", "notes": [], "records": ["a"]}',
    ),
    "details of another kind": ("table3.json", lambda text: re.sub(r'"details": \{', '"details": 3, "x": {', text)),
    "runs without a commit": ("table3.json", lambda text: text.replace('"commit"', '"timmoc"')),
    "an audit whose claims have no section": ("audit.json", lambda text: text.replace('"section"', '"noitces"')),
    "an audit cut off": ("audit.json", lambda text: text[:-9]),
    "an audit without claims": ("audit.json", lambda text: text.replace('"claims"', '"smialc"')),
    "an audit of another version": ("audit.json", lambda text: text.replace('"verdict"', '"judgement"')),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_the_rest_is_whole(damage: str, tmp_path: Path) -> None:
    results = small_results(tmp_path / "results")
    name, change = DAMAGES[damage]
    path = results / "cpu" / name
    path.write_text(change((PUBLISHED / "cpu" / name).read_text()))
    with pytest.raises(UserError, match=re.escape(str(path))) as caught:
        main(f"results={results}", f"runs={tmp_path}", f"out={tmp_path / 'site'}")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "site" / "table2.html").is_file()
    front = Page(tmp_path / "site" / "index.html")
    assert str(path) in front.text
    assert not (tmp_path / "site" / name.replace(".json", ".html")).exists()


def test_missing_rows_and_audits_of_other_numbers_are_said(tmp_path: Path) -> None:
    results = small_results(tmp_path / "results")
    table = read_results(results / "cpu" / "table2.json")
    kept = [record for record in table.records if record.provenance["row"] != "celeba_with"]
    (results / "cpu" / "table2.json").write_text(TableResults(table.table, table.scale, table.notes, kept).to_json())
    main(f"results={results}", f"runs={tmp_path}", f"out={tmp_path / 'site'}")
    page = Page(tmp_path / "site" / "table2.html")
    row = next(row for row in page.rows if row[:2] == ["CelebA", "w/"])
    assert "not run" in row
    assert "22.954" in row
    assert "of other numbers of table2" in Page(tmp_path / "site" / "index.html").text


def test_no_results_and_no_place_to_write(runs: dict[str, RunDirectory], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no table of scale=cpu in .*; run scripts/reproduce.py first"):
        main(f"results={tmp_path / 'empty'}", f"out={tmp_path / 'site'}")
    results = small_results(tmp_path / "results")
    (tmp_path / "file").write_text("")
    own = tmp_path / "own"
    (own / "photos").mkdir(parents=True)
    (own / "photos" / "table.json").write_text(TableResults("photos", "paper", [], photo_records(runs)).to_json())
    with pytest.raises(UserError, match=r"cannot be written .*set out=DIR"):
        main(f"results={results}", f"runs={tmp_path}", f"out={tmp_path / 'file' / 'site'}")
    # Pictures are written first.
    with pytest.raises(UserError, match=r"cannot be written .*set out=DIR"):
        main(f"run={runs['with'].path}", f"out={tmp_path / 'file' / 'site'}")
    with pytest.raises(UserError, match=r"cannot be written .*set out=DIR"):
        main(f"results={own}", f"runs={runs['with'].path.parent}", f"out={tmp_path / 'file' / 'site'}")


def test_a_run_without_its_images_keeps_its_numbers(
    runs: dict[str, RunDirectory], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs["with"].path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "run.json").write_text("{")
    main(f"run={tmp_path / 'run'}", f"out={tmp_path / 'site'}")
    said = capsys.readouterr().out
    assert "run has no pictures: " in said
    assert "run.json: not readable" in said
    page = Page(tmp_path / "site" / "index.html")
    assert "has no pictures" in page.text
    assert len([chart for chart in page.all("figure") if "data-chart" in chart]) == 2


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium of the system."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed; on Debian: apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, site: Path) -> Iterator[Any]:
    """Opens a page of the site; at the end nothing may have failed, nor been asked of another place."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []

    def open_page(name: str, width: int = 1280) -> Any:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else complaints.append(request.url),
        )
        page.goto((site / name).as_uri())
        return page

    yield open_page
    context.close()
    assert complaints == []


def test_a_head_sorts_its_table(visit: Any) -> None:
    page = visit("table1.html")
    table = page.locator("table.sortable").first
    button = table.get_by_role("button", name="Sort by our PSNR")

    def shown() -> list[float]:
        cells = table.locator("tbody tr td:nth-of-type(1)")
        return [float(text.split()[0]) for text in cells.all_inner_texts()]

    before = shown()
    button.click()
    assert shown() == sorted(before, reverse=True) != before
    button.press("Enter")
    assert shown() == sorted(before)
    assert table.locator("thead th[aria-sort]").count() == 1
    table.get_by_role("button", name="Sort by the paper's LPIPS").click()
    column = table.locator("tbody tr").evaluate_all("rows => rows.map(row => row.innerText.split('\\t')[6])")
    assert column == ["0.414", "0.404", "0.237", "0.199"]
    table.get_by_role("button", name="Dataset").click()
    assert table.locator("tbody th.sticky").all_inner_texts() == ["CelebA", "CelebA", "DTD", "DTD"]


def test_a_number_opens_its_record_and_a_key_closes_it(visit: Any) -> None:
    page = visit("photos.html")
    page.locator("a.record").first.press("Enter")
    dialog = page.locator("dialog[open]")
    assert dialog.locator("h2").inner_text() == "PSNR, photos w/o"
    assert dialog.locator("img").count() == 2
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_the_slider_moves_its_clip_by_key_and_mouse_and_shows_other_pairs(visit: Any) -> None:
    page = visit("photos-reconstruction-photos_without-photos_with.html")
    slider = page.locator("img-comparison-slider").first
    slider.scroll_into_view_if_needed()
    style = "getComputedStyle(slider.shadowRoot.querySelector('.first'))"
    exposure = f"slider => parseFloat({style}.getPropertyValue('--exposure'))"
    assert slider.evaluate(exposure) == 50
    slider.focus()
    page.keyboard.down("ArrowRight")
    page.wait_for_timeout(300)
    page.keyboard.up("ArrowRight")
    moved = slider.evaluate(exposure)
    assert moved != 50
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(100 - moved, abs=1)
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert slider.evaluate(exposure) == pytest.approx(75, abs=2)

    images = slider.locator("img")
    assert [image.get_attribute("alt") for image in images.all()] == ["Test image 1, w/o FFL", "Test image 1, w/ FFL"]
    page.get_by_label("w/ FFL and real").check()
    assert [image.get_attribute("alt") for image in images.all()] == ["Test image 1, w/ FFL", "Test image 1, real"]
    assert slider.evaluate(
        "slider => [...slider.querySelectorAll('img')].every(image => image.src.includes('pictures'))"
    )
    page.wait_for_load_state("networkidle")
    widths = "async image => (image.loading = 'eager', await image.decode(), image.naturalWidth)"
    loaded = page.evaluate(f"() => Promise.all([...document.images].map({widths}))")
    assert set(loaded) == {16}


def test_curves_are_drawn_and_a_legend_hides_them(visit: Any) -> None:
    page = visit("photos-reconstruction-photos_without-photos_with.html")
    assert page.locator(".chart canvas").count() == page.locator(".chart").count() == 5
    chart = page.locator(".chart").first
    drawn = chart.locator("canvas").evaluate(
        "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    )
    assert drawn > 10
    entry = chart.locator(".u-legend .u-series").nth(1)
    entry.locator("th").click()
    assert "u-off" in entry.get_attribute("class")


def test_the_audit_filters(visit: Any) -> None:
    page = visit("audit.html")
    every = page.locator("article.claim").count()
    audit = json.loads((PUBLISHED / "cpu" / "audit.json").read_text())
    assert every == len(audit["claims"])
    fails = [claim for claim in audit["claims"] if claim["ours"]["verdict"] == "fails"]
    page.locator("select[name=verdict]").select_option("fails")
    assert page.locator("article.claim:visible").count() == len(fails)
    page.locator("select[name=model]").select_option("SPADE")
    page.locator("select[name=verdict]").select_option("")
    claims = read_audit(PUBLISHED / "cpu" / "audit.json")["claims"]
    of_spade = [claim["id"] for claim in claims if "SPADE" in claim["models"]]
    shown = page.locator("article.claim:visible").evaluate_all("articles => articles.map(article => article.id)")
    assert shown == of_spade
    assert 0 < len(shown) < every
    rows = page.locator("#effects tbody tr:visible th").all_inner_texts()
    assert set(rows) == {"SPADE"}


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        "table1.html",
        "photos-reconstruction-photos_without-photos_with.html",
        "audit.html",
        "figures.html",
    ],
)
def test_no_page_is_wider_than_its_screen(visit: Any, name: str, width: int, tmp_path: Path) -> None:
    page = visit(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=tmp_path / "page.png")
    assert len(np.unique(np.asarray(Image.open(tmp_path / "page.png").convert("L")))) > 20
    page.emulate_media(color_scheme="dark")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", ground))) < 150
