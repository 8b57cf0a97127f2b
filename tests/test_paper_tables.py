"""Tables of the paper: each row names the run that it says, and the printed numbers are those in results/paper.yaml.

Both are stated here once more, typed from the paper and not from the files that they check.
"""

import re
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from ffl.training.config import flatten
from ffl.training.program import compose
from scripts.tables import read_table, row_run, table_names

ROOT = Path(__file__).resolve().parents[1]
TEXT = ROOT.parent / "shared" / "paper" / "focal_frequency_loss_iccv2021.md"
FFL = {"loss.ffl": True}
NO_SPATIAL_LOSS = {"model.mse_weight": 0.0}
PUBLISHED = {"loss.spectral_regularization": 15, "loss.spectral_form": "published"}


def ablations(model: str, dataset: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Rows of Table 8 and Figure 16."""
    parts = ("no_freq", "no_phase", "no_ampli", "no_focal")
    rows = {part: (model, dataset, {**FFL, "loss.ablation": part}) for part in parts}
    return {"baseline": (model, dataset, {}), "full": (model, dataset, FFL), **rows}


def pair(name: str, model: str, dataset: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """A row without and one with the focal frequency loss."""
    return {f"{name}_without": (model, dataset, {}), f"{name}_with": (model, dataset, FFL)}


def relevant_losses(model: str, dataset: str, spectral: float) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Rows of Table 7."""
    changes = {
        "baseline": {},
        "perceptual": {"loss.perceptual": 1.0},
        "spectral_regularization": {"loss.spectral_regularization": spectral},
        "spectral_regularization_published": PUBLISHED,
        "ffl_dct": {**FFL, "loss.transform": "dct"},
        "ffl": FFL,
    }
    return {row: (model, dataset, change) for row, change in changes.items()}


def frequency_losses(model: str, dataset: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Rows of the table of losses: each of them but FFL with a weight of its own holds half of the gradient."""
    half = {"loss.share": 0.5}
    own = {**FFL, "loss.weight": 10} if model == "vae" else FFL
    terms = {name: {**half, "loss.terms": [name]} for name in ("wavelet", "jpeg_frequency", "fourier_space", "haar")}
    changes = {
        "baseline": {},
        "ffl_default": own,
        "ffl": {**own, **half},
        "ffl_dct": {**own, **half, "loss.transform": "dct"},
        "no_focal": {**own, **half, "loss.ablation": "no_focal"},
        "fft_l1": {**half, "loss.terms": [{"name": "fft_l1", "weight": 0.1}]},
        **terms,
        "spectral_regularization": {**half, "loss.spectral_regularization": 0.001},
        "perceptual": {**half, "loss.perceptual": 1.0},
    }
    return {row: (model, dataset, change) for row, change in changes.items()}


def presets(model: str, dataset: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """What public trainers set, and the same without averaged spectra."""
    short, average = {"trainer.epochs": 10}, {"loss.ave_spectrum": True}
    switches = {"loss.alpha": 2, "loss.patch_factor": 4, "loss.log_matrix": True, "loss.batch_matrix": True}
    changes: dict[str, dict[str, Any]] = {"baseline": {}, "paper": FFL}
    for name, change in {
        "trainner_redux": {"loss.weight": 10},
        "neosr": {"loss.weight": 17.5},
        "mst": {"loss.weight": 0.7, **switches},
    }.items():
        changes |= {name: {**FFL, **change, **average}, f"{name}_paired": {**FFL, **change}}
    return {row: (model, dataset, {**short, **change}) for row, change in changes.items()}


def small_vae() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """A small VAE without and with FFL, and without it at a quarter of the KL weight."""
    small = {"dataset.image_size": 32, "model.channels": 32, "model.max_channels": 256, "model.kl_weight": 6.4e-4}
    changes: dict[str, dict[str, Any]] = {
        "photos_without": {},
        "photos_with": {**FFL, "loss.weight": 10},
        "weak_kl": {"model.kl_weight": 1.6e-4},
    }
    return {row: ("vae", "photos", {**small, **change}) for row, change in changes.items()}


def in_bfloat16(model: str, dataset: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Without and with FFL in float32, and again with the preset for processors that have bfloat16."""
    half = {"trainer.accelerator": "cpu", "trainer.precision": "bf16"}
    changes = {"fp32_without": {}, "bf16_without": half, "fp32_with": FFL, "bf16_with": {**FFL, **half}}
    return {row: (model, dataset, change) for row, change in changes.items()}


AE = ("ae", "celeba")
# Table and group: row to model, data set, and all that differs from what they have by themselves.
RUNS = {
    ("table1", "reconstruction"): pair("dtd", "ae", "dtd") | pair("celeba", *AE),
    ("table2", "reconstruction"): pair("celeba", "vae", "celeba") | pair("celeba_hq", "vae", "celeba_hq"),
    ("table3", "synthesis"): pair("celeba", "vae", "celeba") | pair("celeba_hq", "vae", "celeba_hq"),
    ("table4", "translation"): pair("facades", "pix2pix", "facades") | pair("edges2shoes", "pix2pix", "edges2shoes"),
    ("table5", "cityscapes"): pair("spade", "spade", "cityscapes"),
    ("table5", "ade20k"): pair("spade", "spade", "ade20k"),
    ("table6", "synthesis"): pair("celeba_hq", "stylegan2", "celeba_hq"),
    ("table7", "vae_reconstruction"): relevant_losses("vae", "celeba", 0.001),
    ("table7", "vae_synthesis"): relevant_losses("vae", "celeba", 0.001),
    ("table7", "pix2pix"): relevant_losses("pix2pix", "edges2shoes", 0.05),
    ("table8", "reconstruction"): ablations(*AE)
    | {"full_no_mse": (*AE, {**FFL, **NO_SPATIAL_LOSS})}
    | {
        f"{part}_no_mse": (*AE, {**FFL, "loss.ablation": part, **NO_SPATIAL_LOSS})
        for part in ("no_freq", "no_phase", "no_ampli", "no_focal")
    },
    ("table9", "reconstruction"): {"baseline": (*AE, {}), "alpha_1": (*AE, FFL)}
    | {f"alpha_{alpha}": (*AE, {**FFL, "loss.alpha": alpha}) for alpha in (2, 0.5, 0.1)},
    ("table10", "reconstruction"): {"baseline": (*AE, {}), "patch_1": (*AE, FFL)}
    | {f"patch_{factor}": (*AE, {**FFL, "loss.patch_factor": factor}) for factor in (2, 4, 8)},
    ("table11", "reconstruction"): pair("danbooru", "ae", "danbooru"),
    ("pix2pix_ablations", "translation"): ablations("pix2pix", "edges2shoes"),
    ("losses", "ae"): frequency_losses(*AE),
    ("losses", "vae"): frequency_losses("vae", "celeba"),
    ("losses", "pix2pix"): frequency_losses("pix2pix", "edges2shoes"),
    ("photos", "reconstruction"): pair("photos", "ae", "photos"),
    ("photos_vae", "reconstruction"): small_vae(),
    ("presets", "reconstruction"): presets("ae", "photos"),
    ("bf16", "reconstruction"): in_bfloat16("ae", "photos"),
    ("bf16", "translation"): in_bfloat16("pix2pix", "facades"),
}
QUOTED = {"crn", "sims", "pix2pixhd"}


def own(config: dict[str, Any]) -> dict[str, Any]:
    """A flat configuration without the keys that say how a run is started."""
    return {key: value for key, value in flatten(config).items() if key not in ("resume", "name")}


@cache
def plain(model: str, dataset: str, scale: str) -> dict[str, Any]:
    """What a model has on a data set by itself."""
    return own(compose("train", [f"model={model}", f"dataset={dataset}", f"scale={scale}"]))


def test_every_run_of_every_table_is_stated() -> None:
    for name in table_names():
        table = read_table(name)
        for group in table.groups:
            assert [row for row in table.rows if group in table.rows[row].runs] == list(RUNS[name, group])
        assert {row for row in table.rows if table.rows[row].quoted} == (QUOTED if name == "table5" else set())
    assert {name for name, _ in RUNS} == set(table_names())


@pytest.mark.parametrize(("table", "group"), RUNS)
def test_rows_compose_to_the_runs_that_they_name(table: str, group: str) -> None:
    for row, (model, dataset, changes) in RUNS[table, group].items():
        check_run(table, group, row, "paper", dataset, plain(model, dataset, "paper") | changes)


@pytest.mark.parametrize(("table", "group"), RUNS)
def test_at_the_small_scale_rows_keep_their_settings_and_take_stand_ins(table: str, group: str) -> None:
    row, (model, dataset, changes) = list(RUNS[table, group].items())[-1]
    dataset = {"celeba": "celeba_64"}.get(dataset, dataset)
    if table == "table6":
        dataset, changes = "celeba_64", {**changes, "dataset.image_size": 32, "model.r1_gamma": 0.0128}
    if row == "perceptual":
        changes = {**changes, "loss.perceptual_network": "stlpips_vgg"}
    if (table, group) == ("losses", "ae"):
        changes = {**changes, "trainer.epochs": 10}
    if (table, group) == ("losses", "vae"):
        changes = {**changes, "trainer.epochs": 3}
    if (table, group) == ("losses", "pix2pix"):
        changes = {**changes, "trainer.epochs": 5, "trainer.lr_decay_epochs": 2}
    check_run(table, group, row, "cpu", dataset, plain(model, dataset, "cpu") | changes)


def check_run(table: str, group: str, row: str, scale: str, dataset: str, expected: dict[str, Any]) -> None:
    """Compare the run behind a row with the flat configuration that it should have."""
    run = row_run(read_table(table), row, group, scale)
    assert run is not None
    assert own(run.config) == expected, row
    model, _, _ = RUNS[table, group][row]
    assert (run.config["model"]["name"], run.config["dataset"]["name"]) == (model, dataset)


# Sums of the columns of each table, added up from the printed paper; N/A counts as nothing.
SUMS = {
    "table1": [82.031, 2.017, 1.254, 668.079, 58.712],
    "table2": [86.478, 2.582, 1.071, 250.140, 63.234],
    "table3": [329.416, 8.000],
    "table4": [406.903, 8.787],
    "table5": [284.4, 398.4, 380.7, 124.1, 300.3, 222.7],
    "table6": [10.668, 6.815],
    "table7": [106.530, 3.305, 0.871, 303.038, 72.467, 379.897, 9.501, 391.899, 13.654],
    "table8": [109.023, 2.993, 1.881, 955.864, 91.299],
    "table9": [105.141, 3.057, 1.061, 455.518, 72.792],
    "table10": [106.749, 3.128, 0.967, 462.257, 72.422],
    "table11": [40.542, 1.203, 0.561, 377.785, 29.466],
}


def numbers_in_our_file(table: str) -> list[list[tuple[float | None, bool]]]:
    """The rows of a table in results/paper.yaml: each number, and whether it is marked as best."""
    content = yaml.safe_load((ROOT / "results" / "paper.yaml").read_text())["tables"][table]
    rows = []
    for row in content["rows"].values():
        cells = []
        for group, metrics in content["groups"].items():
            assert list(row[group]) == metrics
            cells += [
                (value, bool({metric, f"{group}/{metric}"} & set(row["best"]))) for metric, value in row[group].items()
            ]
        rows.append(cells)
    return rows


def numbers_in_print(table: str) -> list[list[tuple[float | None, bool]]]:
    """The same from the text of the paper."""
    if not TEXT.is_file():
        pytest.skip(f"no text of the paper at {TEXT}")
    after = TEXT.read_text().partition(f"\nTable {table.removeprefix('table')}. ")[2]
    rows: list[list[tuple[float | None, bool]]] = []
    for line in after.splitlines()[1:]:
        cells = [cell for cell in line.split("\t") if re.fullmatch(r"(<b>)?\d+\.\d+(</b>)?|N/A", cell)]
        if len(cells) > 1:
            bare = [re.sub("</?b>", "", cell) for cell in cells]
            rows.append(
                [(None if b == "N/A" else float(b), "<b>" in cell) for b, cell in zip(bare, cells, strict=True)]
            )
        elif rows:
            break
    return rows


@pytest.mark.parametrize("table", SUMS)
def test_columns_add_up_to_those_of_the_printed_paper(table: str) -> None:
    columns = zip(*numbers_in_our_file(table), strict=True)
    assert [sum(value or 0 for value, _ in column) for column in columns] == pytest.approx(SUMS[table], abs=1e-9)


@pytest.mark.parametrize("table", SUMS)
def test_numbers_and_bold_marks_are_those_of_the_text(table: str) -> None:
    assert numbers_in_our_file(table) == numbers_in_print(table)


def test_numbers_outside_the_tables_are_those_of_the_text() -> None:
    content = yaml.safe_load((ROOT / "results" / "paper.yaml").read_text())
    assert content["figure17"] == {"fid": {"without": 3.733, "with": 3.374}}
    cost = {"seconds": {"without": 0.064, "with": 0.067}, "memory_mb": {"without": 3513, "with": 3515}}
    assert content["cost"] == cost
    if not TEXT.is_file():
        pytest.skip(f"no text of the paper at {TEXT}")
    text = TEXT.read_text()
    assert "FID score of **3.374**, outperforming the original StyleGAN2 without FFL of 3.733" in text
    printed = chain.from_iterable(re.findall(r"from (\S+) to (\S+) (?:seconds per iteration|MB)", text))
    assert [float(number) for number in printed] == [0.064, 0.067, 3513, 3515]
