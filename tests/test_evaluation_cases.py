"""Prediction and reference files -> rows: values, units, misses and false alarms, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import EvaluationError
from pipeline.evaluation.cases import COLUMNS, Pair, evaluate_pairs
from pipeline.evaluation.metric_table import METRICS

LABELS = {"background": 0, "organ": 1, "tumour": 2}


@pytest.fixture
def volumes(tmp_path: Path, write_nifti: Callable[..., Path]) -> Callable[..., Pair]:
    """Writes two label maps and gives their pair."""

    def write(case: str, reference: np.ndarray, prediction: np.ndarray, **facts: object) -> Pair:
        paths = [
            write_nifti(tmp_path / side / f"{case}.nii.gz", array.astype(np.uint8), facts.pop("spacing_mm", (1, 2, 3)))
            for side, array in (("reference", reference), ("prediction", prediction))
        ]
        return Pair(case, *paths, **facts)  # type: ignore[arg-type]

    return write


def draw(organ: slice | None, tumour: slice | None = None) -> np.ndarray:
    """A label map whose structures fill some of its 8 planes."""
    label_map = np.zeros((8, 6, 5), int)
    for value, planes in ((1, organ), (2, tumour)):
        if planes is not None:
            label_map[planes, 1:4, 1:4] = value
    return label_map


def find(rows: pd.DataFrame, case: str, label: str) -> pd.Series:
    return rows[(rows["case"] == case) & (rows["label"] == label)].iloc[0]


def test_evaluate_pairs_has_a_row_per_case_and_label_with_every_metric(volumes) -> None:
    rows = evaluate_pairs([volumes("a", draw(slice(1, 5)), draw(slice(2, 5)), fold=3)], LABELS)
    assert tuple(rows.columns) == COLUMNS
    assert set(METRICS) <= set(rows.columns)
    row = find(rows, "a", "organ")
    assert (row["fold"], row["num_voxels_reference"], row["num_voxels_prediction"]) == (3, 36, 27)
    assert row["dice"] == pytest.approx(2 * 27 / (36 + 27))
    assert (row["voxel_volume"], row["length_unit"], row["size_unit"]) == (6, "mm", "ml")


def test_evaluate_pairs_missed_and_false_alarm_are_told_apart(volumes) -> None:
    rows = evaluate_pairs(
        [
            volumes("missed", draw(slice(1, 5), slice(6, 7)), draw(slice(1, 5))),
            volumes("alarm", draw(slice(1, 5)), draw(slice(1, 5), slice(6, 7))),
            volumes("neither", draw(slice(1, 5)), draw(slice(1, 5))),
        ],
        LABELS,
    )
    told = {case: tuple(find(rows, case, "tumour")[["missed", "false_alarm"]]) for case in rows["case"].unique()}
    assert told == {"missed": (True, False), "alarm": (False, True), "neither": (False, False)}
    assert not rows.loc[rows["label"] == "organ", ["missed", "false_alarm"]].to_numpy().any()
    assert rows["missed"].dtype == bool
    assert rows["false_alarm"].dtype == bool


def test_evaluate_pairs_missed_structure_halves_the_mean_dice(volumes) -> None:
    both = draw(slice(1, 5), slice(6, 7))
    rows = evaluate_pairs([volumes("perfect", both, both), volumes("missed", both, draw(slice(1, 5)))], LABELS)
    assert rows.loc[rows["label"] == "tumour", "dice"].mean() == 0.5


@pytest.mark.parametrize(
    ("spacings_mm", "expected"),
    [
        ([(0.5, 0.25), (0.5, 0.25)], (0.125, "mm", "mm^2")),
        ([(0.5,), (0.5,)], (0.25, "mm", "mm^2")),
        ([None, None], (1.0, "pixel", "pixel")),
        ([(0.5, 0.5), None], (1.0, "pixel", "pixel")),
    ],
    ids=["two values", "one value", "unknown", "one picture unknown"],
)
def test_evaluate_pairs_pictures_are_measured_in_mm_where_all_spacings_are_known(
    tmp_path: Path, write_picture: Callable[..., Path], spacings_mm: list, expected: tuple
) -> None:
    picture = np.zeros((6, 9), np.uint8)
    picture[2:4, 3:7] = 1
    path = write_picture(tmp_path / "a.png", picture)
    pairs = [Pair(f"case_{i}", path, path, pixel_spacing_mm=spacing) for i, spacing in enumerate(spacings_mm)]
    rows = evaluate_pairs(pairs, {"background": 0, "cell": 1})
    assert set(rows[["voxel_volume", "length_unit", "size_unit"]].itertuples(index=False, name=None)) == {expected}


def test_evaluate_pairs_ignored_voxels_count_for_nothing(volumes) -> None:
    reference = draw(slice(1, 5))
    reference[5:] = 255
    rows = evaluate_pairs([volumes("a", reference, draw(slice(1, 8)))], LABELS, ignore_value=255)
    assert find(rows, "a", "organ")["dice"] == 1.0


def test_evaluate_pairs_region_joins_its_labels(volumes) -> None:
    rows = evaluate_pairs(
        [volumes("a", draw(slice(1, 5), slice(5, 7)), draw(slice(1, 6), slice(6, 7)))],
        LABELS,
        regions={"whole": (1, 2)},
    )
    assert find(rows, "a", "whole")["dice"] == 1.0
    assert find(rows, "a", "organ")["dice"] < 1.0


def test_evaluate_pairs_missing_prediction_is_refused(volumes) -> None:
    pair = volumes("a", draw(slice(1, 5)), draw(slice(1, 5)))
    pair.prediction.unlink()
    with pytest.raises(EvaluationError, match=r"1 of 1 predictions are missing in prediction/, for example a\.nii\.gz"):
        evaluate_pairs([pair], LABELS)


def test_evaluate_pairs_unknown_value_is_refused(volumes) -> None:
    with pytest.raises(EvaluationError, match=r"a\.nii\.gz has the value 7; expected background=0"):
        evaluate_pairs([volumes("a", draw(slice(1, 5)), 7 * draw(slice(1, 5)))], LABELS)


def test_evaluate_pairs_other_shape_is_refused(volumes) -> None:
    with pytest.raises(EvaluationError, match=r"shape \(7, 6, 5\), its reference \(8, 6, 5\)"):
        evaluate_pairs([volumes("a", draw(slice(1, 5)), draw(slice(1, 5))[:7])], LABELS)
