import numpy as np
import pytest
import torch

from datasets.base import ArrayRows, ImageDataset, _mix, item_uniforms


def make(count: int = 40, **options: object) -> ImageDataset:
    images = np.random.RandomState(0).randint(0, 256, (count, 3, 6, 8), dtype=np.uint8)
    names = [f"item{number}" for number in range(count)]
    pixels = ArrayRows({"image": images})
    return ImageDataset("train", pixels=pixels, names=names, fingerprint="f", found=count, **options)


def test_item_uniforms_follow_splitmix64() -> None:
    # The first outputs of SplitMix64 seeded with 0, as published with its reference implementation.
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    gamma = np.uint64(0x9E3779B97F4A7C15)
    assert _mix(np.arange(1, 4, dtype=np.uint64) * gamma).tolist() == published


def test_item_uniforms_are_uniform_and_unrelated() -> None:
    draws = item_uniforms(7, np.arange(20_000), 3)
    assert draws.shape == (20_000, 3)
    assert draws.min() >= 0
    assert draws.max() < 1
    # 20 bins of 3,000: a chi-squared variable of 19 degrees exceeds 50 with probability 1e-4.
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert ((counts - 3000) ** 2 / 3000).sum() < 50
    neighbours = item_uniforms(8, np.arange(20_000), 3)
    for other in (neighbours[:, 0], np.roll(draws[:, 0], 1), draws[:, 1]):
        assert abs(np.corrcoef(draws[:, 0], other)[0, 1]) < 4 / np.sqrt(20_000)


def test_item_uniforms_take_any_integer_seed() -> None:
    seeds = [0, 1, -1, 2**64 - 1, 2**70 + 5, 5]
    firsts = {seed: item_uniforms(seed, np.array([3]), 1)[0, 0] for seed in seeds}
    assert firsts[-1] == firsts[2**64 - 1]
    assert firsts[2**70 + 5] == firsts[5]
    assert len(set(firsts.values())) == 4


def test_batch_gathers_uint8_in_the_order_asked_for() -> None:
    dataset = make()
    batch = dataset.batch(np.array([5, 3, 5]), None)
    assert batch["image"].dtype == torch.uint8
    assert torch.equal(batch["image"][0], batch["image"][2])
    assert np.array_equal(batch["image"].numpy(), dataset._pixels.arrays["image"][[5, 3, 5]])
    assert batch["index"].tolist() == [5, 3, 5]
    assert dataset.image_size == (6, 8)


def test_batch_does_not_hand_out_the_data_itself() -> None:
    dataset = make()
    dataset.batch(np.arange(3), None)["image"].zero_()
    assert dataset.batch(np.arange(3), None)["image"].sum() > 0


def test_rows_select_items() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 2, 2), dtype=np.uint8)
    pixels, rows = ArrayRows({"image": images}), np.array([4, 0, 2])
    dataset = ImageDataset("test", pixels=pixels, rows=rows, names=["a", "b", "c"], fingerprint="f", found=5)
    assert dataset.batch(np.arange(3), None)["image"][:, 0, 0, 0].tolist() == [4, 0, 2]


def test_flips_depend_on_seed_and_item_only() -> None:
    dataset = make(horizontal_flip=True)
    whole = dataset.batch(np.arange(40), 11)["image"]
    for indices in (np.array([7]), np.array([30, 7, 2]), np.arange(39, -1, -1)):
        assert torch.equal(dataset.batch(indices, 11)["image"], whole[torch.from_numpy(indices.copy())])
    plain = dataset.batch(np.arange(40), None)["image"]
    flipped = [torch.equal(whole[item], plain[item].flip(-1)) for item in range(40)]
    kept = [torch.equal(whole[item], plain[item]) for item in range(40)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    # 40 fair coins lie within 8..32 but for one time in 10,000.
    assert 8 <= sum(flipped) <= 32
    assert not torch.equal(whole, dataset.batch(np.arange(40), 12)["image"])


def test_no_flip_unless_asked_for() -> None:
    dataset = make()
    assert torch.equal(dataset.batch(np.arange(40), 11)["image"], dataset.batch(np.arange(40), None)["image"])


@pytest.mark.parametrize("indices", [[-1], [40], [0, 400]])
def test_index_outside_is_an_error(indices: list[int]) -> None:
    with pytest.raises(IndexError, match="outside the 40 items"):
        make().batch(np.array(indices), None)


@pytest.mark.parametrize(
    ("shape", "dtype", "names"),
    [((2, 1, 4, 4), "uint8", ["a", "b"]), ((2, 3, 4, 4), "float32", ["a", "b"]), ((2, 3, 4, 4), "uint8", ["a", "a"])],
)
def test_wrong_arrays_are_refused(shape: tuple[int, ...], dtype: str, names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"must be uint8|unique names"):
        ImageDataset("train", pixels=ArrayRows({"image": np.zeros(shape, dtype)}), names=names, fingerprint="", found=2)
