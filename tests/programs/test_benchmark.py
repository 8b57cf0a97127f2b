"""The benchmark runs, says where it ran and what holds, and refuses what it does not know."""

import importlib
import json
import math
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from ffl.errors import UserError
from ffl.metrics.pixel import lfd, psnr
from ffl.metrics.ssim import ssim
from ffl.training.command import read_words
from scripts.benchmark import main
from scripts.benchmarks import authors, gpu
from scripts.benchmarks.rows import at_least, at_most, describe_row, describe_target
from scripts.benchmarks.steps import step_on_random_images, train_epochs
from scripts.benchmarks.timing import Conditions, Times, alternate, peak_memory

CPU = torch.device("cpu")
SMALL = ["small=true", "rounds=1", "threads=1", "accelerator=cpu"]


def run(*words: str) -> None:
    """``scripts/benchmark.py`` with these words."""
    subsets, options = read_words(main, list(words))
    main(*subsets, **options)


def measured(tmp_path: Path, *words: str) -> dict[str, Any]:
    run(*words, *SMALL, f"json={tmp_path / 'out.json'}")
    return json.loads((tmp_path / "out.json").read_text())


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, rows: Callable[[Any], Iterable[dict[str, Any]]]) -> None:
    """Measure a subset by ``rows`` instead."""
    module = types.ModuleType(f"scripts.benchmarks.{name}")
    module.measure = rows  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_overhead_of_a_step_is_measured_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/benchmark.py", "overhead", "models=ae"])
    content = measured(tmp_path, "overhead", "models=ae")
    (row,) = content["overhead"]
    assert row["model"] == "ae"
    assert 0 < row["without_s"] < 60
    assert row["ratio"] == pytest.approx(row["with_s"] / row["without_s"])
    assert row["with_bytes"] > 0
    assert (row["device"], row["threads"], content["device"]) == ("cpu", 1, "cpu")
    assert content["environment"]["cpu"]
    assert content["command"].startswith("python scripts/benchmark.py overhead models=ae")
    assert "unfinished" not in content


def test_losses_of_other_papers_are_measured_beside_their_published_way(tmp_path: Path) -> None:
    rows = measured(tmp_path, "losses")["losses"]  # which also compares the values
    names = ["fft_l1", "wavelet", "jpeg_frequency", "fourier_space", "haar", "haar_3d"]
    assert [row["loss"] for row in rows] == names
    for row in rows:
        assert row["speedup"] == pytest.approx(row["published_s"] / row["ours_s"])


def test_loss_is_measured_beside_the_authors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("focal_frequency_loss")
    *rows, volume = measured(tmp_path, "loss")["loss"]
    assert [(row["patch_factor"], row["ave_spectrum"]) for row in rows] == [
        (1, False),
        (1, True),
        (4, False),
        (4, True),
    ]
    for row in rows:
        assert row["speedup"] == pytest.approx(row["authors_s"] / row["ours_s"])
        assert row["pairs"] == pytest.approx(row["ours_s"] / row["pair_s"])
        # The gradient at least, of the batch or of its average; the authors keep both spectra as well.
        assert row["ours_bytes"] >= 3 * 16 * 16 * 4 * (1 if row["ave_spectrum"] else 2)
        assert row["authors_bytes"] > 6 * 2 * 3 * 16 * 16 * 4
        assert {target["target"] for target in row["targets"]} == {"speed-up", "transform pairs", "memory share"}
    # The authors' package has no volumes.
    assert volume["dims"] == 3
    assert "authors_s" not in volume
    assert [target["target"] for target in volume["targets"]] == ["transform pairs"]
    assert "loss, cpu, 1 thread\n" in capsys.readouterr().out


def test_data_is_measured_beside_a_dataloader(tmp_path: Path) -> None:
    (row,) = measured(tmp_path, "data")["data"]
    assert set(row["rows_per_second"]) == {"files", "files_turbo", "pixels", "dataloader"}
    assert all(rate > 0 for rate in row["rows_per_second"].values())
    assert row["turbo_levels_apart"] <= 1


