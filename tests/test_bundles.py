"""The ready bundles: complete, sealed, small, with the numbers of their evidence, and with predictions that give these numbers."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.half_weights import holds_full_weights
from unet_pipeline.dataset.image import read_label_map
from unet_pipeline.evaluation.metrics import compute_dice
from unet_pipeline.handover.package import read_eval_metrics
from unet_pipeline.planning.plan_text import read_reasons

from .scripts import load_script

BUNDLES = Path(__file__).parents[1] / "bundles"
NAMES = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/plan.yaml"))
# bfloat16 and the order of additions differ from processor to processor
DICE_TOLERANCE = 0.005


build = load_script("bundles/build.py")


def read_plan(name: str) -> dict:
    return yaml.safe_load((BUNDLES / name / "configs" / "plan.yaml").read_text(encoding="utf-8"))


def test_bundles_there_is_one_for_every_use_case() -> None:
    assert set(NAMES) == set(build.USE_CASES)


def test_bundles_every_family_of_the_u_net_line_is_there() -> None:
    families = {read_plan(name)["network_name"] for name in NAMES}
    assert families >= {"unet2015", "unet3d2016", "unetplusplus", "attention_unet", "dynunet"}


@pytest.mark.parametrize("name", NAMES)
def test_bundle_weights_are_small(name: str) -> None:
    weights = BundleFolder(BUNDLES / name).weights
    assert 0 < weights.stat().st_size <= build.MAX_WEIGHTS_BYTES
    assert not holds_full_weights(weights)


@pytest.mark.parametrize("name", NAMES)
def test_bundle_metrics_of_the_metadata_are_those_of_the_evidence(name: str) -> None:
    folder = BundleFolder(BUNDLES / name)
    metadata = json.loads(folder.metadata.read_text(encoding="utf-8"))
    assert metadata["eval_metrics"] == read_eval_metrics(folder)
    assert "mean_dice" in metadata["eval_metrics"]
    assert "Research only" in metadata["intended_use"]


@pytest.mark.parametrize("name", NAMES)
def test_bundle_files_are_those_of_its_seal(name: str) -> None:
    folder = BundleFolder(BUNDLES / name)
    listed = dict(line.split("  ")[::-1] for line in folder.seal.read_text(encoding="utf-8").splitlines())
    assert {"models/model.pt", "configs/inference.json", "configs/plan.yaml"} <= set(listed)
    for path, sha256 in listed.items():
        assert hashlib.sha256((folder.root / path).read_bytes()).hexdigest() == sha256, path


@pytest.mark.parametrize("name", NAMES)
def test_bundle_says_whose_data_it_saw_and_carries_none_of_them(name: str) -> None:
    card = build.read_card(build.USE_CASES[name].card)
    text = (BUNDLES / name / "docs" / "data_license.txt").read_text(encoding="utf-8")
    assert text == build.describe_data(card)
    listed = BundleFolder(BUNDLES / name).seal.read_text(encoding="utf-8")
    assert not [line for line in listed.splitlines() if line.endswith((".nii.gz", ".png", ".npz", ".nii"))]


@pytest.mark.parametrize(
    ("licence", "shown"),
    [("CC0 1.0", True), ("CC BY 4.0", True), ("CC BY-SA 4.0", False), ("CC BY-NC 4.0", False), ("not stated", False)],
)
def test_shows_cases_where_the_licence_asks_for_credit_at_most(licence: str, shown: bool) -> None:
    assert build.shows_cases({"licence": licence}) is shown


def test_reasons_of_pictures_speak_of_pixels(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    path = shutil.copy(BUNDLES / "nuclei_fluorescence" / "configs" / "plan.yaml", tmp_path / "configs")
    before = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    build.rename_elements(BundleFolder(tmp_path))
    assert yaml.safe_load(Path(path).read_text(encoding="utf-8")) == before
    reasons = read_reasons(Path(path))
    assert "65536 pixels" in reasons["patch_size"]
    assert not [why for why in reasons.values() if "voxel" in why]


@pytest.mark.parametrize("name", NAMES)
def test_bundle_runs_what_plan_writes_once_it_is_refreshed(name: str, tmp_path: Path) -> None:
    for part in ("configs", "unet_networks"):
        if (BUNDLES / name / part).is_dir():
            shutil.copytree(BUNDLES / name / part, tmp_path / name / part)
    unet_pipeline.refresh(tmp_path / name)
    found = unet_pipeline.audit(tmp_path / name)
    assert found.passed, found.dangers
    assert len([run for run in found.runs if run.kind == "target"]) > 60


def test_tables_are_those_of_the_bundles() -> None:
    for page, text in build.build_pages().items():
        assert page.read_text(encoding="utf-8") == text, page


@pytest.mark.real_data
@pytest.mark.parametrize("name", [name for name in NAMES if build.USE_CASES[name].card != build.DEMO])
def test_bundle_prediction_gives_the_dice_of_its_evidence(name: str, pipeline_data: Path, tmp_path: Path) -> None:
    case = BundleFolder(BUNDLES / name).read_split(0).validation[0]
    plan = read_plan(name)
    data = pipeline_data / build.read_card(build.USE_CASES[name].card)["name"]
    label = read_label_map(data / case.label).array
    image = tmp_path / "image" / f"{case.case}{plan['image_suffix']}"
    image.parent.mkdir()
    image.write_bytes((data / case.image).read_bytes())
    (written,) = unet_pipeline.predict(BUNDLES / name, image, tmp_path / "out").written
    predicted = read_label_map(written).array
    with (BUNDLES / name / "evidence" / "evaluations" / "validation" / "metrics.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["case"] == case.case]
    assert rows
    for row in rows:
        value = plan["label_table"][row["label"]]
        assert compute_dice(label == value, predicted == value) == pytest.approx(float(row["dice"]), abs=DICE_TOLERANCE)
