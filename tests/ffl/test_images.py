"""Conversion between 8 bits and [-1, 1]: the two quantisations."""

import pytest
import torch

from ffl.images import from_uint8, to_uint8

LEVELS = torch.arange(256, dtype=torch.uint8)


def test_rounded_is_the_identity_on_all_levels() -> None:
    assert torch.equal(to_uint8(from_uint8(LEVELS), "rounded"), LEVELS)


def test_paper_moves_63_levels_by_one() -> None:
    moved = LEVELS.int() - to_uint8(from_uint8(LEVELS), "paper").int()
    assert (moved != 0).sum() == 63
    assert set(moved.tolist()) == {0, 1}


def test_values_outside_the_range_are_clamped() -> None:
    images = torch.tensor([-5.0, -1.0, 1.0, 5.0])
    for protocol in ("paper", "rounded"):
        assert to_uint8(images, protocol).tolist() == [0, 0, 255, 255]


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="uint8"):
        from_uint8(torch.zeros(3))
    with pytest.raises(ValueError, match="got 'floor'"):
        to_uint8(torch.zeros(3), "floor")
