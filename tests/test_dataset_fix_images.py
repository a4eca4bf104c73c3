"""Grey saved as colours is found by the values, and made one channel without a change where the channels are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unet_pipeline.dataset.dataset import Case
from unet_pipeline.dataset.fix_images import find_grey_cases, make_grey, measure_difference
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.options import ReadOptions

GREY = np.random.default_rng(0).integers(0, 256, (12, 16)).astype(np.uint8)


def colour(difference: int = 0, rows: np.ndarray = GREY) -> np.ndarray:
    """Three channels, of which one differs in one pixel."""
    rows = np.stack([rows] * 3, axis=-1)
    rows[3, 4] = (100, 100 + difference, 100)
    return rows


@pytest.mark.parametrize(
    ("pictures", "found"),
    [
        ({"a": colour(), "b": colour()}, {"a", "b"}),
        ({"a": colour(4), "b": GREY}, {"a"}),
        ({"a": colour(), "b": colour(5)}, set()),
        ({"a": GREY, "b": GREY}, set()),
    ],
)
def test_find_grey_cases_all_or_none(
    tmp_path: Path, write_picture: Callable, pictures: dict[str, np.ndarray], found: set[str]
) -> None:
    for name, rows in pictures.items():
        write_picture(tmp_path / f"{name}.png", rows)
    cases = [Case(name, Path(f"{name}.png"), None) for name in pictures]
    assert find_grey_cases(tmp_path, cases, ReadOptions()) == found


def test_find_grey_cases_unreadable_image_has_no_say(tmp_path: Path, write_picture: Callable) -> None:
    write_picture(tmp_path / "a.png", colour())
    (tmp_path / "b.png").write_bytes(b"broken")
    cases = [Case(name, Path(f"{name}.png"), None) for name in "abc"]
    assert find_grey_cases(tmp_path, cases, ReadOptions()) == {"a"}


def test_find_grey_cases_a_file_per_channel_is_left(tmp_path: Path, write_picture: Callable) -> None:
    for name in "ab":
        write_picture(tmp_path / f"{name}.png", colour())
    case = Case("case", Path("a.png"), None, further_channels=(Path("b.png"),))
    assert find_grey_cases(tmp_path, [case], ReadOptions()) == set()


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535)])
def test_measure_difference_is_a_fraction_of_full_scale(dtype: type, full: int) -> None:
    array = np.zeros((3, 2, 2), dtype)
    array[2, 0, 1] = full
    assert measure_difference(MedicalImage(array, np.eye(4), (1.0, 1.0))) == 1
    array[2, 0, 1] = 0
    assert measure_difference(MedicalImage(array, np.eye(4), (1.0, 1.0))) == 0


def test_make_grey_keeps_equal_channels_and_rounds_the_mean_of_others() -> None:
    same = MedicalImage(np.stack([GREY] * 3), np.eye(4), (1.0, 1.0))
    np.testing.assert_array_equal(make_grey(same).array, GREY[None])
    array = np.array([[[10]], [[11]], [[11]]], np.uint8)
    assert make_grey(MedicalImage(array, np.eye(4), (1.0, 1.0))).array.tolist() == [[[11]]]
