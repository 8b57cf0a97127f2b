"""The calibration damages as it says, measures as the metrics do, and publishes nothing that its numbers do not say."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from metrics.tiny_networks import random_images, tiny_features
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from ffl.metrics import KID, build_metric
from ffl.metrics.bands import BandPower
from ffl.training.record import Record
from scripts.calibrate import calibrate
from scripts.calibration.damage import DAMAGES, blur, checkerboard, colour_shift, jpeg, noise
from scripts.calibration.measure import BATCH, agreement, damage_groups, measure_set, remember_images, run_groups
from scripts.calibration.report import by_key, fill_sentences, markdown

PUBLISHED = Path(__file__).parents[2] / "results" / "calibration"
GREY = torch.full((4, 3, 64, 64), 128, dtype=torch.uint8)


def difference(damaged: Tensor) -> Tensor:
    return damaged.double() - 128


# Damage


def test_noise_has_its_strength_and_the_strengths_share_their_draw() -> None:
    weak, strong = (difference(noise(GREY, sigma, seed=3)) for sigma in (5, 10))
    assert strong.std() == pytest.approx(10, rel=0.02)
    assert strong.mean() == pytest.approx(0, abs=0.2)
    assert (strong - 2 * weak).abs().max() <= 1.5  # each is rounded
    assert not torch.equal(noise(GREY, 5, seed=3), noise(GREY, 5, seed=4))


def test_blur_is_that_of_its_gaussian() -> None:
    point = torch.zeros(1, 3, 33, 33, dtype=torch.uint8)
    point[..., 16, 16] = 255
    distance = torch.arange(33) - 16
    for sigma in (0.5, 1, 2):
        weights = torch.exp(-distance.square() / (2 * sigma**2)).double()
        weights[distance.abs() > np.ceil(3 * sigma)] = 0
        weights /= weights.sum()
        want = 255 * weights[:, None] * weights
        assert (blur(point, sigma, 0)[0, 0] - want).abs().max() <= 0.501
    assert torch.equal(blur(GREY, 2, 0), GREY)


def test_jpeg_is_that_of_pillow() -> None:
    images = random_images(0, 2, 24)
    for image, damaged in zip(images, jpeg(images, 40, 0), strict=True):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=40)
        assert np.array_equal(damaged.permute(1, 2, 0).numpy(), np.asarray(Image.open(file)))


def test_checkerboard_is_the_highest_frequency_alone() -> None:
    spectrum = torch.fft.fft2(difference(checkerboard(GREY, 8, 0)))
    assert spectrum[..., 32, 32] == pytest.approx(8 * 64 * 64)
    spectrum[..., 32, 32] = 0
    assert spectrum.abs().max() < 1e-6


def test_colour_shift_moves_red_and_blue_alone() -> None:
    change = difference(colour_shift(GREY, 8, 0))
    assert [channel.unique().tolist() for channel in change.unbind(1)] == [[8], [0], [-8]]


@pytest.mark.parametrize("kind", DAMAGES)
def test_values_stay_grey_levels_and_each_strength_does_more(kind: str) -> None:
    images = random_images(1, 3, 32)  # up to black and white
    damage, _, levels = DAMAGES[kind]
    errors = []
    for level in levels:
        damaged = damage(images, level, 0)
        assert damaged.dtype == torch.uint8
        assert damaged.shape == images.shape
        errors.append((damaged.double() - images.double()).square().mean().item())
    assert 0 < errors[0] < errors[1] < errors[2]


# Measurement


def test_networks_see_each_image_once_and_values_stay_the_same() -> None:
    real, fake = random_images(0, BATCH + 7), random_images(1, BATCH + 7)
    want = KID(extractor=tiny_features())
    metric = KID(extractor=tiny_features())
    remember_images({"kid": metric})
    for part in (slice(None), slice(3, 20), slice(None, None, 2)):
        for each in (want, metric):
            each.reset()
            each.update(real[part], real=True)
            each.update(fake[part], real=False)
        torch.testing.assert_close(metric.compute(), want.compute(), rtol=1e-9, atol=0)
    assert metric.extractor.network.calls == 4  # two batches of each set, where the other metric took six passes
    ssim = build_metric("ssim")
    remember_images({"ssim": ssim})
    ssim.update(fake, real)
    ssim.update(real, real)
    assert ssim.rows("values")[len(real) :].tolist() == pytest.approx([1.0] * len(real))


def test_records_hold_what_the_metrics_say() -> None:
    images, more = random_images(0, 60), random_images(1, 60)
    names = ("psnr", "coherence_top", "spectrum_distance")
    metrics = {name: build_metric(name) for name in names}
    remember_images(metrics)
    records = list(measure_set("celeba_64", images, more, metrics, seed=5))
    assert records == list(measure_set("celeba_64", images, more, metrics, seed=5))
    values = by_key(records)
    assert values["celeba_64 psnr none 0"] == float("inf")
    psnr, distance = build_metric("psnr"), build_metric("spectrum_distance")
    psnr.update(noise(images, 10, 5), images)
    assert values["celeba_64 psnr noise 10"] == pytest.approx(psnr.compute().item())
    # Random halves: each pair of halves is of all images, and its values are there.
    floor = next(item for item in records if item.protocol["quantity"] == "floor")
    assert (floor.metric, floor.num_images, len(floor.details["values"])) == ("spectrum_distance", 30, 10)
    assert floor.value == pytest.approx(np.mean(floor.details["values"]))
    assert values["celeba_64 spectrum_distance floor sd"] == pytest.approx(np.std(floor.details["values"], ddof=1))
    first, second = torch.randperm(60, generator=torch.Generator().manual_seed(5)).split(30)
    distance.update(images[first], real=True)
    distance.update(images[second], real=False)
    assert floor.details["values"][0] == pytest.approx(distance.compute().item())
    # Bias has as many images on both sides: 50 and 50 are there, 100 and 100 are not. Pairs have none.
    counts = [(item.metric, item.num_images) for item in records if item.protocol["quantity"] == "bias"]
    assert counts == [("spectrum_distance", 50)]


# Agreement


def ranked(values: list[tuple[float, float]], one: str = "psnr", other: str = "ssim") -> list[dict[str, float]]:
    return [{one: a, other: b} for a, b in values]


def test_agreement_is_spearmans_and_turned_towards_the_better() -> None:
    values = np.random.default_rng(0).normal(size=(12, 2)).round(1)  # with ties
    for other, sign in (("ssim", 1), ("lfd", -1)):
        group = ranked(values.tolist(), other=other)
        (record,) = agreement(["psnr", other], [group], "runs")
        assert record.value == pytest.approx(sign * spearmanr(*values.T).statistic)
        assert record.details == {"with": other, "over": "runs", "items": 12}


def test_agreement_is_within_data_sets() -> None:
    # On each the two disagree; over both together they would agree, since one data set is harder for both.
    easy, hard = [(10, 3), (11, 2), (12, 1)], [(0, -7), (1, -8), (2, -9)]
    (record,) = agreement(["psnr", "ssim"], [ranked(easy), ranked(hard)], "runs")
    assert record.value == pytest.approx(-1)
    assert not list(agreement(["psnr", "ssim"], [ranked(easy)], "runs"))  # too few
    assert not list(agreement(["psnr", "lfd"], [ranked(easy + hard)], "runs"))  # no value of one of them


def test_runs_count_once_and_older_ones_have_coherence_too() -> None:
    real, fake = random_images(0, 5, 16), random_images(1, 5, 16)
    fake = (real // 2 + fake // 2).to(torch.uint8)
    power, coherence = BandPower(16, 16, paired=True), build_metric("coherence_top")
    power.update(real, fake)
    coherence.update(fake, real)
    protocol = {"task": "reconstruction", "reference": "photos test", "size": [16, 16]}
    of = {"run": "ae-photos", "seed": 1, "step": 3, "row": "without"}
    records = [
        Record("psnr", 20.0, 5, protocol, of),
        Record("fid", None, 5, protocol, of, missing="no weights"),
        Record("bands", None, 5, protocol, of, details=power.compute()),
        Record("psnr", 20.0, 5, protocol, {**of, "row": "of another table"}),
        Record("psnr", 21.0, 5, protocol, {**of, "seed": 2}),
        Record("psnr", 22.0, 5, {**protocol, "task": "synthesis"}, of),
        Record("training", 9.0, 5, {}, of),
    ]
    first, second, other = (item for group in run_groups(records) for item in group)
    assert first == {"psnr": 20.0, "coherence_top": pytest.approx(coherence.compute().item(), abs=1e-5)}
    assert (second, other) == ({"psnr": 21.0}, {"psnr": 22.0})
    assert [len(group) for group in run_groups(records)] == [2, 1]


# Report


@pytest.mark.parametrize(
    ("increasing", "want"),
    [
        ([["a", 2, "b"]], ["From 1.00 to 3."]),
        ([["b", "a"]], ["(Not so in these numbers:) From 1.00 to 3."]),
        ([["a", "not measured"]], []),
    ],
)
def test_a_sentence_says_what_the_numbers_say(increasing: Any, want: list[str]) -> None:
    content = [{"text": "From {a:.2f}\nto {b:g}.", "increasing": increasing}]
    assert fill_sentences({"a": 1.0, "b": 3.0}, content) == want


def published() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((PUBLISHED / "calibration.json").read_text())
    return content


def test_every_published_number_follows_from_the_records() -> None:
    content = published()
    records = [Record.from_json(record) for record in content["records"]]
    text = (PUBLISHED / "calibration.md").read_text()
    assert text == markdown(records, content["missing"])
    sentences = fill_sentences(by_key(records))
    assert len(sentences) == 10
    assert not [sentence for sentence in sentences if sentence.startswith("(Not so")]


def test_the_published_agreement_over_damages_follows_from_the_ladder() -> None:
    records = [Record.from_json(record) for record in published()["records"]]
    names = list(published()["protocols"])
    over = [record for record in records if record.details and record.details.get("over") == "damages"]
    assert [record.value for record in agreement(names, damage_groups(records), "damages")] == pytest.approx(
        [record.value for record in over]
    )


# The program


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Twelve files in the layout of the faces."""
    folder = tmp_path / "data" / "celeba_64"
    (folder / "images").mkdir(parents=True)
    names = [f"images/{number:06d}.jpg" for number in range(14)]
    for name, image in zip(names, random_images(0, 14, 64), strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / name)
    for split, part in (("train", names[:1]), ("val", names[1:2]), ("test", names[2:])):
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in part))
    return tmp_path / "data"


def test_everything_is_measured_and_written(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibrate(
        data_root=faces,
        cache_dir=tmp_path / "cache",
        datasets=["celeba_64"],
        metrics=["psnr", "spectrum_distance", "lfd"],
        images=10,
        out=tmp_path / "out",
    )
    content = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert list(content["protocols"]) == ["psnr", "lfd", "spectrum_distance"]
    assert content["environment"]["cpu"]
    assert "commit" in content
    values = by_key([Record.from_json(record) for record in content["records"]])
    assert values["celeba_64 images"] == 10
    assert values["damages psnr lfd"] == pytest.approx(1)
    assert values["runs psnr lfd items"] > 40  # the published tables'
    table = (tmp_path / "out" / "calibration.md").read_text()
    assert f"| faces, 10 | psnr ↑ | inf | – | {values['celeba_64 psnr blur 0.5']:.3g} / " in table
    assert table in capsys.readouterr().out
    assert Image.open(tmp_path / "out" / "calibration.png").width > 1000
