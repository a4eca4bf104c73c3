"""From SEG and RTSTRUCT labels to numbers, as a user goes: the plan, the label maps and the results are those of NIfTI."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import phantom_bundles as phantoms
import pytest

from unet_pipeline.planning.plan import Plan, read_plan

from ..dicom_label_phantoms import write_three_ways

pytestmark = [pytest.mark.real_data, pytest.mark.dicom_tools]
Call = Callable[..., tuple[int, str, str]]
NUM_CASES = 4
NUMBERS = {**phantoms.SMALL_3D, "num_epochs": 1, "iterations_per_epoch": 20, "val_interval": 1}
# names and places of the data; everything else is what the voxels say
ITS_OWN = {"dataset_name", "dataset_dir", "channel_names", "modalities"}


def run(call_main: Call, *arguments: object) -> str:
    status, shown, said = call_main(*arguments)
    assert status == 0, said
    return shown + said


def read_values(plan: Plan) -> dict[str, object]:
    return {name: value for name, value in plan.model_dump().items() if name not in ITS_OWN}


def read_maps(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(nib.load(path).dataobj) for path in sorted(folder.glob("*.nii.gz"))}


def read_metrics(bundle: Path) -> list[dict[str, str]]:
    with (bundle / "evidence" / "evaluations" / "validation" / "metrics.csv").open() as table:
        return list(csv.DictReader(table))


def test_training_from_seg_and_rtstruct_is_the_training_from_nifti(
    tmp_path: Path, pipeline_data: Path, call_main: Call
) -> None:
    roots = write_three_ways(pipeline_data / "Task04_Hippocampus", tmp_path, NUM_CASES)
    plans, labels, predicted, metrics = {}, {}, {}, {}
    for kind, root in roots.items():
        bundle, out = tmp_path / f"{kind}_bundle", tmp_path / f"{kind}_out"
        run(call_main, "check", root)
        run(call_main, "plan", root, bundle, "--preset", "quick", "--folds", "2")
        plans[kind] = read_values(read_plan(bundle / "configs" / "plan.yaml"))
        phantoms.change_plan(bundle, **NUMBERS)
        run(call_main, "train", bundle, "--deterministic")
        run(call_main, "predict", bundle, root / ("imagesTr" if kind == "nifti" else "images"), out)
        run(call_main, "evaluate", bundle, *(() if kind == "nifti" else ("--format", "dicomseg")))
        labels[kind] = read_maps(root / "labelsTr" if kind == "nifti" else tmp_path / f"{kind}_bundle_data" / "labels")
        predicted[kind], metrics[kind] = read_maps(out), read_metrics(bundle)
    assert len(labels["nifti"]) == NUM_CASES
    for kind in ("seg", "rtstruct"):
        assert plans[kind] == plans["nifti"]
        for known, expected in ((labels[kind], labels["nifti"]), (predicted[kind], predicted["nifti"])):
            assert known.keys() == expected.keys()
            assert {name: int((known[name] != expected[name]).sum()) for name in expected} == dict.fromkeys(expected, 0)
        assert metrics[kind] == metrics["nifti"]
