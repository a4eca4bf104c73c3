"""What is decided for all cases together: which masks may be thresholded, at what value, and why others may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from scipy import ndimage

from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.fix_rules import CaseRules, settle_rules
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.options import ReadOptions

TABLE = {"background": 0, "cell": 255}


def settle(root: Path, declared: dict[str, int] | None = None) -> CaseRules:
    dataset = read_dataset(root)
    report = check_dataset(dataset, declared)
    return settle_rules(root, dataset.cases, report, declared, ReadOptions())


def store_as_jpeg(root: Path, name: str, rows: np.ndarray | None = None) -> Path:
    """The label map of a case as JPEG, or another one in its place; its path in the dataset."""
    path = root / "labels" / f"{name}.png"
    with PillowImage.open(path) as picture:
        drawn = np.asarray(picture) if rows is None else rows
    path.unlink()
    PillowImage.fromarray(drawn.astype(np.uint8)).save(path.with_suffix(".jpg"), quality=85)
    return path.with_suffix(".jpg").relative_to(root)


def draw_three(size: tuple[int, int] = (32, 48)) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=size), 4)
    return np.array([0, 128, 255])[np.digitize(field, np.quantile(field, [0.4, 0.7]))]


def test_settle_rules_clean_dataset_has_no_masks(png_folders: Path) -> None:
    rules = settle(png_folders)
    assert (rules.masks.wrong, rules.masks.reasons, rules.grey) == ({}, {}, set())


def test_settle_rules_lossy_mask_gets_the_values_of_the_others(png_folders: Path) -> None:
    path = store_as_jpeg(png_folders, "case_02")
    rules = settle(png_folders)
    assert list(rules.masks.wrong) == [path]
    assert "JPEG" in rules.masks.wrong[path]
    assert (rules.masks.white, rules.masks.value, rules.masks.reasons) == (255, 255, {})


def test_settle_rules_thin_mask_is_thresholded_at_half_of_what_the_others_have(png_folders: Path) -> None:
    thin = np.zeros((32, 48))
    thin[10, 5:40] = thin[20, 5:40] = 190  # what averaging left of 255
    store_as_jpeg(png_folders, "case_02", thin)
    rules = settle(png_folders)
    assert (rules.masks.white, rules.masks.value) == (255, 255)


def test_settle_rules_empty_and_full_masks_are_masks(png_folders: Path) -> None:
    store_as_jpeg(png_folders, "case_01")
    store_as_jpeg(png_folders, "case_02", np.zeros((32, 48)))
    store_as_jpeg(png_folders, "case_03", np.full((32, 48), 255))
    rules = settle(png_folders)
    assert len(rules.masks.wrong) == 3
    assert rules.masks.reasons == {}


def test_settle_rules_map_of_three_values_forbids_the_others_unless_two_are_named(png_folders: Path) -> None:
    good, bad = store_as_jpeg(png_folders, "case_01"), store_as_jpeg(png_folders, "case_02", draw_three())
    rules = settle(png_folders)
    assert rules.masks.wrong == {}
    assert "labels/case_02.jpg has a third value; name the two values" in rules.masks.reasons[good.as_posix()]
    assert "regions of a third value" in rules.masks.reasons[bad.as_posix()]
    rules = settle(png_folders, TABLE)
    assert list(rules.masks.wrong) == [good]
    assert list(rules.masks.reasons) == [bad.as_posix()]


@pytest.mark.parametrize("declared", [None, {"background": 0, "one": 100, "two": 255}])
def test_settle_rules_other_label_maps_with_three_values_forbid_a_threshold(
    png_folders: Path, write_picture: Callable, declared: dict[str, int] | None
) -> None:
    path = store_as_jpeg(png_folders, "case_02")
    three = np.zeros((32, 48), np.uint8)
    three[:8], three[8:16] = 100, 255
    write_picture(png_folders / "labels/case_01.png", three // 50 if declared is None else three)
    for name in ("case_03", "case_04"):
        write_picture(png_folders / f"labels/{name}.png", three // 50 if declared is None else three)
    reason = settle(png_folders, declared).masks.reasons[path.as_posix()]
    assert reason.startswith("a threshold gives two values, and the ")
    assert reason.endswith(" 3")


def test_settle_rules_value_that_is_not_declared_and_not_white_is_left(
    png_folders: Path, write_picture: Callable
) -> None:
    for path in sorted((png_folders / "labels").iterdir()):
        rows = (np.asarray(PillowImage.open(path)) > 0).astype(np.uint8) * 7
        write_picture(path, rows)
    masks = settle(png_folders, {"background": 0, "cell": 1}).masks
    assert masks.wrong == {}
    assert masks.reasons["labels/case_01.png"] == "its inside has the value 7; expected 1, as the label table says"


def test_settle_rules_several_colours_are_no_mask(png_folders: Path) -> None:
    rows = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[draw_three() // 127]
    path = png_folders / "labels/case_02.png"
    path.unlink()
    PillowImage.fromarray(rows).save(path.with_suffix(".jpg"), quality=85)
    assert "several colours" in settle(png_folders).masks.reasons["labels/case_02.jpg"]
