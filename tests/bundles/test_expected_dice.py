"""Expected Dice from `evaluate` to `predict`: what is added up while the network computes, and what is said of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.evidence.records.prediction_record import read_entries
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.prediction.confidence import ConfidenceSums
from unet_pipeline.quality.doubt_tables import list_doubts
from unet_pipeline.quality.expected_dice import EXPECTED_DICE_FILE, fit_labels

from ..quality_cases import simulate_cases
from ..scripts import require_schema
from .conftest import TrainedBundle

CallMain = Callable[..., tuple[int, str, str]]


def find_images(bundle: TrainedBundle) -> str:
    return "imagesTr" if (bundle.dataset / "imagesTr").is_dir() else "images"


def read_table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


def fit_simulated(folder: BundleFolder) -> None:
    """Expected Dice of the bundle's labels, of simulated cases."""
    labels = list(read_plan(folder.plan).label_table)[1:]
    by_label = {label: simulate_cases(40, number) for number, label in enumerate(labels)}
    weights = [compute_sha256(folder.weights)]
    record = fit_labels(by_label, "ml", "simulated").model_copy(update={"weights_sha256": weights})
    write_json(folder.evidence / EXPECTED_DICE_FILE, record.model_dump(mode="json"))


def test_what_is_added_up_is_what_the_probabilities_say(bundle: TrainedBundle, tmp_path: Path) -> None:
    case = next(iter(sorted((bundle.dataset / find_images(bundle)).iterdir())))
    out = tmp_path / "out"
    unet_pipeline.predict(bundle.root, case, out, device="cpu", probabilities=True)
    plan = read_plan(BundleFolder(bundle.root).plan)
    (doubt,) = list_doubts(read_entries(out)).values()
    (path,) = out.glob("*_probabilities.*")
    if path.suffix == ".npz":
        probabilities = np.load(path)["probabilities"]
    else:
        import nibabel as nib

        probabilities = np.moveaxis(np.asarray(nib.load(path).dataobj), -1, 0)
    sums = ConfidenceSums(len(plan.label_table), plan.spatial_dims)
    sums.add(torch.from_numpy(np.ascontiguousarray(probabilities)))
    for value, expected in zip(list(plan.label_table.values())[1:], sums.describe()[1:], strict=True):
        confidence, shape = doubt.labels[value]
        for key, number in vars(expected).items():
            assert getattr(confidence, key) == pytest.approx(number, rel=0.02, nan_ok=True), key
        assert shape.num_voxels == pytest.approx(expected.predicted_voxels, rel=0.02)


def test_too_few_cases_are_said_and_nothing_is_invented(
    bundle_2d: TrainedBundle, tmp_path: Path, call_main: CallMain
) -> None:
    own = bundle_2d.copy_to(tmp_path)
    status, shown, said = call_main("evaluate", own.root, "--device", "cpu", "--quality")
    assert status == 0, said
    assert "too few cases of every label" in shown
    require_schema(
        json.loads((own.root / "evidence" / "evaluations" / "validation" / "quality.json").read_text()), "quality"
    )
    record = json.loads((own.root / "evidence" / EXPECTED_DICE_FILE).read_text())
    assert [label["line"] for label in record["labels"]] == [None]
    assert "too few validation cases" in record["labels"][0]["reason"]
    assert "one fold only" in record["notes"][0]
    assert record["is_mirrored"] is False
    require_schema(record, "expected_dice")
    call_main("predict", own.root, own.dataset / find_images(own), tmp_path / "out", "--device", "cpu")
    rows = read_table(tmp_path / "out")
    assert all(row["expected_dice"] == "" for row in rows.values())
    assert all(
        "too few" in row["expected_dice_note"] or "outside" in row["expected_dice_note"] for row in rows.values()
    )
    assert sorted(int(row["review_rank"]) for row in rows.values()) == list(range(1, len(rows) + 1))


