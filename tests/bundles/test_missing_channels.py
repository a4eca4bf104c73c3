"""Images that lack channels, the whole way as a user goes it: check, plan, train, predict, evaluate, package, stock MONAI."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

import unet_pipeline
from tests.phantom_bundles import SMALL_3D, change_plan, silently, write_volume
from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.errors import PredictionError
from unet_pipeline.files import write_json
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.prediction.engines import build_engines
from unet_pipeline.prediction.inputs import list_inputs
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.reuse import without_record
from unet_pipeline.prediction.run import CaseLoop

SHAPE = (24, 26, 18)
LACKING = {1: (1,), 2: (0,), 5: (1,), 6: (0,)}  # channels of cases that have no file of them
NUMBERS = SMALL_3D | {"num_epochs": 1, "iterations_per_epoch": 50, "val_interval": 1, "window_size": [24, 28, 20]}


def write_case(root: Path, name: str, seed: int, lacking: tuple[int, ...] = (), labels: Path | None = None) -> None:
    """A ball that both channels show, and in each a paler one of its own, which is nothing."""
    generator = np.random.default_rng(seed)
    balls = []
    for corner in ((7, 7, 9), (17, 8, 9), (8, 19, 9)):
        offsets = np.indices(SHAPE) - (np.array(corner) + generator.uniform(-1, 1, 3))[:, None, None, None]
        balls.append(((offsets**2).sum(axis=0) < 25).astype(np.uint8))
    label, *pale = (balls[place] for place in generator.permutation(3))
    for place in range(2):
        image = (100 + 40.0 * label + 20.0 * pale[place] + generator.normal(0, 4, SHAPE)).astype(np.float32)
        if place not in lacking:
            write_volume(root / f"{name}_{place:04d}.nii.gz", image)
    if labels is not None:
        write_volume(labels / f"{name}.nii.gz", label)


def write_dataset(root: Path, lacking: dict[int, tuple[int, ...]]) -> Path:
    for index in range(8):
        write_case(root / "imagesTr", f"ball_{index}", index, lacking.get(index, ()), root / "labelsTr")
    channels, labels = {"0": "t1", "1": "t2"}, {"background": 0, "ball": 1}
    write_json(root / "dataset.json", {"channel_names": channels, "labels": labels, "file_ending": ".nii.gz"})
    return root


def train_on(root: Path, lacking: dict[int, tuple[int, ...]], fold: str | int, *allowed: str) -> Path:
    data, bundle = write_dataset(root / "data", lacking), root / "bundle"
    options = ReadOptions(missing_channels=allowed)
    silently(unet_pipeline.plan, data, bundle, preset="quick", folds=2, seed=2, options=options)
    silently(unet_pipeline.train, change_plan(bundle, **NUMBERS), fold)
    return bundle


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """New cases: one that is whole, and one without each channel."""
    root = tmp_path_factory.mktemp("images")
    for index, lacking in enumerate(((), (0,), (1,))):
        write_case(root, f"new_{index}", 100, lacking, root / "labels")
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_on(tmp_path_factory.mktemp("missing"), LACKING, "all", "any")


@pytest.fixture(scope="module")
def whole_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of complete cases, planned without the option."""
    return train_on(tmp_path_factory.mktemp("whole"), {}, 0)


def measure_dice(label_map: Path, images: Path) -> float:
    predicted, expected = (
        np.asarray(nib.load(path).dataobj) > 0 for path in (label_map, images / "labels" / label_map.name)
    )
    return float(2 * (predicted & expected).sum() / (predicted.sum() + expected.sum()))


