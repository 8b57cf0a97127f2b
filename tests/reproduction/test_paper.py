"""results/paper.yaml: complete, consistent with itself, and with what its metrics must obey."""

import math
from itertools import groupby

import pytest

from ffl.metrics import METRICS
from scripts.reproduction.paper import paper_tables, read_paper
from scripts.tables import read_table

ROWS = {
    "table1": 4, "table2": 4, "table3": 4, "table4": 4, "table5": 5, "table6": 2,
    "table7": 5, "table8": 6, "table9": 5, "table10": 5, "table11": 2,
}  # fmt: skip
# LFD = ln(H W 255²) − PSNR ln(10)/10 for every image, and so for the means; this printed row breaks it.
BREAKS_LFD = {("table7", "spectral_regularization")}


def test_every_table_is_there_with_all_its_values() -> None:
    tables = paper_tables()
    assert {name: len(table.rows) for name, table in tables.items()} == ROWS
    values = [value for table in tables.values() for row in table.rows.values() for group in row.values.values()
              for value in group.values()]  # fmt: skip
    assert len(values) == 4 * 5 + 4 * 5 + 4 * 2 + 4 * 2 + 5 * 6 + 2 * 2 + 5 * 9 + 6 * 5 + 5 * 5 + 5 * 5 + 2 * 5
    assert values.count(None) == 3  # SIMS on ADE20K
    assert read_paper()["figure17"] == {"fid": {"without": 3.733, "with": 3.374}}


@pytest.mark.parametrize("name", list(ROWS))
def test_rows_and_columns_are_those_of_the_table_file(name: str) -> None:
    paper, table = paper_tables()[name], read_table(name)
    assert paper.groups == {key: group.metrics for key, group in table.groups.items()}
    assert paper.rows.keys() <= table.rows.keys()
    assert [row for row in table.rows if row not in paper.rows] == (
        [f"{row}_no_mse" for row in ("full", "no_freq", "no_phase", "no_ampli", "no_focal")] if name == "table8"
        else ["spectral_regularization_published"] if name == "table7" else []
    )  # fmt: skip
    for row in paper.rows.values():
        for group, values in row.values.items():
            assert list(values) == paper.groups[group]
            for value in values.values():
                assert value is None or round(value, paper.decimals) == value


@pytest.mark.parametrize("name", [name for name in ROWS if name != "table5"])
def test_bold_values_are_the_best_of_the_rows_compared(name: str) -> None:
    paper = paper_tables()[name]
    # Tables with two rows per data set mark the better of the two; the others the best of all.
    paired = all(row.endswith(("_without", "_with")) for row in paper.rows)
    for _, block in groupby(paper.rows, key=lambda row: row.rpartition("_")[0] if paired else ""):
        rows = list(block)
        for group, metrics in paper.groups.items():
            for metric in metrics:
                values = {row: paper.value(row, group, metric) for row in rows}
                best = (max if METRICS[metric].higher_is_better else min)(values.values())
                marked = {row for row in rows if (group, metric) in paper.rows[row].best}
                assert marked == {row for row, value in values.items() if value == best}, (name, group, metric)


def test_bold_values_of_table_5_are_ours_and_the_fid_of_sims() -> None:
    best = {name: row.best for name, row in paper_tables()["table5"].rows.items()}
    assert best["sims"] == {("cityscapes", "fid")}
    assert len(best["spade_with"]) == 6
    assert not best["crn"] | best["pix2pixhd"] | best["spade_without"]


def test_one_experiment_has_one_value_in_all_tables() -> None:
    tables = paper_tables()
    ae = tables["table1"].rows
    for name, row in (("table8", "full"), ("table9", "alpha_1"), ("table10", "patch_1")):
        assert tables[name].rows["baseline"].values == ae["celeba_without"].values
        assert tables[name].rows[row].values == ae["celeba_with"].values
    for row, source in (("baseline", "without"), ("ffl", "with")):
        compared = tables["table7"].rows[row].values
        assert compared["vae_reconstruction"] == tables["table2"].rows[f"celeba_{source}"].values["reconstruction"]
        assert compared["vae_synthesis"] == tables["table3"].rows[f"celeba_{source}"].values["synthesis"]
        assert compared["pix2pix"] == tables["table4"].rows[f"edges2shoes_{source}"].values["translation"]


def test_lfd_follows_from_psnr_but_for_the_rows_known_to_break_it() -> None:
    breaking, checked = set(), 0
    for name, table in paper_tables().items():
        for key, row in table.rows.items():
            for values in row.values.values():
                if "lfd" in values:
                    height, width = row.size
                    expected = math.log(height * width * 255**2) - values["psnr"] * math.log(10) / 10
                    checked += 1
                    if abs(expected - values["lfd"]) > 0.0005 + 0.0005 * math.log(10) / 10:  # both are rounded
                        breaking.add((name, key))
    assert checked == 4 + 4 + 5 + 6 + 5 + 5 + 2
    assert breaking == BREAKS_LFD
