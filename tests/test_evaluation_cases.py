"""Prediction and reference files -> rows: values, units, misses and false alarms, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unet_pipeline.dataset.geometry import ROUNDING, SAME, compare_grids
from unet_pipeline.dataset.image import read_image
from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.cases import COLUMNS, build_requests, evaluate_by_plan, evaluate_pairs
from unet_pipeline.evaluation.mask_pair import Request
from unet_pipeline.evaluation.metric_table import METRICS
from unet_pipeline.evaluation.pairs import Pair
from unet_pipeline.planning.planner import plan_from_fingerprint

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
    assert tuple(rows.columns) == tuple(name for name in COLUMNS if name in rows.columns)
    assert [name for name in rows.columns if name in METRICS] == [
        name for name, metric in METRICS.items() if metric.family == "masks"
    ]
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
    tumour = rows[rows["label"] == "tumour"]
    assert tumour["dice"].mean() == 0.5
    assert tumour["hd95"].mean() == pytest.approx(math.hypot(8 * 1, 6 * 2, 5 * 3) / 2)
    assert tumour["nsd"].mean() == 0.5
    assert tumour["absolute_volume_error"].mean() == pytest.approx(9 * 6 / 1000 / 2)


def test_evaluate_pairs_volumes_are_measured_in_mm_and_ml(volumes) -> None:
    row = find(evaluate_pairs([volumes("a", draw(slice(1, 5)), draw(slice(1, 7)))], LABELS), "a", "organ")
    assert row["volume_error"] == pytest.approx(2 * 9 * 6 / 1000)
    assert row["hd95"] == pytest.approx(2.0)  # two planes of 1 mm


def test_evaluate_pairs_requests_decide_about_optional_metrics(volumes) -> None:
    requests = {"tumour": Request(tolerance=2.5, lesions=True), "organ": Request(thin=True, separated=True)}
    rows = evaluate_pairs(
        [volumes("a", draw(slice(1, 4), slice(6, 7)), draw(slice(1, 4), slice(7, 8)))], LABELS, requests=requests
    )
    tumour, organ = find(rows, "a", "tumour"), find(rows, "a", "organ")
    assert (tumour["num_lesions_reference"], tumour["lesion_sensitivity"], tumour["nsd"]) == (1, 0.0, 1.0)
    assert math.isnan(tumour["cldice"])
    assert math.isnan(tumour["v_rand"])
    assert organ["cldice"] == 1.0
    assert math.isnan(organ["lesion_f1"])
    assert "mean_ap" not in rows.columns


def test_build_requests_takes_the_labels_that_the_plan_names(make_fingerprint) -> None:
    labels = {"background": 0, "liver": 1, "liver_tumour": 2, "portal_vein": 3}
    plan = plan_from_fingerprint(make_fingerprint(labels=labels), "..").plan
    requests = build_requests(plan.model_copy(update={"tolerance_mm": {"liver": 4.0}}))
    assert requests["liver"] == Request(4.0)
    assert requests["liver_tumour"] == Request(1.0, lesions=True)
    assert requests["portal_vein"] == Request(1.0, thin=True)


def test_evaluate_by_plan_measures_what_the_plan_asks_for(volumes, make_fingerprint) -> None:
    plan = plan_from_fingerprint(make_fingerprint(labels=LABELS), "..").plan
    plan = plan.model_copy(update={"regions": {"whole": (1, 2)}, "ignore_value": 9, "tolerance_mm": {"organ": 2.0}})
    reference = draw(slice(1, 4), slice(6, 7))
    reference[7] = 9
    rows = evaluate_by_plan([volumes("a", reference, draw(slice(1, 6), slice(6, 8)))], plan)
    assert find(rows, "a", "tumour")["dice"] == 1.0
    assert find(rows, "a", "tumour")["lesion_f1"] == 1.0
    assert find(rows, "a", "organ")["nsd"] == 1.0
    assert find(rows, "a", "whole")["num_voxels_prediction"] == 54


@pytest.fixture
def cells(tmp_path: Path, write_picture: Callable[..., Path]) -> Pair:
    """Two cells that touch, and a third one; the prediction joins the two and finds the third."""
    instances = np.zeros((9, 12), np.uint16)
    instances[1:5, 1:4], instances[1:5, 4:7], instances[6:8, 8:11] = 700, 2, 3
    for folder in ("labels", "predictions"):
        write_picture(tmp_path / folder / "a.png", (instances > 0).astype(np.uint8))
    write_picture(tmp_path / "instances" / "a.png", instances)
    return Pair("a", tmp_path / "labels" / "a.png", tmp_path / "predictions" / "a.png")


def test_evaluate_pairs_instance_map_beside_the_labels_is_used(cells: Pair) -> None:
    row = find(evaluate_pairs([cells], {"background": 0, "cell": 1}), "a", "cell")
    assert (row["num_instances_reference"], row["num_instances_prediction"]) == (3, 2)
    assert row["ap_50"] == pytest.approx(1 / (1 + 1 + 2))  # the third; the joined part has an IoU of exactly 0.5
    assert row["panoptic_quality"] == pytest.approx(1 / 2.5)


def test_evaluate_pairs_first_label_has_no_instances(cells: Pair) -> None:
    row = find(evaluate_pairs([cells], {"background": 0, "cell": 1}), "a", "background")
    assert math.isnan(row["panoptic_quality"])


def test_evaluate_pairs_instance_map_of_other_shape_is_refused(cells: Pair, write_picture) -> None:
    write_picture(cells.reference.parent.parent / "instances" / "a.png", np.zeros((9, 11), np.uint16))
    with pytest.raises(EvaluationError, match=r"instances/a\.png has the shape \(1, 11, 9\)"):
        evaluate_pairs([cells], {"background": 0, "cell": 1})


def test_evaluate_pairs_ignored_instances_count_for_nothing(cells: Pair, write_picture) -> None:
    reference = np.zeros((9, 12), np.uint8)
    reference[1:5, 1:7], reference[6:8, 8:11] = 255, 1
    write_picture(cells.reference, reference)
    row = find(evaluate_pairs([cells], {"background": 0, "cell": 1}, ignore_value=255), "a", "cell")
    assert (row["num_instances_reference"], row["panoptic_quality"]) == (1, 1.0)


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


@pytest.mark.parametrize(("shift_voxels", "is_one_grid"), [(0.0, True), (0.049, True), (0.051, False), (-1.0, False)])
def test_evaluate_pairs_header_is_judged_as_check_judges_it(
    tmp_path: Path, write_nifti: Callable[..., Path], shift_voxels: float, is_one_grid: bool
) -> None:
    affine, other = np.diag([2.0, 2.0, 2.0, 1.0]), np.diag([2.0, 2.0, 2.0, 1.0])
    other[0, 3] = 2.0 * shift_voxels
    label_map = draw(slice(1, 5)).astype(np.uint8)
    reference = write_nifti(tmp_path / "reference" / "a.nii.gz", label_map, affine=other)
    prediction = write_nifti(tmp_path / "prediction" / "a.nii.gz", label_map, affine=affine)
    checked = compare_grids(read_image(prediction), read_image(reference), "a.nii.gz")
    assert (checked.kind in (SAME, ROUNDING)) is is_one_grid
    if is_one_grid:
        assert find(evaluate_pairs([Pair("a", reference, prediction)], LABELS), "a", "organ")["dice"] == 1
        return
    with pytest.raises(
        EvaluationError, match=r"a\.nii\.gz lies up to .* mm beside its reference a\.nii\.gz \(origin shifted"
    ):
        evaluate_pairs([Pair("a", reference, prediction)], LABELS)


def test_evaluate_pairs_takes_the_predicted_instance_map(cells: Pair, write_picture) -> None:
    instances = np.zeros((9, 12), np.uint16)
    instances[1:5, 1:4], instances[1:5, 4:7], instances[6:8, 8:11] = 9, 4, 1
    write_picture(cells.prediction.with_name("a_instances.png"), instances)
    row = evaluate_pairs([cells], {"background": 0, "cell": 1}).query("label == 'cell'").iloc[0]
    assert (row["num_instances_prediction"], row["ap_50"], row["panoptic_quality"], row["instance_count_error"]) == (
        3,
        1,
        1,
        0,
    )
