"""Whether label maps number objects, and what `check` makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.options import ReadOptions


def write_dots(root: Path, numbers: tuple[int, ...], first: int = 1) -> Path:
    """A picture for each number, with so many dots of 4 pixels, numbered in the label map from `first` on."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for case, number in enumerate(numbers):
        label = np.zeros((40, 48), np.uint16)
        for dot in range(number):
            row, column = 4 * (dot // 12), 4 * (dot % 12)
            label[row : row + 2, column : column + 2] = first + dot
        noise = np.random.default_rng(case).integers(0, 99, label.shape)
        PillowImage.fromarray((noise + 100 * (label > 0)).astype(np.uint8)).save(root / "images" / f"c{case}.png")
        PillowImage.fromarray(label).save(root / "labels" / f"c{case}.png")
    return root


def check(root: Path, said: bool | None = None, labels: dict[str, int] | None = None) -> CheckReport:
    return check_dataset(read_dataset(root), labels, ReadOptions(labels_are_instances=said))


def test_check_numbered_objects_are_seen(tmp_path: Path) -> None:
    report = check(write_dots(tmp_path, (70, 30, 12)))
    assert report.dataset.labels == {"background": 0, "object": 1}
    (note,) = [problem for problem in report.problems if problem.code == "labels-are-instances"]
    assert "number their objects from 1 on (up to 70)" in note.cause
    assert report.options.labels_are_instances
    assert report.needs_preparation
    assert set(report.require_no_errors().instance_sizes) == {4.0}


@pytest.mark.parametrize(
    ("numbers", "said", "labels"),
    [((25, 25, 25), None, None), ((9, 8, 7), None, None), ((25, 24, 22), False, None)],
    ids=["the same number in each", "few", "contradicted"],
)
def test_check_labels_stay_labels(tmp_path: Path, numbers: tuple[int, ...], said: bool | None, labels: None) -> None:
    report = check(write_dots(tmp_path, numbers), said, labels)
    assert report.dataset.labels is not None
    assert len(report.dataset.labels) == max(numbers) + 1
    assert not report.require_no_errors().instance_sizes


def test_check_said_of_few_objects_with_gaps_and_a_name(tmp_path: Path) -> None:
    report = check(write_dots(tmp_path, (3, 2), first=300), True, {"background": 0, "nucleus": 1})
    assert report.dataset.labels == {"background": 0, "nucleus": 1}
    assert report.require_no_errors().cases[0].num_voxels["nucleus"] == 12
