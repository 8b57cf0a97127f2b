from pathlib import Path

import pytest
from image_files import touch

from datasets.listing import (
    check_disjoint,
    draw_order,
    draw_splits,
    find_images,
    hold_out_val,
    item_names,
    num_test_images,
    read_list,
    split_key,
)
from ffl.errors import UserError

PATHS = [f"a/{number}.jpg" for number in range(500)]


def test_images_of_all_kinds_and_depths_are_found(tmp_path: Path) -> None:
    images = ["B.JPG", "a.png", "c/d/e.webp", "c/f.Jpeg", "g.bmp", "h.tif", "i.tiff"]
    touch(tmp_path, [*images, "readme.txt", ".hidden.png", ".cache/x.png", "noext", "c/archive.zip"])
    assert find_images(tmp_path) == sorted(images)
    assert find_images(tmp_path, recursive=False) == ["B.JPG", "a.png", "g.bmp", "h.tif", "i.tiff"]


def test_draw_is_random_and_frozen() -> None:
    order = draw_order(PATHS)
    assert sorted(order) == sorted(PATHS)
    # From sha256sum and sort over "a/<n>". It must never change: published splits depend on it.
    assert order[:4] == ["a/68.jpg", "a/2.jpg", "a/420.jpg", "a/429.jpg"]
    assert draw_order(reversed(PATHS)) == order


def test_more_images_do_not_reorder_the_others() -> None:
    more = draw_order([*PATHS, *(f"a/{number}.jpg" for number in range(500, 900))])
    assert [path for path in more if path in set(PATHS)] == draw_order(PATHS)


def test_draw_ignores_suffix_and_leading_zeros() -> None:
    other = [f"a/{number:05d}.png" for number in range(500)]
    assert [split_key(path) for path in draw_order(other)] == [split_key(path) for path in draw_order(PATHS)]


def test_splits_partition_and_test_does_not_depend_on_val() -> None:
    without = draw_splits(PATHS, 50)
    assert "val" not in without
    splits = hold_out_val(without, 20)
    assert {split: len(paths) for split, paths in splits.items()} == {"train": 430, "test": 50, "val": 20}
    assert sorted(path for paths in splits.values() for path in paths) == sorted(PATHS)
    assert splits["test"] == without["test"]
    check_disjoint(splits, "here")
    # The val images are those that follow in the order of the draw.
    assert splits["val"] == sorted(draw_order(PATHS)[50:70])


def test_a_natural_val_split_stays() -> None:
    splits = {"train": ["a", "b"], "val": ["c"]}
    assert hold_out_val(splits, 1) == splits


@pytest.mark.parametrize(
    ("found", "wanted", "fraction", "count"),
    [(202_599, 3000, 0.1, 3000), (30_000, 3000, 0.1, 3000), (500, 3000, 0.1, 50), (5, 3000, 0.0, 0)],
)
def test_number_of_test_images(found: int, wanted: int, fraction: float, count: int) -> None:
    assert num_test_images(found, wanted, fraction) == count


def test_overlapping_splits_are_named() -> None:
    with pytest.raises(UserError, match=r"here: 1 images are in two splits, such as b\.png"):
        check_disjoint({"train": ["a.png", "b.png"], "test": ["b.png"]}, "here")


def test_names_are_unique() -> None:
    assert item_names(["a/b.png", "c.d.jpg", "7.jpg"]) == ["a_b", "c.d", "7"]
    names = item_names(["x/y.jpg", "x/y.png", "x_y.jpg", "z.jpg"])
    assert len(set(names)) == 4
    assert all(name.startswith("x_y_") for name in names[:3])
    assert names[3] == "z"
    assert item_names(["x_y.jpg", "x/y.png", "x/y.jpg"])[::-1] == names[:3]


def test_list_file(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(b"./a/b.jpg\r\n\r\n  c d.jpg \n")
    assert read_list(path) == ["a/b.jpg", "c d.jpg"]


@pytest.mark.parametrize("line", ["/etc/passwd", "../x.jpg", "a/../../x.jpg"])
def test_list_may_not_leave_the_folder(tmp_path: Path, line: str) -> None:
    path = tmp_path / "train.txt"
    path.write_text(f"a.jpg\n{line}\n")
    with pytest.raises(UserError, match="stay inside"):
        read_list(path)


def test_binary_list_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="cannot be read as a list"):
        read_list(path)
