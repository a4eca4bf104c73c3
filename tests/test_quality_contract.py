"""The input contract of a phantom bundle: made by `evaluate`'s step, asked by `predict` alone and with workers."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from jsonschema import validate

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import PipelineError
from unet_pipeline.evaluation.groups import group_by_fold
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.quality.contract import read_contract
from unet_pipeline.quality.fitting import write_contract

from .cohort_phantoms import build_bundle
from .phantom_bundles import SPACING_MM, draw_organ, silently, write_volume

SCHEMA = Path(__file__).parents[1] / "docs" / "contract.schema.json"
NUM_CASES = 16


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a contract, of weights that nobody trained."""
    root = build_bundle(tmp_path_factory.mktemp("contract"), num_cases=NUM_CASES)
    folder = BundleFolder(root)
    plan = read_plan(folder.plan)
    groups, _, _ = group_by_fold(folder, plan)
    silently(write_contract, folder, plan, groups, "cpu")
    return root


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """New organs, one with voxels twice as large, one inverted."""
    folder = tmp_path_factory.mktemp("images")
    for seed in range(50, 54):
        write_volume(folder / f"like_{seed}.nii.gz", draw_organ(seed)[0])
    image = draw_organ(60)[0]
    write_volume(folder / "large.nii.gz", image, np.diag([*(2 * size for size in SPACING_MM), 1.0]))
    write_volume(folder / "negative.nii.gz", 200 - image)
    return folder


def read_table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "predictions.csv").open(encoding="utf-8") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_contract_follows_its_schema_and_names_no_case(bundle: Path) -> None:
    text = (bundle / "evidence" / "contract.json").read_text(encoding="utf-8")
    validate(json.loads(text), json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert "organ_0" not in text
    contract = read_contract(BundleFolder(bundle))
    assert contract is not None
    assert contract.image.num_cases == NUM_CASES
    assert contract.image.false_alarm_rate == pytest.approx(1 / (NUM_CASES + 1), rel=1e-3)
    assert any("no fewer false alarms" in note for note in contract.notes)


def test_predict_tells_inside_from_outside_in_notes_record_and_table(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    result = silently(unet_pipeline.predict, bundle, images, tmp_path / "out")
    rows = read_table(tmp_path / "out")
    assert rows["large"]["contract"] == rows["negative"]["contract"] == "outside"
    assert all(rows[f"like_{seed}"]["contract"] != "outside" for seed in range(50, 54))
    record = json.loads((tmp_path / "out" / "predictions_run.json").read_text(encoding="utf-8"))
    assert record["images"]["large"]["contract"]["verdict"] == "outside"
    noted = {note.file: note for note in result.notes if note.code == "outside-contract"}
    assert set(noted) == {"large.nii.gz", "negative.nii.gz"}
    assert "mm is" in noted["large.nii.gz"].cause
    again = silently(unet_pipeline.predict, bundle, images, tmp_path / "out")
    assert (len(again.kept), len(again.written)) == (6, 0)
    assert read_table(tmp_path / "out") == rows


@pytest.mark.usefixtures("warm_processes")
def test_worker_gives_the_same_table(bundle: Path, images: Path, tmp_path: Path) -> None:
    for name in ("like_50.nii.gz", "large.nii.gz"):
        (tmp_path / "images").mkdir(exist_ok=True)
        shutil.copy(images / name, tmp_path / "images")
    silently(unet_pipeline.predict, bundle, tmp_path / "images", tmp_path / "alone")
    silently(unet_pipeline.predict, bundle, tmp_path / "images", tmp_path / "worker", threads=1)
    assert read_table(tmp_path / "worker") == read_table(tmp_path / "alone")


def test_strict_refuses_what_is_outside_and_writes_no_label_map_of_it(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    silently(unet_pipeline.predict, bundle, images, out)
    with pytest.raises(PipelineError, match=r"large.nii.gz is outside of what the network was trained on: .* mm is"):
        silently(unet_pipeline.predict, bundle, images, out, strict=True)
    assert sorted(path.name for path in out.glob("*.nii.gz")) == [f"like_{seed}.nii.gz" for seed in range(50, 54)]
    assert set(read_table(out)) == {f"like_{seed}" for seed in range(50, 54)}


def test_bundle_without_contract_predicts_as_before_and_says_so_once(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    old = shutil.copytree(bundle, tmp_path / "old")
    (old / "evidence" / "contract.json").unlink()
    lines: list[str] = []
    unet_pipeline.predict(old, images, tmp_path / "out", announce=lines.append)
    assert len([line for line in lines if line.startswith("contract none")]) == 1
    assert {row["contract"] for row in read_table(tmp_path / "out").values()} == {"not compared"}
    silently(unet_pipeline.predict, bundle, images, tmp_path / "new")
    for path in (tmp_path / "out").glob("*.nii.gz"):
        expected = np.asarray(nib.load(tmp_path / "new" / path.name).dataobj)
        np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), expected)
    with pytest.raises(PipelineError, match="has no input contract"):
        unet_pipeline.predict(old, images, tmp_path / "strict", strict=True)


def test_damaged_contract_is_named(bundle: Path, images: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(bundle, tmp_path / "broken")
    (broken / "evidence" / "contract.json").write_text('{"version": 1}', encoding="utf-8")
    with pytest.raises(PipelineError, match=r"evidence/contract.json of broken"):
        unet_pipeline.predict(broken, images, tmp_path / "out")