def test_plan_says_what_may_be_missing_and_why(bundle: Path, whole_bundle: Path) -> None:
    plan, other = (read_plan(one / "configs" / "plan.yaml") for one in (bundle, whole_bundle))
    assert (plan.missing_channels, plan.channel_dropout) == (("t1", "t2"), 0.5)
    assert (other.missing_channels, other.channel_dropout) == ((), 0.0)
    text = (bundle / "configs" / "plan.yaml").read_text(encoding="utf-8")
    assert "half of the samples lose a random set of the channels" in text
    configs = [json.loads((one / "configs" / "train.json").read_text()) for one in (bundle, whole_bundle)]
    assert configs[0]["augmentation"]["channel_dropout"]["missing_channels"] == "@missing_channels"
    assert "channel_dropout" not in json.dumps(configs[1])
    for change in ({"missing_channels": ("t9",)}, {"channel_names": ("t1",), "missing_channels": ("t1",)}):
        with pytest.raises(ValueError, match="missing_channels has"):
            type(plan).model_validate(plan.model_dump() | change)


def test_images_without_a_channel_are_predicted_better_than_without_dropout(
    bundle: Path, whole_bundle: Path, images: Path, tmp_path: Path
) -> None:
    predicted = silently(unet_pipeline.predict, bundle, images, tmp_path / "out")
    assert [(note.code, note.file, note.cause) for note in predicted.notes] == [
        ("missing-channels", f"new_{index}_{1 - place:04d}.nii.gz", f"lacks the channel(s) {name}; {_DOES_WITHOUT}")
        for index, place, name in ((1, 0, "t1"), (2, 1, "t2"))
    ]
    dice = [measure_dice(path, images) for path in sorted((tmp_path / "out").glob("*.nii.gz"))]
    assert min(dice) > 0.75
    zeroed = tmp_path / "zeroed"  # what a network without dropout makes of the same images, with files of zeros
    for index, place in ((1, 0), (2, 1)):
        for path in images.glob(f"new_{index}_*.nii.gz"):
            write_volume(zeroed / path.name, np.asarray(nib.load(path).dataobj))
        write_volume(zeroed / f"new_{index}_{place:04d}.nii.gz", np.zeros(SHAPE, np.float32))
    silently(unet_pipeline.predict, whole_bundle, zeroed, tmp_path / "without")
    without = [measure_dice(path, images) for path in sorted((tmp_path / "without").glob("*.nii.gz"))]
    assert np.mean(dice[1:]) > np.mean(without) + 0.08  # 0.09, 0.11 and 0.17 for three seeds, this one the last


_DOES_WITHOUT = "the network was trained to do without"


def test_table_and_record_say_what_was_missing(bundle: Path, images: Path, tmp_path: Path) -> None:
    silently(unet_pipeline.predict, bundle, images, tmp_path)
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        assert {row["case"]: row["missing_channels"] for row in csv.DictReader(stream)} == {
            "new_0": "none",
            "new_1": "t1",
            "new_2": "t2",
        }
    recorded = json.loads((tmp_path / "predictions_run.json").read_text())["images"]
    assert [recorded[f"new_{index}"]["missing_channels"] for index in range(3)] == [[], ["t1"], ["t2"]]


