"""Precision and recall: closed forms, and equality with distances pair by pair."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ffl.metrics import GenerativePrecision, GenerativeRecall
from ffl.metrics.precision_recall import covered_share


def explicit(points: Tensor, cover: Tensor, k: int) -> float:
    """By loops over points, in NumPy."""
    p, c = points.numpy().astype(np.float64), cover.numpy().astype(np.float64)
    radii = [np.sort(np.linalg.norm(c - center, axis=1))[k] for center in c]
    return float(np.mean([any(np.linalg.norm(c - point, axis=1) <= radii) for point in p]))


@pytest.mark.parametrize("k", [1, 3, 6])
def test_equals_distances_pair_by_pair(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffl.metrics.precision_recall.ROWS", 5)  # several uneven blocks
    monkeypatch.setattr("ffl.metrics.precision_recall.COLUMNS", 9)
    generator = torch.Generator().manual_seed(k)
    cover = torch.randn(23, 4, generator=generator) + 100  # far from zero: products alone would lose digits
    points = 1.5 * torch.randn(31, 4, generator=generator) + 100
    value = covered_share(points, cover, k).item()
    assert 0.1 < value < 1
    assert value == pytest.approx(explicit(points, cover, k), abs=1e-12)


def test_closed_forms() -> None:
    """A grid of step 1 has radius 1 at its ends and between: points are covered up to 1 beyond the ends."""
    cover = torch.arange(10.0)[:, None]
    points = torch.tensor([[-1.0], [-1.01], [4.5], [10.0], [10.01]])
    assert covered_share(points, cover, k=1).item() == 0.6
    assert covered_share(cover, cover, k=1).item() == 1
    assert covered_share(cover + 100, cover, k=3).item() == 0


def test_equal_images_cover_each_other() -> None:
    """The radius of k + 1 equal images is 0, and theirs alone."""
    cover = torch.full((4, 1280), 0.1) * torch.arange(1, 1281)
    other = cover + 1e-3
    assert covered_share(torch.cat([cover, other]), cover, k=3).item() == 0.5


def brightness(images: Tensor) -> dict[str, Tensor]:
    return {"64": images.float().mean((1, 2, 3))[:, None].expand(-1, 64)}


@pytest.mark.parametrize(
    ("metric", "value"),
    # The balls around 18, 19, 20 and 21 reach to 15 and 24: they cover 16, 18, ..., 24 of the 20 real levels.
    [(GenerativePrecision, 1.0), (GenerativeRecall, 0.25)],
)
def test_a_collapsed_generator_is_precise_and_recalls_little(metric: type[GenerativePrecision], value: float) -> None:
    measured = metric(output="64", extractor=brightness)
    levels = {True: torch.arange(0, 40, 2), False: torch.arange(18, 22)}
    for real, greys in levels.items():
        measured.update(greys.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8), real=real)
    assert measured.compute().item() == value


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"N > k = 3, got \(5, 2\) and \(3, 2\)"):
        covered_share(torch.zeros(5, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"got \(5, 3\) and \(9, 2\)"):
        covered_share(torch.zeros(5, 3), torch.zeros(9, 2))
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        GenerativePrecision(k=0, extractor=lambda images: {}, output="64")
