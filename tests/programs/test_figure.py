"""The figures: the numbers behind the pictures, what is said where runs are missing, and the files."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import scripts.figures.runs as figure_runs
from ffl.errors import UserError
from ffl.files import file_sha256, write_text
from ffl.images import to_uint8
from ffl.metrics import build_metric
from ffl.spectrum import mean_power, minibatch_averages, plane_waves
from ffl.training.command import read_words
from ffl.training.program import compose
from ffl.training.record import Record, append_records
from ffl.training.run_directory import RunDirectory
from models.stylegan2 import StyleGAN2
from models.stylegan2.sampling import image_grid, sample
from scripts.audits.evidence import OurSource
from scripts.audits.gains import GAINS, when_it_helps
from scripts.figure import FIGURES, draw
from scripts.figures import comparison, gain_ranks, loss_curve, one_image, style, stylegan2
from scripts.figures.one_image import square_image
from scripts.figures.runs import Drawing, TableRun, command, find_runs, generate, score
from scripts.runs import open_run
from scripts.tables import TableResults, by_seed, read_records_of, read_table
from train import train

TINY = ["dataset=photos", "dataset.image_size=16", "dataset.train_images=32", "dataset.val_images=4"]
TINY += ["dataset.test_images=12", "trainer.batch_size=4", "trainer.steps=2", "trainer.log_every=1"]
STYLEGAN2 = ["model=stylegan2", "model.latent_dim=8", "model.channel_base=64", "model.channel_max=8"]
STYLEGAN2 += ["model.num_mapping_layers=2", "model.mbstd_group=2"]


def main(words: list[str]) -> None:
    """``python scripts/figure.py`` with these words."""
    positional, named = read_words(draw, words)
    draw(*positional, **named)


def drawn(number: int, *runs: RunDirectory, **keys: object) -> Drawing:
    """A figure of these runs, or of those that are found for scale=cpu."""
    figure = FIGURES[number]
    return figure.draw(find_runs(figure.rows, "cpu", given=[str(run.path) for run in runs] or None), **keys)


def make_run(folder: Path, *overrides: str) -> RunDirectory:
    items = [*TINY, *overrides, f"output_root={folder}"]
    return train(compose("train", items), items)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """A trained run per name: autoencoders and StyleGAN2s, without and with the focal frequency loss."""
    folder = tmp_path_factory.mktemp("outputs")
    return {
        "ae": make_run(folder, "model=ae"),
        "ae ffl": make_run(folder, "model=ae", "loss.ffl=true"),
        "stylegan2": make_run(folder, *STYLEGAN2),
        "stylegan2 ffl": make_run(folder, *STYLEGAN2, "loss.ffl=true"),
    }


@pytest.fixture
def stand_ins(runs: dict[str, RunDirectory], monkeypatch: pytest.MonkeyPatch) -> None:
    """The small autoencoders in the place of those of Table 1 on CelebA; nothing else is there."""
    there = {"celeba_without": runs["ae"], "celeba_with": runs["ae ffl"]}

    def find_run_of(table: str, row: str, group: str, scale: str, overrides: list[str]) -> RunDirectory | None:
        return there.get(row) if (table, group) == ("table1", "reconstruction") else None

    monkeypatch.setattr(figure_runs, "find_run_of", find_run_of)


def pictures(figure: Figure) -> list[np.ndarray]:
    """The arrays of all images of a figure, in the order of drawing."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


# Numbers behind the pictures


def test_minibatch_average_spectrum_is_the_spectrum_of_the_mean_of_complex_values() -> None:
    images = torch.randn(7, 3, 8, 6, dtype=torch.float64)
    spectra = np.fft.fft2(images.numpy(), norm="ortho")
    averages = np.stack([spectra[0:3].mean(0), spectra[3:6].mean(0)])  # the seventh makes no minibatch
    want = np.fft.fftshift((np.abs(averages) ** 2).mean((0, 1)))
    np.testing.assert_allclose(mean_power(minibatch_averages(images, 3)).numpy(), want, rtol=1e-12)
    with pytest.raises(ValueError, match="size must be from 1 to the 7 images, got 8"):
        minibatch_averages(images, 8)