def test_label_maps_are_the_same_from_both_engines_a_file_of_zeros_and_a_single_file(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    silently(unet_pipeline.predict, bundle, images, tmp_path / "out")
    silently(unet_pipeline.predict, bundle, images / "new_2_0000.nii.gz", tmp_path / "single")
    for path in images.glob("new_2_*.nii.gz"):
        (tmp_path / "zeros").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "zeros")
    write_volume(tmp_path / "zeros" / "new_2_0001.nii.gz", np.full(SHAPE, 7.3, np.float32))
    silently(unet_pipeline.predict, bundle, tmp_path / "zeros", tmp_path / "of_zeros")
    folder = open_bundle(bundle)
    (tmp_path / "staging").mkdir()
    engines = build_engines(folder, (folder.weights,), tmp_path / "staging", PredictOptions())
    assert engines.volumes is not None
    engines = type(engines)(engines.parts, engines.transforms, reason="both are to be compared")
    source = list_inputs(images / "new_2_0000.nii.gz", 2, ("t1", "t2"), ("t1", "t2"))[0]
    final = tmp_path / "transforms" / "new_2.nii.gz"
    final.parent.mkdir()
    CaseLoop(
        engines, tmp_path / "staging", {source: final}, ".nii.gz", PredictOptions(), without_record(final.parent)
    ).run(source)
    label_maps = [tmp_path / name / "new_2.nii.gz" for name in ("out", "single", "of_zeros", "transforms")]
    first, *others = (np.asarray(nib.load(path).dataobj) for path in label_maps)
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_stock_transforms_make_zeros_of_a_missing_channel(bundle: Path) -> None:
    """The copies are read as any image: a stock client needs no transform of this package."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(bundle)
    assert "unet_pipeline" not in (bundle / "configs" / "inference.json").read_text()
    copy = bundle.with_name("bundle_data") / "images" / "ball_1.nii.gz"
    image = parser.get_parsed_content("preprocessing")({"image": str(copy)})["image"]
    assert image[0].std() == pytest.approx(1, abs=0.05)
    assert not image[1].any()


def test_evaluate_measures_every_set_of_missing_channels(
    bundle: Path, images: Path, tmp_path: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    status, printed, _ = call_main("evaluate", bundle)
    assert status == 0
    assert "by missing_channels" in printed
    rows = silently(unet_pipeline.evaluate, bundle).rows
    counts = rows[rows["label"] == "ball"].groupby("by_missing_channels")["case"].nunique()
    assert counts.to_dict() == {"none": 4, "t1": 2, "t2": 2}
    other = tmp_path / "other"
    for index, lacking in enumerate(((), (0,), (1,))):
        write_case(other / "imagesTr", f"other_{index}", 200 + index, lacking, other / "labelsTr")
    shutil.copy(bundle.with_name("data") / "dataset.json", other)
    rows = silently(unet_pipeline.evaluate, bundle, other).rows
    counts = rows[rows["label"] == "ball"].groupby("by_missing_channels")["case"].nunique()
    assert counts.to_dict() == {"none": 1, "t1": 1, "t2": 1}


def test_contract_says_the_channels_and_judges_images_without_some(
    bundle: Path, images: Path, tmp_path: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    packaged = tmp_path / "bundle"
    shutil.copytree(bundle, packaged)
    (tmp_path / "bundle_data").symlink_to(bundle.with_name("bundle_data"))
    silently(unet_pipeline.evaluate, packaged)
    status, _, refused = call_main("package", packaged)
    assert status == 0, refused
    contract = json.loads((packaged / "evidence" / "contract.json").read_text())
    assert contract["words"]["missing_channels"] == ["none", "t1", "t2"]
    assert "Trained with the channels t1, t2, of which an image may lack t1, t2" in contract["notes"][-1]
    silently(unet_pipeline.predict, packaged, images, tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        verdicts = {row["case"]: row["contract"] for row in csv.DictReader(stream)}
    assert {verdicts["new_1"], verdicts["new_2"]} <= {"inside", "unusual"}


def test_bundle_of_whole_images_refuses_one_without_a_channel(
    whole_bundle: Path, images: Path, tmp_path: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    status, _, printed = call_main("predict", whole_bundle, images, tmp_path / "out")
    assert status == 1
    assert "Image new_1 has the channel files new_1_0001.nii.gz; the bundle expects 2" in printed


def test_channel_that_was_never_missing_is_refused(bundle: Path, images: Path, tmp_path: Path) -> None:
    strict = tmp_path / "bundle"
    shutil.copytree(bundle, strict)
    change_plan(strict, missing_channels=["t2"])
    with pytest.raises(
        PredictionError, match=r"none of the channel\(s\) t1; .* t1, t2, of which only t2 may be missing"
    ):
        silently(unet_pipeline.predict, strict, images / "new_1_0001.nii.gz", tmp_path / "out")
    silently(unet_pipeline.predict, strict, images / "new_2_0000.nii.gz", tmp_path / "out")
