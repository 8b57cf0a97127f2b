"""Fréchet distance and feature statistics: official values, closed forms on singular covariances."""

import numpy as np
import pytest
import torch
from oracles import Case, names

from ffl.metrics.frechet import FeatureStatistics, frechet_by_definition, frechet_distance


@pytest.mark.parametrize("name", names("j_fid_"))
def test_equals_official_values(name: str) -> None:
    case = Case(name)
    first, second = (FeatureStatistics.of(features) for features in case.tensors().values())
    case.check("mu1", first.mean())
    case.check("mu2", second.mean())
    case.check("sigma1_diagonal", first.covariance().diagonal())
    value = frechet_distance(first.mean(), first.covariance(), second.mean(), second.covariance())
    for output in ("fid", "fid_torch_fidelity", "fid_eigenvalues"):
        case.check(output, value)


def test_diagonal_covariances() -> None:
    """Independent coordinates: sum of squared differences of means and of standard deviations, zeros included."""
    std1, std2 = np.array([0.0, 1.0, 2.0, 0.0]), np.array([3.0, 0.0, 2.5, 0.0])
    mu1, mu2 = np.array([0.0, 1.0, 0.0, 0.0]), np.array([2.0, 1.0, 0.0, 1.0])
    expected = ((mu1 - mu2) ** 2).sum() + ((std1 - std2) ** 2).sum()
    assert frechet_distance(mu1, np.diag(std1**2), mu2, np.diag(std2**2)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("dims", [2, 50, 300])
def test_rank_one_covariances(dims: int) -> None:
    """For u uᵀ and v vᵀ the trace of the root is |u·v|: |u|² + |v|² - 2 |u·v|."""
    rng = np.random.RandomState(dims)
    u, v = rng.standard_normal((2, dims))
    expected = u @ u + v @ v - 2 * abs(u @ v)
    value = frechet_distance(np.zeros(dims), np.outer(u, u), np.zeros(dims), np.outer(v, v))
    assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rank", [1, 5, 39])
def test_low_rank_in_rotated_axes(rank: int) -> None:
    """Covariances that share eigenvectors commute: the distance is that of the standard deviations."""
    rng = np.random.RandomState(rank)
    axes = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    std1, std2 = np.zeros(40), np.zeros(40)
    std1[:rank], std2[:rank] = rng.uniform(0.5, 2, (2, rank))
    std2[-1] = 1.5
    sigma1, sigma2 = (axes * std1**2) @ axes.T, (axes * std2**2) @ axes.T
    value = frechet_distance(np.zeros(40), sigma1, np.zeros(40), sigma2)
    assert value == pytest.approx(((std1 - std2) ** 2).sum(), rel=1e-9)


def test_degenerate_sets() -> None:
    zero = np.zeros((3, 3))
    assert frechet_distance(np.zeros(3), zero, np.ones(3), zero) == 3.0
    assert frechet_distance(np.zeros(3), zero, np.zeros(3), np.eye(3)) == 3.0
    sigma = np.cov(np.random.RandomState(0).standard_normal((20, 60)), rowvar=False)
    assert abs(frechet_distance(np.zeros(60), sigma, np.zeros(60), sigma)) < 1e-10


def test_is_symmetric_and_scales_with_the_square() -> None:
    rng = np.random.RandomState(1)
    sigma1, sigma2 = (np.cov(rng.standard_normal((n, 30)), rowvar=False) for n in (100, 20))
    mu1, mu2 = rng.standard_normal((2, 30))
    value = frechet_distance(mu1, sigma1, mu2, sigma2)
    assert frechet_distance(mu2, sigma2, mu1, sigma1) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(3 * mu1, 9 * sigma1, 3 * mu2, 9 * sigma2) == pytest.approx(9 * value, rel=1e-12)


def test_equals_the_definition() -> None:
    rng = np.random.RandomState(2)
    features = [rng.standard_normal((200, 30)) @ rng.standard_normal((30, 30)) + shift for shift in (0.0, 0.3)]
    statistics = [value for x in features for value in (x.mean(0), np.cov(x, rowvar=False))]
    assert frechet_distance(*statistics) == pytest.approx(frechet_by_definition(*statistics), rel=1e-9)


@pytest.mark.parametrize("count", [400, 40])
def test_equals_pytorch_fid(count: int) -> None:
    peer = pytest.importorskip("pytorch_fid.fid_score")
    rng = np.random.RandomState(count)
    mixing = np.eye(128) + 0.3 * rng.standard_normal((128, 128)) / 128**0.5
    features = [np.maximum(rng.standard_normal((count, 128)) @ mixing + shift, 0) for shift in (0.0, 0.1)]
    statistics = [(x.mean(0), np.cov(x, rowvar=False)) for x in features]
    try:
        expected = peer.calculate_frechet_distance(*statistics[0], *statistics[1])
    except TypeError as error:
        pytest.skip(f"pytorch-fid does not run with this scipy: {error}")
    assert frechet_distance(*statistics[0], *statistics[1]) == pytest.approx(expected, rel=1e-6)


def test_statistics_add_up_to_those_of_numpy() -> None:
    features = torch.randn(57, 12) + 3
    parts = [FeatureStatistics.of(part) for part in features.split(10)]
    whole = sum(parts[1:], parts[0])
    assert whole.count == 57
    np.testing.assert_allclose(whole.mean().numpy(), features.double().numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(whole.covariance().numpy(), np.cov(features.double().numpy(), rowvar=False), atol=1e-13)


def test_wrong_arguments_are_refused() -> None:
    mean, sigma = np.zeros(3), np.eye(3)
    with pytest.raises(ValueError, match=r"alike, got \(3,\) and \(2,\)"):
        frechet_distance(mean, sigma, np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match=r"D = 3, got \(3, 3\) and \(2, 2\)"):
        frechet_distance(mean, sigma, mean, np.eye(2))
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(mean, sigma, mean * np.nan, sigma)
    with pytest.raises(ValueError, match="at least 2 vectors, got 1"):
        FeatureStatistics.of(torch.zeros(1, 3)).covariance()