@pytest.mark.parametrize(("u", "v"), [(2, 3), (-2, 1), (0, 4), (4, 4), (0, 0)])
def test_plane_wave_equals_its_closed_form(u: int, v: int) -> None:
    image = torch.randn(8, 8, dtype=torch.float64)
    coefficient = np.fft.fft2(image.numpy())[u, v]
    y, x = np.mgrid[:8, :8] / 8
    factor = 1 if (2 * u % 8, 2 * v % 8) == (0, 0) else 2  # its own mirror image, or one of two
    want = factor / 64 * np.abs(coefficient) * np.cos(2 * np.pi * (u * y + v * x) + np.angle(coefficient))
    np.testing.assert_allclose(plane_waves(image, [(u, v)])[0].numpy(), want, atol=1e-14)


@pytest.mark.parametrize("size", [6, 7])
def test_all_waves_sum_to_the_image(size: int) -> None:
    image = torch.randn(size, size, dtype=torch.float64)
    frequencies = [(int(u), int(v)) for u, v in one_image.half_plane(size)]
    assert len(frequencies) == (size * size + (4 if size % 2 == 0 else 1)) // 2
    torch.testing.assert_close(plane_waves(image, frequencies).sum(0), image)
    torch.testing.assert_close(one_image.sum_of_strongest(image, len(frequencies)), image)


def test_the_strongest_waves_leave_the_least() -> None:
    image = torch.randn(6, 6, dtype=torch.float64)
    frequencies = [(int(u), int(v)) for u, v in one_image.half_plane(6)]
    energies = [wave.square().sum() for wave in plane_waves(image, frequencies)]
    for count in (1, 5, 12):
        left = (image - one_image.sum_of_strongest(image, count)).square().sum()
        want = sum(sorted(energies, reverse=True)[count:])
        torch.testing.assert_close(left, want, rtol=1e-10, atol=1e-12)


def test_band_limited_images_lack_their_frequencies_and_no_others() -> None:
    image = square_image(None, 64)
    before = torch.fft.fft2(image.double())
    radius = torch.hypot(*torch.meshgrid(*[torch.fft.fftfreq(64, 1 / 64)] * 2, indexing="ij"))
    for label, (ring, _) in one_image.BANDS.items():
        after = torch.fft.fft2(one_image.without_band(image.double(), label))
        low, high = ring or (0, 0)
        gone = (radius >= low) & (radius < high)
        assert (gone.sum() == 0) == (label == "original")
        assert after[..., gone].abs().sum() < 1e-9
        torch.testing.assert_close(after[..., ~gone], before[..., ~gone], rtol=1e-9, atol=1e-9)
    assert one_image.without_band(image, "without the centre").mean().abs() < 1e-6  # no brightness is left


@pytest.mark.parametrize("label", list(one_image.DISTANCES))
def test_a_reconstruction_gets_what_its_distance_asks_for_and_nothing_else(label: str) -> None:
    real = square_image(None, 32) * 2 - 1
    before = one_image.reconstruction_errors(one_image.start_image(real), real)
    fitted = one_image.reconstruct(real, one_image.DISTANCES[label], steps=400)
    after = one_image.reconstruction_errors(fitted, real)
    assert (after["amplitude"] < 0.01 * before["amplitude"]) == (label != "phase only")
    assert (after["phase"] < 0.1 * before["phase"]) == (label != "amplitude only")
    assert after["psnr"] > 40 if label == "both" else after["psnr"] < before["psnr"] + 3
    if label == "amplitude only":
        assert after["phase"] == pytest.approx(90, abs=5)


def test_errors_of_a_reconstruction() -> None:
    real = square_image(None, 32) * 2 - 1
    psnr = 10 * math.log10(16 / float(real.square().mean()))
    want = {"amplitude": pytest.approx(0.5), "phase": pytest.approx(0, abs=0.01), "psnr": pytest.approx(psnr, abs=1e-4)}
    assert one_image.reconstruction_errors(real / 2, real) == want
    assert one_image.reconstruction_errors(-real, real)["phase"] == pytest.approx(180, abs=0.01)