def test_bfloat16_is_measured_beside_float32(tmp_path: Path) -> None:
    (row,) = measured(tmp_path, "bf16", "models=ae")["bf16"]
    assert row["ratio"] == pytest.approx(row["bf16_s"] / row["fp32_s"])
    assert row["ratio_range"] == [row["ratio"], row["ratio"]]  # of a single round
    with pytest.raises(UserError, match="bf16 is measured of the CPU, gpu of a GPU"):
        list(
            importlib.import_module("scripts.benchmarks.bf16").measure(
                Conditions(torch.device("cuda"), (), None, tmp_path, True)
            )
        )


def test_machines_are_compared_by_the_metrics_of_the_runs_that_they_train(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("scripts.benchmarks.machines")
    small = Conditions(torch.device("cpu"), ("ae", "vae"), None, Path("data"), True)

    # The digits come from the machine that trains, and from nowhere else.
    words = ["model=ae", "dataset=photos", "trainer.steps=2", "seed=1"]
    here, there = (module.evaluate(words, module.MACHINES[name]) for name in ("AVX2", "SSE4.2"))
    assert here == pytest.approx(there, rel=1e-2)
    assert 5 < here["psnr"] < 20

    def evaluate(words: list[str], variables: dict[str, str]) -> dict[str, float]:
        seed = int(words[-1].removeprefix("seed="))
        faster = 0.5 * (variables == module.MACHINES["AVX2"])
        return dict.fromkeys(module.METRICS, 20.0 + faster + (seed - 1112))

    monkeypatch.setattr(module, "evaluate", evaluate)
    (row,) = module.measure(small)
    assert (row["model"], row["row"]) == ("ae", "photos_without")
    assert [row["machines"][name]["psnr"] for name in ("here", "AVX2", "SSE4.2")] == [20.0, 20.5, 20.0]
    assert row["spread_over_machines"]["psnr"] == pytest.approx(0.25)
    assert row["spread_over_seeds"]["ssim"] == pytest.approx(1.29, abs=0.01)
    with pytest.raises(UserError, match="imitated for the CPU alone"):
        list(module.measure(replace(small, device=torch.device("cuda"))))


def test_gpu_needs_one() -> None:
    with pytest.raises(UserError, match=r"gpu: there is none here.*accelerator=cuda"):
        run("gpu", *SMALL)


def test_settings_of_a_gpu_are_measured_where_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU as far as it goes; what fails is named, and the others are measured."""
    mixed = {"precision": "bf16", "channels_last": True}
    settings: dict[str, Any] = {"fp32": {}, "bf16 channels last": mixed, "odd": {"precision": "x"}}
    monkeypatch.setattr(gpu, "SETTINGS", settings)

    def fails(*arguments: Any, precision: str = "fp32", **options: Any) -> Any:
        if precision == "x":
            raise RuntimeError("no such precision")
        return step_on_random_images(*arguments, precision=precision, **options)

    monkeypatch.setattr(gpu, "step_on_random_images", fails)
    row = gpu.time_steps("ae", Conditions(CPU, ("ae",), 1, Path("data"), small=True))
    assert list(row["images_per_second"]) == ["fp32", "bf16 channels last"]
    assert all(number > 0 for number in row["peak"].values())
    assert row["failed"] == {"odd": "no such precision"}


def test_metrics_are_measured_and_equal_their_peers(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_fid")
    rows = {row["metric"]: row for row in measured(tmp_path, "metrics")["metrics"]}
    for name in ("psnr 16x16", "lfd 16x16", "ssim 16x16"):
        assert rows[name]["difference"] < 1e-9
    assert rows["frechet distance"]["targets"][1]["value"] < 1e-9
    for name in ("inception features", "inception features of torch-fidelity"):
        assert rows[name]["difference"] < 1e-4
        assert rows[name]["images_per_second"] == pytest.approx(1 / rows[name]["ours_s"])
    assert rows["ssim 16x16"]["skimage_s"] > 0
    for name in ("efficientnet-lite0 features", "st-lpips (alex) 64x64"):
        (target,) = rows[name]["targets"]
        assert target["value"] > 0 < rows[name]["peer_s"]
    assert rows["efficientnet-lite0 features"]["images_per_second"] == pytest.approx(
        1 / rows["efficientnet-lite0 features"]["ours_s"]
    )


def test_growth_writes_a_plot_and_a_table(tmp_path: Path) -> None:
    pytest.importorskip("focal_frequency_loss")
    rows = measured(tmp_path, "growth")["growth"]
    assert {row["grows"] for row in rows} == {"image size", "batch", "data set"}
    (epochs,) = (row for row in rows if row["grows"] == "data set")
    assert epochs["cache_bytes"] == pytest.approx(epochs["to"] * 3 * 64 * 64, rel=0.1)
    assert epochs["first_epoch_s"] > 0 < epochs["later_epoch_s"]
    table = (tmp_path / "growth.md").read_text()
    assert "8 x 3 x 32 x 32" in table
    assert "1 thread" in table
    assert Image.open(tmp_path / "growth.png").width > 800


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    """Twenty files in CelebA's layout."""
    folder = tmp_path / "data" / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(20):
        pixels = generator.integers(0, 256, (27, 22, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((178, 218)).save(folder / f"{number + 1:06d}.jpg")
    return tmp_path / "data"


def test_throughput_is_measured_beside_the_authors_recipe(tmp_path: Path, celeba: Path) -> None:
    pytest.importorskip("focal_frequency_loss")
    first, later = measured(tmp_path, "throughput", f"data_root={celeba}")["throughput"]
    assert (first["epochs"], later["epochs"], first["images"]) == ("first", "later", 18)
    assert first["targets"][0]["bound"] == ">= 1"
    speeds = later["images_per_second"]
    assert speeds.keys() == {"ours", "authors, 2 workers"}
    assert min(speeds.values()) > 0
    assert later["peer"] == "authors, 2 workers"


def test_both_recipes_train_on_whole_batches(tmp_path: Path, celeba: Path) -> None:
    pytest.importorskip("focal_frequency_loss")
    files = sorted((celeba / "celeba" / "img_align_celeba").glob("*.jpg"))
    assert next(authors.train_autoencoder(files, 0, CPU, batch_size=8)) == 16  # of 20
    ours = train_epochs(["dataset=celeba"], celeba, tmp_path / "cache", CPU, batch_size=8)
    assert [next(ours), next(ours)] == [16, 16]  # of 18, two held out


@pytest.mark.parametrize("size", [(11, 11), (16, 23), (64, 64)])
def test_rewritten_metrics_equal_ours(size: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (2, 3, 3, *size), dtype=torch.uint8)
    images[1, 2] = images[0, 2]
    images[1, 2, 0, 0, 0] ^= 1
    fake, real = images
    for ours, theirs in ((psnr, authors.psnr), (lfd, authors.lfd), (ssim, authors.ssim)):
        want = [theirs(a, b) for a, b in zip(*images.permute(0, 1, 3, 4, 2).numpy(), strict=True)]
        np.testing.assert_allclose(ours(fake, real).numpy(), want, rtol=1e-9)


def test_actions_alternate_and_ratios_are_paired() -> None:
    calls: list[str] = []
    alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, CPU)
    order = "".join(letter for letter, before in zip(calls, ["", *calls], strict=False) if letter != before)
    assert order == "babab"  # ba ab ba ab: reversed from round to round, so neighbours merge
    times = Times({"a": [1.0, 10.0, 3.0], "b": [2.0, 10.0, 9.0]})
    assert times.seconds("a") == 3.0
    assert times.ratio("b", "a") == 2.0  # not 9 / 3


def test_short_actions_are_repeated_within_a_sample() -> None:
    calls = 0

    def action() -> None:
        nonlocal calls
        calls += 1

    times = alternate({"short": action}, 1, CPU)
    assert calls > 100
    assert times.seconds("short") < 1e-4


def test_peak_memory_counts_what_is_held_at_once() -> None:
    mebi = 1 << 20

    def action() -> torch.Tensor:
        first = torch.empty(4 * mebi, dtype=torch.uint8)
        del first
        second, third = (torch.empty(3 * mebi, dtype=torch.uint8) for _ in range(2))
        return second[0] + third[0]

    assert peak_memory(action, CPU) == pytest.approx(6 * mebi, rel=0.01)


def test_targets_say_whether_they_hold() -> None:
    assert describe_target(at_least("speed-up", 4.0, 4.0)) == "speed-up 4 (>= 4: holds)"
    assert describe_target(at_most("added time", 0.123, 0.1)) == "added time 0.123 (<= 0.1: missed)"
    assert not at_least("speed-up", math.nan, 1.0)["holds"]


def test_rows_are_printed_with_their_units_parts_and_targets() -> None:
    row = {
        "model": "ae",
        "shape": [2, 3, 16],
        "ours_s": 0.0125,
        "ours_bytes": 3 << 20,
        "images_per_second": {"ours": 100.0},
        "ratio": 4.25,
        "kinds": [{"phases": ["generator", "r1"], "share": 0.5}],
        "targets": [at_least("speed-up", 4.25, 4.0)],
    }
    assert describe_row(row).splitlines() == [
        "model ae  shape 2x3x16  ours 12.5 ms  ours 3 MiB  images_per_second ours 100",
        "    phases generator,r1  share 0.5",
        "    speed-up 4.25 (>= 4: holds)",
    ]


def test_loss_and_metrics_are_measured_with_each_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    for name in ("loss", "overhead"):
        stand_in(monkeypatch, name, lambda _: [{"used": torch.get_num_threads()}])
    run("loss", "overhead", "threads=1,2", "accelerator=cpu", f"json={tmp_path / 'out.json'}")
    content = json.loads((tmp_path / "out.json").read_text())
    used = {name: [(row["used"], row["threads"]) for row in content[name]] for name in ("loss", "overhead")}
    assert used == {"loss": [(1, 1), (2, 2)], "overhead": [(2, 2)]}
    assert torch.get_num_threads() == before


def test_a_run_that_is_stopped_keeps_the_cases_that_it_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_: Any) -> Iterator[dict[str, Any]]:
        yield {"model": "ae"}
        raise KeyboardInterrupt

    stand_in(monkeypatch, "loss", lambda _: [{"shape": [1]}])
    stand_in(monkeypatch, "overhead", stopped)
    path = tmp_path / "results" / "out.json"
    with pytest.raises(KeyboardInterrupt):
        run("loss", "overhead", *SMALL, f"json={path}")
    content = json.loads(path.read_text())
    place = {"device": "cpu", "threads": 1}
    assert content["loss"] == [{"shape": [1], **place}]
    assert content["overhead"] == [{"model": "ae", **place}]
    assert content["unfinished"] is True
    assert content["environment"]["cpu"]


def test_what_needs_data_is_skipped_where_everything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scripts.benchmark.Subset", Literal["throughput", "overhead"])
    run(*SMALL, "models=ae", f"data_root={tmp_path}")
    output = capsys.readouterr().out
    assert f"throughput: skipped: dataset celeba: folder {tmp_path / 'celeba'} is missing" in output
    assert "added time" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "speed: expected one of loss, losses, overhead"),
        (["overhead", "model=ae"], "unknown key model: did you mean models"),
        (["overhead", "models=resnet"], "models=resnet: expected a list, each one of ae"),
        (["overhead", "rounds=many"], "rounds=many: expected an integer at least 1"),
        (["overhead", "rounds=1,2"], "rounds=1,2: expected an integer at least 1"),
        (["overhead", "threads=0"], "threads=0: expected a list, each an integer at least 1"),
        (["overhead", "accelerator=tpu"], "accelerator=tpu: expected one of auto, cpu, cuda"),
        (["overhead", "small=yes"], "small=yes: expected true or false"),
        (["overhead", "json=results"], r"json=results: expected the name of a \.json file"),
        (["throughput", "data_root=nowhere"], "dataset celeba: folder nowhere/celeba is missing"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(*arguments)


def test_a_missing_peer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "focal_frequency_loss", None)
    with pytest.raises(UserError, match=r"loss needs the package focal_frequency_loss: pip install '\.\[bench\]'"):
        run("loss", *SMALL)