def test_predictions_have_expected_dice_and_an_order_to_look_at(
    bundle_3d: TrainedBundle, tmp_path: Path, call_main: CallMain
) -> None:
    own, out = bundle_3d.copy_to(tmp_path), tmp_path / "out"
    fit_simulated(BundleFolder(own.root))
    arguments = "predict", own.root, own.dataset / find_images(own), out, "--device", "cpu"
    status, shown, said = call_main(*arguments, "--review", "2")
    assert status == 0, said
    assert "look at these first" in shown
    assert f"{out / 'predictions.csv'}  (input contract: {len(list(out.glob('*.nii.gz')))} not compared)" in shown
    rows = read_table(out)
    labels = list(read_plan(BundleFolder(own.root).plan).label_table)[1:]
    table = shown[shown.index("look at these first") :]
    assert "90 % interval" in table
    first = min((row for row in rows.values() if row["expected_dice"]), key=lambda row: int(row["review_rank"]))
    low, label = min((float(first[f"expected_dice_{label}_low"] or 2), label) for label in labels)
    assert f"{low:.2f} to {float(first[f'expected_dice_{label}_high']):.2f}" in table
    for row in rows.values():
        for label in labels:
            key = f"expected_dice_{label}"
            if row[key]:
                assert 0 <= float(row[f"{key}_low"]) <= float(row[key]) <= float(row[f"{key}_high"]) <= 1
            assert float(row[f"size_{label}_ml"]) >= 0
    assert any(row["expected_dice"] for row in rows.values())
    said_lows = {
        case: min(float(row[f"expected_dice_{label}_low"]) for label in labels if row[f"expected_dice_{label}_low"])
        for case, row in rows.items()
        if row["expected_dice"]
    }
    by_rank = sorted(said_lows, key=lambda case: int(rows[case]["review_rank"]))
    assert [said_lows[case] for case in by_rank] == sorted(said_lows.values())
    path = own.root / "evidence" / EXPECTED_DICE_FILE
    fitted = path.read_text()
    path.write_text(fitted.replace(compute_sha256(BundleFolder(own.root).weights), "0" * 64))
    call_main(*arguments)
    assert {row["expected_dice"] for row in read_table(out).values()} == {""}
    assert all("other weights" in row["expected_dice_note"] for row in read_table(out).values())
    path.write_text(fitted.replace('"is_mirrored": false', '"is_mirrored": true'))
    call_main(*arguments)
    assert all("predict with --mirror" in row["expected_dice_note"] for row in read_table(out).values())
    path.write_text(fitted)
    call_main(*arguments)
    before = (out / "predictions.csv").read_text()
    call_main(*arguments)  # kept label maps keep what is known of them
    assert (out / "predictions.csv").read_text() == before
    status, _, said = call_main(*arguments[:-2], "--device", "cpu", "--jobs", "2")
    assert (status, (out / "predictions.csv").read_text()) == (0, before), said


def test_quality_of_what_it_cannot_be_measured_on_is_refused(
    bundle_2d: TrainedBundle, tmp_path: Path, call_main: CallMain
) -> None:
    own = bundle_2d.copy_to(tmp_path)
    status, _, said = call_main(
        "evaluate", own.root, "--predictions", own.dataset / "labels", "--out", tmp_path / "given", "--quality"
    )
    assert (status, "--quality needs what `predict` adds up" in said) == (1, True)
    status, _, said = call_main("evaluate", own.root, own.dataset, "--device", "cpu", "--quality")
    assert (status, "has no expected Dice that could be measured on other cases" in said) == (1, True)
    fit_simulated(BundleFolder(own.root))
    status, _, said = call_main("evaluate", own.root, own.dataset, "--device", "cpu", "--quality", "--mirror")
    assert (status, "cannot be measured on these label maps: expected Dice was fitted without mirrored" in said) == (
        1,
        True,
    )
    image = next((own.dataset / find_images(own)).iterdir())
    call_main("predict", own.root, image, tmp_path / "copies", "--mirror", "--device", "cpu")
    (row,) = read_table(tmp_path / "copies").values()
    assert (row["expected_dice"], "predict without --mirror" in row["expected_dice_note"]) == ("", True)
    status, shown, said = call_main("evaluate", own.root, own.dataset, "--device", "cpu", "--quality")
    assert (status, "expected Dice" in shown) == (0, True), said