def test_the_gap_of_single_images_is_the_metric() -> None:
    real, fake = stylegan2.quantised(torch.rand(8, 3, 16, 16) * 2 - 1), stylegan2.quantised(torch.rand(8, 3, 16, 16))
    metric = build_metric("spectrum_distance")
    for images, is_real in ((real, True), (fake, False)):
        metric.update(to_uint8(images, "rounded"), real=is_real)
    gap = stylegan2.gap(*(stylegan2.Spectra.of(images, 4) for images in (real, fake)))
    assert gap["images"] == pytest.approx(10 * math.log10(math.e) * float(metric.compute()), rel=1e-5)
    assert stylegan2.gap(*[stylegan2.Spectra.of(real, 4)] * 2) == {"images": 0.0, "averages": 0.0}


def test_identical_images_have_the_same_average_as_single_spectrum() -> None:
    images = (torch.rand(1, 3, 16, 16) * 2 - 1).expand(8, -1, -1, -1)
    spectra = stylegan2.Spectra.of(images, 4)
    torch.testing.assert_close(spectra.average_profile, spectra.single_profile)


def test_a_loss_curve_keeps_its_mean(tmp_path: Path) -> None:
    lines = [{"step": step, "losses": {"generator/mse": 2.0 / step}} for step in (*range(10, 4000, 10), 3995)]
    write_text(tmp_path / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_text(tmp_path / "config.yaml", "model: {mse_weight: 2.0}\n")
    curve = loss_curve.loss_curve(RunDirectory(tmp_path))
    assert len(curve) <= loss_curve.MOST_POINTS
    assert [point.first for point in curve[1:]] == [point.last for point in curve[:-1]]
    mean = sum(point.mean * (point.last - point.first) for point in curve)
    assert mean == pytest.approx(sum(10 / step for step in range(10, 4000, 10)) + 5 / 3995)


# Figures from records


def bands_record(row: str, seed: int, fake: list[float], error: list[float]) -> Record:
    details = {"edges": [0.5, 2.0, 4.0], "real": [9.0, 4.0, 1.0, 1.0], "fake": fake, "error": error}
    provenance = {"row": row, "group": "reconstruction", "dataset": "faces", "seed": seed}
    provenance |= {"run": "a run", "step": 9, "checkpoint_sha256": "of weights"}
    return Record("bands", None, 7, {"size": [8, 12]}, provenance, details=details)


def test_bands_are_means_over_seeds_of_one_run_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the user's own table, where it is there, and from records that do not hold coherence."""
    monkeypatch.chdir(tmp_path)
    records = [
        bands_record("celeba_without", 1, [9.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 4.0]),  # coherence 1, 0, -1
        bands_record("celeba_without", 2, [9.0, 4.0, 4.0, 1.0], [0.0, 0.0, 1.0, 2.0]),  # 1, 1, 0
        bands_record("celeba_with", 1, [9.0, 4.0, 1.0, 1.0], [0.0, 0.0, 1.0, 2.0]),  # 1, 0.5, 0
    ]
    write_text(tmp_path / "outputs/results/cpu/table1.json", TableResults("table1", "cpu", [], records).to_json())
    main(["bands", "model=ae"])
    content = json.loads((tmp_path / "outputs/results/cpu/bands.json").read_text())
    (values,) = content["values"].values()
    assert list(content["values"]) == ["autoencoder, faces 12×8"]
    assert values["bands"] == ["1 to 2", "2 to 4", "4 and more"]
    assert values["w/o FFL"] == {
        "seeds": [1, 2],
        "power": {"mean": [0.625, 2.5, 1.0], "spread": pytest.approx([0.75 / 2**0.5, 3 / 2**0.5, 0])},
        "error": {"mean": [0.125, 1.5, 3.0], "spread": pytest.approx([0.25 / 2**0.5, 1 / 2**0.5, 2 / 2**0.5])},
        "coherence": {"mean": [1.0, 0.5, -0.5], "spread": pytest.approx([0, 1 / 2**0.5, 1 / 2**0.5])},
    }
    assert values["w/ FFL"]["coherence"] == {"mean": [1.0, 0.5, 0.0], "spread": None}
    assert content["runs"]["table1 celeba_without seed 2"]["checkpoint_sha256"] == "of weights"
    assert [line.split(" has no record")[0] for line in content["missing"]] == ["table1 dtd_without", "table1 dtd_with"]

    # The lines are those numbers, the dotted ones the square of coherence.
    power, error, coherence = FIGURES["bands"].draw(model="ae").figure.axes[1:]
    shown = [[*line.get_ydata()] for line in power.lines[1:]]
    assert shown == [[0.625, 2.5, 1.0], [1.0, 0.25, 0.25], [1.0, 1.0, 1.0], [1.0, 0.25, 0.0]]
    assert [*error.lines[1].get_ydata()] == [0.125, 1.5, 3.0]
    assert [*coherence.lines[2].get_ydata()] == [1.0, 0.5, 0.0]
    assert coherence.get_ylim()[0] < -0.5


def test_bands_come_from_the_published_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # without tables of the user's own
    values = FIGURES["bands"].draw(model="vae").values["VAE, celeba_64 64×64"]
    record = by_seed(read_records_of(None, "cpu", "2"), "celeba_with", "reconstruction", "bands")[1112]
    real, fake, error = (np.array(record.details[kind][1:]) for kind in ("real", "fake", "error"))
    np.testing.assert_allclose(values["w/ FFL"]["error"]["mean"], error / real)
    np.testing.assert_allclose(values["w/ FFL"]["coherence"]["mean"], (real + fake - error) / 2 / np.sqrt(real * fake))
    with pytest.raises(UserError, match=r"none of its runs has a record of its bands; run: python .* scale=paper"):
        FIGURES["bands"].draw(scale="paper")


def test_the_readme_prints_the_published_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = FIGURES["bands"].draw(model="ae").values["autoencoder, celeba_64 64×64"]
    first = values["bands"].index("2 to 4")
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    assert f"| cycles per image | {' | '.join(values['bands'][first:])} |" in readme
    for quantity in ("power", "error", "coherence"):
        means = [values[label][quantity]["mean"][first:] for label in ("w/o FFL", "w/ FFL")]
        cells = [f"{without:.2f} → {with_ffl:.2f}" for without, with_ffl in zip(*means, strict=True)]
        assert f"| {quantity} | {' | '.join(cells)} |" in readme


def test_gains_are_those_of_the_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = when_it_helps(OurSource(None, "cpu"))
    drawing = FIGURES["gains"].draw()
    assert drawing.values == found
    bars = drawing.figure.axes[: len(GAINS)]
    for axes, gain in zip(bars, GAINS, strict=True):
        known = [pair["gains"][gain] for pair in found["pairs"] if pair["gains"][gain] is not None]
        assert [bar.get_width() for bar in axes.patches] == pytest.approx(known)
    assert [label.get_text() for label in bars[0].get_yticklabels()] == [pair["name"] for pair in found["pairs"]]
    # Below, a point for each pair that has both; few pairs have none.
    shown = {test["gain"] for test in found["tests"]}
    assert len(drawing.figure.axes) == len(GAINS) + len(shown)
    monkeypatch.setattr(gain_ranks, "OurSource", lambda results, scale: OurSource(tmp_path, scale))
    with pytest.raises(UserError, match=r"no pair of runs has been measured; run: python .*table=1 rows=dtd_without"):
        FIGURES["gains"].draw()


def test_losses_stand_beside_their_baseline_in_every_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no loss has been measured .*; 12 rows of ae .*table=losses rows=baseline,"):
        FIGURES["loss_bands"].draw(scale="paper")
    # Two seeds of the baseline and one of FFL; bands are the mean brightness, 1 to 2, and 2 and more.
    about = {"group": "ae", "run": "run", "step": 1, "checkpoint_sha256": "", "model": "ae", "dataset": "celeba"}
    powers = {"edges": [0.5, 2.0], "real": [9.0, 4.0, 1.0], "fake": [9.0, 4.0, 1.0]}
    rows = [("baseline", 1112, 2.0), ("baseline", 1113, 4.0), ("ffl", 1112, 1.5)]
    records = [
        Record(
            "bands", None, 8, {}, {**about, "row": row, "seed": seed}, details={**powers, "error": [0.0, error, 1.0]}
        )
        for row, seed, error in rows
    ]
    path = Path("outputs/results/cpu/losses.json")
    path.parent.mkdir(parents=True)
    path.write_text(TableResults("losses", "cpu", [], records).to_json())
    drawing = FIGURES["loss_bands"].draw()
    values = drawing.values["Vanilla AE (CelebA)"]
    assert values["bands"] == ["1–2", "2+"]
    assert values["seeds"] == {"baseline": [1112, 1113], "FFL": [1112]}
    assert values["power"] == {"baseline": [1.0, 1.0], "FFL": [1.0, 1.0]}
    assert values["error"] == {"baseline": [1.0, 1.0], "FFL": [0.5, 1.0]}
    # Coherence is 1 - error / (2 power) where both powers are equal: 0.75 and 0.5 before, 0.8125 after.
    assert values["coherence"]["FFL"] == pytest.approx([0.8125 - 0.625, 0.0])
    error = drawing.figure.axes[1]
    assert [label.get_text() for label in error.get_yticklabels()] == ["baseline", "FFL"]
    assert [text.get_text() for text in error.texts] == ["1.00", "1.00", "0.50", "1.00"]
    assert len(drawing.missing) == 3  # ten rows of ae, and all of the other models


def test_patterns_of_figure_1_are_peaks_and_radii() -> None:
    power = torch.ones(64, 32, dtype=torch.float64)
    assert comparison.periodic_peaks(power) == 0
    power[::8, ::4] *= 10  # periods of 8 pixels and of parts of them
    power[32, 16] = 1e6  # the mean brightness is no pattern
    assert comparison.periodic_peaks(power) == pytest.approx(10)
    between = torch.ones(64, 32, dtype=torch.float64)
    between[4::8, 2::4] *= 10
    assert comparison.periodic_peaks(between) == pytest.approx(0)
    wave = torch.zeros(64, 32, dtype=torch.float64)
    wave[32, 16], wave[32, 20], wave[40, 16] = 1e6, 1.0, 3.0  # 4 of 16 and 8 of 32 cycles at the Nyquist frequency
    assert comparison.mean_radius(wave) == pytest.approx(0.25)
    wave[32, 24] = 4.0
    assert comparison.mean_radius(wave) == pytest.approx(0.375)


# Figures from runs


def test_stylegan2_figures_show_what_they_say(runs: dict[str, RunDirectory], tmp_path: Path) -> None:
    paths = f"runs={runs['stylegan2'].path},{runs['stylegan2 ffl'].path}"
    main(["9", paths, f"out={tmp_path / 'figure9.png'}"])
    content = json.loads((tmp_path / "figure9.json").read_text())
    assert content["values"]["images"] == 12
    assert content["values"]["minibatch"] == 4
    assert content["runs"]["w/ FFL"]["run"] == runs["stylegan2 ffl"].path.name
    assert content["runs"]["w/ FFL"]["step"] == 2
    both = runs["stylegan2"], runs["stylegan2 ffl"]
    for number, psi in ((17, 1.0), (19, 0.5)):
        drawing = drawn(number, *both)
        model = open_run(both[1].path).model
        assert isinstance(model, StyleGAN2)
        first, last = drawing.values["seeds"]
        columns = 6 if number == 17 else 12
        grid = image_grid(sample(model.generator_ema, range(first, last + 1), psi), columns)
        assert np.array_equal(pictures(drawing.figure)[-1], to_uint8(grid, "rounded").permute(1, 2, 0).numpy())
    with pytest.raises(UserError, match="a run of ae; this figure takes stylegan2"):
        drawn(18, runs["ae"])
    with pytest.raises(UserError, match="images=7: average spectra need at least two minibatches of 4 images"):
        drawn(9, *both, images=7)


@pytest.mark.usefixtures("stand_ins")
def test_a_figure_is_made_from_what_is_there_and_names_the_rest(
    tmp_path: Path, runs: dict[str, RunDirectory], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["5", f"out={tmp_path / 'figure5.png'}"])
    assert (tmp_path / "figure5.pdf").read_bytes().startswith(b"%PDF")
    content = json.loads((tmp_path / "figure5.json").read_text())
    assert list(content["runs"]) == ["table1 celeba_without", "table1 celeba_with"]
    assert len(content["missing"]) == 2
    printed = capsys.readouterr().out
    for row in ("dtd_without", "dtd_with"):
        assert f"run: python scripts/reproduce.py table=1 rows={row} scale=cpu" in printed
    drawing = drawn(5)
    shown = generate(open_run(runs["ae ffl"].path), 4)
    assert np.array_equal(pictures(drawing.figure)[-8], to_uint8(shown[0], "rounded").permute(1, 2, 0).numpy())


@pytest.mark.usefixtures("stand_ins")
def test_spatial_loss_is_that_of_the_log(runs: dict[str, RunDirectory]) -> None:
    drawing = drawn(14)
    (line, *_) = drawing.figure.axes[0].lines
    logged = [json.loads(text)["losses"]["generator/mse"] for text in runs["ae"].log.read_text().splitlines()]
    np.testing.assert_allclose(line.get_ydata(), logged)
    assert drawing.figure.axes[0].get_legend().get_texts()[0].get_text() == f"w/o FFL: {np.mean(logged[-1:]):.5f}"


@pytest.mark.usefixtures("stand_ins")
def test_without_any_run_the_error_names_the_command(tmp_path: Path) -> None:
    for number, table, rows in ((6, 2, "celeba_without,celeba_with"), (9, 6, "celeba_hq_without,celeba_hq_with")):
        with pytest.raises(UserError) as error:
            main([str(number), "scale=paper", "data_root=/data", f"out={tmp_path / 'figure.png'}"])
        assert f"python scripts/reproduce.py table={table} rows={rows} scale=paper data_root=/data" in str(error.value)
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_commands_of_every_figure_stand_for_runs(tmp_path: Path) -> None:
    rows = {row for figure in FIGURES.values() for row in figure.rows}
    assert len(rows) > 25
    for row in rows:
        assert row.group in read_table(row.table).rows[row.row].runs
    with pytest.raises(UserError, match="none of its runs is there; run: python"):
        find_runs(stylegan2.ARMS, "cpu", output_root=tmp_path)
    runs = [TableRun("table2", "a", "", "g"), TableRun("table3", "b", "", "g"), TableRun("table2", "c", "", "g")]
    words = f"scale=cpu output_root={tmp_path}"
    assert command(runs, "cpu", [f"output_root={tmp_path}"]) == (
        f"python scripts/reproduce.py table=2 rows=a,c {words} && python scripts/reproduce.py table=3 rows=b {words}"
    )


@pytest.mark.parametrize("steps", [1, None])
def test_a_run_that_is_not_finished_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int | None
) -> None:
    """By its status, or where an older version has left none."""
    run = RunDirectory(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    run.last.touch()
    if steps is not None:
        status = {"step": steps, "total": 2, "finished": False, "images": 4, "seconds": 1.0, "shards": 1}
        write_text(run.status_file, json.dumps(status))
    monkeypatch.setattr(figure_runs, "find_run_of", lambda *arguments: run)
    (line,) = find_runs(comparison.BASELINES[:1], "cpu").missing
    assert line.startswith(
        "table1 dtd_without is cut at step 1 of 2; run: python scripts/reproduce.py table=1 rows=dtd_without"
        if steps
        else "table1 dtd_without does not say whether it is finished; run: python scripts/reproduce.py"
    )


def test_every_run_of_a_figure_has_a_name_of_its_own() -> None:
    """SPADE's rows have a run on each of two data sets."""
    for blocks in comparison.BLOCKS.values():
        runs = {row for block in blocks for row in block.runs}
        assert len({str(row) for row in runs}) == len(runs)
    assert str(comparison.BLOCKS[10][0].runs[0]) == "table5 spade_without cityscapes"


def test_a_score_is_the_newest_of_these_weights_on_all_test_images(runs: dict[str, RunDirectory]) -> None:
    run = open_run(runs["ae"].path)
    protocol = {
        "task": "reconstruction",
        "reference": "photos test",
        "reference_fingerprint": run.dataset.fingerprint,
        "quantisation": "paper",
        "evaluation_seed": 0,
    }
    provenance = {"checkpoint_sha256": file_sha256(run.checkpoint)}
    good = [Record("fid", value, 12, protocol, provenance) for value in (50.0, 70.126)]
    others = [
        Record("fid", 1.0, 11, protocol, provenance),
        Record("fid", 2.0, 12, protocol, {"checkpoint_sha256": "of other weights"}),
        Record("fid", None, 12, protocol, provenance, missing="no weights"),
        Record("is", 3.0, 12, protocol, provenance),
        *(Record("fid", 4.0, 12, {**protocol, key: "other"}, provenance) for key in protocol),
    ]
    assert score(run, "fid") is None
    append_records(run.directory.records, [*good, *others])
    assert score(run, "fid") == "FID 70.13"


def test_runs_of_other_images_are_not_compared(runs: dict[str, RunDirectory], tmp_path: Path) -> None:
    other = make_run(tmp_path, "model=ae", "dataset.test_images=8")
    with pytest.raises(UserError, match="are of different images; compare runs on the same data"):
        main(["comparison", f"runs={runs['ae'].path},{other.path}", f"out={tmp_path / 'out.png'}"])
    with pytest.raises(UserError, match=re.escape("out=figure.jpg: expected a folder or a name that ends in .png")):
        main(["comparison", f"runs={runs['ae'].path},{runs['ae ffl'].path}", "out=figure.jpg"])
    main(["comparison", f"runs={runs['ae'].path},{runs['ae ffl'].path}", f"out={tmp_path / 'out.png'}"])
    assert Image.open(tmp_path / "out.png").width == round(style.PAGE_WIDTH * style.DPIS[0])


# Files and mistakes


def test_files_stay_small_and_are_made_alike_twice(tmp_path: Path) -> None:
    def noise() -> Figure:
        sheet = style.Sheet()
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(3, 360, 720, generator=generator) * 2 - 1
        sheet.picture(0, 0, style.PAGE_WIDTH, image)
        return sheet.finish()

    assert len(next(style.renderings(noise(), ".png"))) > style.MAX_BYTES  # the highest resolution is too much
    for name in ("a", "b"):
        style.save(noise(), tmp_path / f"{name}.png")
    for suffix in ("png", "pdf"):
        content = (tmp_path / f"a.{suffix}").read_bytes()
        assert len(content) < style.MAX_BYTES
        assert content == (tmp_path / f"b.{suffix}").read_bytes()


def test_figures_of_an_image_take_another_one(tmp_path: Path) -> None:
    Image.new("RGB", (300, 260), (255, 0, 0)).save(tmp_path / "red.png")
    image = square_image(tmp_path / "red.png", 256)
    assert torch.equal(image, torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(1, 3, 256, 256))
    main(["2", f"image={tmp_path / 'red.png'}", f"out={tmp_path}"])
    values = json.loads((tmp_path / "cpu/figure2.json").read_text())["values"]
    assert values["without the centre"]["energy_left"] == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("stand_ins")
def test_all_makes_what_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(one_image, "FIT_STEPS", 2)
    monkeypatch.chdir(tmp_path)
    main(["all"])
    made = {path.stem.removeprefix("figure") for path in tmp_path.glob("outputs/results/cpu/*.png")}
    assert made == {"1", "2", "3", "5", "12", "14", "bands", "gains", "loss_bands"}
    printed = capsys.readouterr().out
    assert all(f"figure {name}: not made: " in printed for name in set(map(str, FIGURES)) - made)
