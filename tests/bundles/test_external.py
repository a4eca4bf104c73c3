"""Bundles in the manner of MONAI's model zoo: `predict` gives what stock MONAI writes, and `evaluate` measures it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantom_bundles as phantoms
import pytest
import torch
import zoo_bundles as zoo
from monai.bundle import ConfigWorkflow

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError, EvaluationError, PredictionError
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.viewer.results import open_result

# not the identity: another orientation and spacing than the network's
AFFINE = np.array([[0.0, 1.4, 0, 5], [-1.2, 0, 0, -7], [0, 0, 2.0, 3], [0, 0, 0, 1]])
SHAPE = (26, 22, 18)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Three volumes in one folder."""
    for seed in range(3):
        image, _ = phantoms.draw_organ(seed, SHAPE)
        phantoms.write_volume(tmp_path / "volumes" / f"organ_{seed}.nii.gz", image, AFFINE)
    return tmp_path / "volumes"


@pytest.fixture
def softmax(tmp_path: Path) -> Path:
    return zoo.write_softmax_bundle(tmp_path / "spleen_like")


def write_dataset(root: Path, num_channels: int, labels: dict[str, Any]) -> Path:
    """nnU-Net's layout; the label maps are thresholds of the first channel: 1 above 50, 2 above 150."""
    for seed in range(2):
        image, _ = phantoms.draw_organ(seed, SHAPE)
        for channel in range(num_channels):
            phantoms.write_volume(root / "imagesTr" / f"case_{seed}_{channel:04d}.nii.gz", image + 7 * channel, AFFINE)
        label = (image > 50).astype(np.uint8) + (image > 150)
        phantoms.write_volume(root / "labelsTr" / f"case_{seed}.nii.gz", label, AFFINE)
    channels = {str(index): f"MR {index}" for index in range(num_channels)}
    content = {"channel_names": channels, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}
    write_json(root / "dataset.json", content)
    return root


def run_stock(bundle: Path, images: Path, out: Path) -> list[Path]:
    """What stock MONAI writes for the bundle."""
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        workflow_type=None,
        bundle_root=str(bundle),
        dataset_dir=str(images),
        output_dir=str(out),
        logging_file=False,
    )
    workflow.initialize()
    workflow.run()
    return sorted(out.rglob("*.nii.gz"))


def test_predict_zoo_bundle_writes_what_stock_monai_writes(softmax: Path, volumes: Path, tmp_path: Path) -> None:
    result = phantoms.silently(unet_pipeline.predict, softmax, volumes, tmp_path / "out", trust=True)
    stock = run_stock(softmax, volumes, tmp_path / "stock")
    assert [path.name for path in result.written] == [f"organ_{seed}.nii.gz" for seed in range(3)]
    assert len(stock) == 3
    for ours, theirs in zip(result.written, stock, strict=True):
        values, image = nib.load(ours), nib.load(volumes / ours.name)
        assert np.array_equal(np.asarray(values.dataobj), np.asarray(nib.load(theirs).dataobj))
        assert values.get_data_dtype() == np.uint8
        assert np.array_equal(values.affine, image.affine)
        assert 0 < np.asarray(values.dataobj).mean() < 1, "one class alone would show nothing"


def test_predict_zoo_bundle_keeps_what_is_finished_and_leaves_the_bundle_as_it_is(
    softmax: Path, volumes: Path, tmp_path: Path
) -> None:
    before = sorted(softmax.rglob("*"))
    first = phantoms.silently(unet_pipeline.predict, softmax, volumes, tmp_path / "out", trust=True)
    first.written[0].unlink()
    second = phantoms.silently(unet_pipeline.predict, softmax, volumes, tmp_path / "out", trust=True)
    assert second.written == first.written[:1]
    assert second.kept == first.written[1:]
    assert sorted(softmax.rglob("*")) == before
    names = [path.name for path in first.written]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "predictions_run.json"]
    record = json.loads((tmp_path / "out" / "predictions_run.json").read_text(encoding="utf-8"))
    weights = [compute_sha256(path) for path in BundleFolder(softmax).list_model_files()]
    assert len(weights) == 1
    assert [entry["sha256"] for entry in record["weights"]] == weights
    assert record["inference_config_sha256"] == compute_sha256(softmax / "configs" / "inference.json")
    assert [entry["weights_sha256"] for entry in record["images"].values()] == [weights] * 3
    assert record["images"]["organ_2"]["label_map_sha256"] == compute_sha256(first.written[2])


def test_predict_zoo_bundle_as_yaml_is_the_same(softmax: Path, volumes: Path, tmp_path: Path) -> None:
    import yaml

    first = phantoms.silently(unet_pipeline.predict, softmax, volumes, tmp_path / "a", trust=True)
    config = softmax / "configs" / "inference.json"
    config.with_suffix(".yaml").write_text(yaml.safe_dump(json.loads(config.read_text())))
    config.unlink()
    second = phantoms.silently(unet_pipeline.predict, softmax, volumes, tmp_path / "b", trust=True)
    for one, other in zip(first.written, second.written, strict=True):
        assert np.array_equal(nib.load(one).get_fdata(), nib.load(other).get_fdata())


def test_predict_zoo_bundle_with_something_unusual_needs_trust(softmax: Path, volumes: Path, tmp_path: Path) -> None:
    config = softmax / "configs" / "inference.json"
    content = json.loads(config.read_text())
    content["postprocessing"]["transforms"].insert(
        3, {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: __import__('torch').where(x > 0, 4, 0)"}
    )
    write_json(config, content)
    with pytest.raises(BundleError, match="spleen_like needs trust"):
        unet_pipeline.predict(softmax, volumes, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = phantoms.silently(unet_pipeline.predict, softmax, volumes, tmp_path / "out", trust=True)
    assert set(np.unique(nib.load(result.written[0]).get_fdata())) == {0, 4}


@pytest.mark.parametrize("with_names", [True, False])
def test_evaluate_zoo_bundle_on_a_threshold_gives_dice_1(tmp_path: Path, with_names: bool) -> None:
    """A network that is a threshold, on label maps that are the same threshold: names of the dataset, or of the metadata."""
    network_def = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
    bundle = zoo.write_softmax_bundle(tmp_path / "threshold", network_def)
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config["preprocessing"]["transforms"][2:5] = []
    write_json(bundle / "configs" / "inference.json", config)
    torch.save(zoo.threshold_network([50.0], classes=True), bundle / "models" / "model.pt")
    dataset = write_dataset(tmp_path / "cases", 1, {"background": 0, "spleen": 1})
    for path in (dataset / "labelsTr").iterdir():
        label = nib.load(path)
        phantoms.write_volume(path, (label.get_fdata() > 0).astype(np.uint8), label.affine)
    if not with_names:
        (dataset / "dataset.json").unlink()
        for path in list((dataset / "imagesTr").iterdir()):
            path.rename(path.with_name(path.name.replace("_0000", "")))
        (dataset / "imagesTr").rename(dataset / "images")
        (dataset / "labelsTr").rename(dataset / "labels")
    result = phantoms.silently(unet_pipeline.evaluate, bundle, dataset, tmp_path / "numbers", trust=True)
    name = "spleen" if with_names else "Organ"
    dice = {row.label: row.mean for row in result.summary if row.metric == "dice"}
    assert dice[name] == 1.0
    notes = " ".join(result.record.notes)
    assert "is not known" in notes
    assert ("Value 1 is 'spleen' in the dataset and 'Organ'" in notes) == with_names
    record = json.loads((tmp_path / "numbers" / "run.json").read_text())
    assert record["weights"][0]["file"] == "models/model.pt"
    shown = open_result(tmp_path / "numbers")  # outside of the bundle, and without being told where the images are
    assert sorted(shown.predictions) == ["case_0", "case_1"]
    labels = "labelsTr" if with_names else "labels"
    reference = shown.sources["case_0"].reference
    assert reference is not None
    assert reference.samefile(dataset / labels / "case_0.nii.gz")
    (bundle / "evidence" / "evaluations").mkdir(parents=True)
    (tmp_path / "numbers").rename(bundle / "evidence" / "evaluations" / "dataset_cases")
    assert sorted(open_result(bundle).sources) == ["case_0", "case_1"]


def test_evaluate_zoo_bundle_of_overlapping_structures_measures_each(tmp_path: Path) -> None:
    """Thresholds 50 and 150 are the two regions; 90 is neither, and what it lacks is known."""
    bundle = zoo.write_sigmoid_bundle(tmp_path / "brats_like", [50.0, 150.0])
    labels = {"background": 0, "level 0": [1, 2], "level 1": 2}
    dataset = write_dataset(tmp_path / "cases", 2, labels)
    result = phantoms.silently(unet_pipeline.evaluate, bundle, dataset, tmp_path / "numbers", trust=True)
    (predictions,) = result.predictions
    values = nib.load(predictions / "case_0.nii.gz")
    assert values.shape == (*SHAPE, 2)
    assert np.array_equal(values.affine, nib.load(dataset / "imagesTr" / "case_0_0000.nii.gz").affine)
    assert {row.label: row.mean for row in result.summary if row.metric == "dice"} == {
        "mean of labels": 1.0,
        "Level 0": 1.0,
        "Level 1": 1.0,
    }
    torch.save({"model": zoo.threshold_network([50.0, 90.0], 2)}, bundle / "models" / "model.pt")
    other = phantoms.silently(unet_pipeline.evaluate, bundle, dataset, tmp_path / "other", trust=True)
    image = nib.load(dataset / "imagesTr" / "case_0_0000.nii.gz").get_fdata()
    expected = 2 * (image > 150).sum() / ((image > 150).sum() + (image > 90).sum())
    rows = other.rows[(other.rows["case"] == "case_0") & (other.rows["label"] == "Level 1")]
    assert rows["dice"].item() == pytest.approx(expected, abs=1e-6)
    assert expected < 0.95


def test_evaluate_zoo_bundle_structure_without_a_region_is_named(tmp_path: Path) -> None:
    bundle = zoo.write_sigmoid_bundle(tmp_path / "brats_like", [50.0, 150.0])
    dataset = write_dataset(tmp_path / "cases", 2, {"background": 0, "core": 1, "level 1": 2})
    with pytest.raises(
        EvaluationError, match=r"cases has no label or region 'Level 0', .* it has background, core, level 1"
    ):
        phantoms.silently(unet_pipeline.evaluate, bundle, dataset, tmp_path / "numbers", trust=True)


def test_evaluate_zoo_bundle_without_dataset_is_refused(softmax: Path) -> None:
    with pytest.raises(EvaluationError, match=r"has no validation cases\. Give a DATASET"):
        unet_pipeline.evaluate(softmax, trust=True)


def test_predict_zoo_bundle_image_of_other_channels_is_named_and_the_others_are_done(
    softmax: Path, volumes: Path, tmp_path: Path
) -> None:
    image, _ = phantoms.draw_organ(9, SHAPE)
    phantoms.write_volume(volumes / "two.nii.gz", np.stack([image, image], axis=-1), AFFINE)
    with pytest.raises(
        PredictionError, match=r"1 of 4 .*\n.*two\.nii\.gz has 3 dimensions and 2 channel\(s\); .*1 \(MR 0\)"
    ):
        phantoms.silently(unet_pipeline.predict, softmax, volumes, tmp_path / "out", trust=True)
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 3


def test_predict_zoo_bundle_without_invertd_goes_back_by_its_writer(
    softmax: Path, volumes: Path, tmp_path: Path
) -> None:
    """The result on the network's grid, which stock MONAI leaves there, is taken to the image's: a warning says so."""
    edit(softmax, "postprocessing", {**read_config(softmax)["postprocessing"], "transforms": without_invertd(softmax)})
    result = phantoms.silently(unet_pipeline.predict, softmax, volumes, tmp_path / "out", trust=True)
    assert [note.code for note in result.notes] == ["result-moved"] * 3
    stock = run_stock(softmax, volumes, tmp_path / "stock")
    for ours, theirs in zip(result.written, stock, strict=True):
        coarse, found = nib.load(theirs), nib.load(ours)
        assert coarse.shape != SHAPE
        indices = np.indices(SHAPE).reshape(3, -1)
        there = np.linalg.inv(coarse.affine) @ found.affine @ np.vstack([indices, np.ones(indices.shape[1])])
        nearest = np.clip(np.rint(there[:3]).astype(int), 0, np.array(coarse.shape)[:, None] - 1)
        expected = coarse.get_fdata()[tuple(nearest)].reshape(SHAPE)
        # voxels half-way between two of the coarse grid may go to either
        assert (expected != found.get_fdata()).mean() < 0.02


def test_predict_zoo_bundle_without_invertd_on_a_flipped_grid_of_the_same_shape_is_turned_back(tmp_path: Path) -> None:
    """The network sees the image flipped; a threshold must lie where the image is bright."""
    network_def = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
    bundle = zoo.write_softmax_bundle(tmp_path / "flipped", network_def)
    preprocessing = read_config(bundle)["preprocessing"]["transforms"]
    edit(bundle, "preprocessing", {"_target_": "Compose", "transforms": [*preprocessing[:3], preprocessing[-1]]})
    edit(bundle, "postprocessing", {**read_config(bundle)["postprocessing"], "transforms": without_invertd(bundle)})
    torch.save(zoo.threshold_network([50.0], classes=True), bundle / "models" / "model.pt")
    image, _ = phantoms.draw_organ(0, SHAPE)
    path = phantoms.write_volume(tmp_path / "image.nii.gz", image, np.diag([1.0, 1.0, 1.0, 1.0]))
    result = phantoms.silently(unet_pipeline.predict, bundle, path, tmp_path / "out", trust=True)
    assert np.array_equal(nib.load(result.written[0]).get_fdata(), image > 50)


@pytest.mark.parametrize("option", [{"mirror": True}, {"runtime": "onnx"}, {"precision": "bfloat16"}, {"strict": True}])
def test_predict_zoo_bundle_option_of_own_bundles_is_refused(
    softmax: Path, volumes: Path, tmp_path: Path, option: dict[str, Any]
) -> None:
    (name,) = option
    with pytest.raises(PredictionError, match=rf"runs as its inference config says\. Leave out --{name}\.$"):
        unet_pipeline.predict(softmax, volumes, tmp_path / "out", trust=True, **option)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda root: (root / "models" / "model.pt").unlink(), r"has no weights: models/model\.pt is missing"),
        (lambda root: torch.save({"a": torch.ones(1)}, root / "models" / "model.pt"), "does not fit its network"),
        (lambda root: edit(root, "network_def", {"_target_": "monai.networks.nets.NoSuchNet"}), "cannot be built"),
        (lambda root: edit(root, "inferer", None), "has no id 'inferer'"),
        (lambda root: edit(root, "evaluator", {"prepare_batch": "$len"}), "has its own prepare_batch"),
    ],
)
def test_predict_zoo_bundle_with_a_fault_says_which(
    softmax: Path, volumes: Path, tmp_path: Path, fault: Any, message: str
) -> None:
    fault(softmax)
    with pytest.raises(BundleError, match=message):
        phantoms.silently(unet_pipeline.predict, softmax, volumes, tmp_path / "out", trust=True)


def read_config(root: Path) -> dict[str, Any]:
    return json.loads((root / "configs" / "inference.json").read_text())


def without_invertd(root: Path) -> list[Any]:
    transforms = read_config(root)["postprocessing"]["transforms"]
    return [transform for transform in transforms if transform["_target_"] != "Invertd"]


def edit(root: Path, name: str, value: Any) -> None:
    """Replace an id of the inference config, or take it away."""
    config = root / "configs" / "inference.json"
    content = json.loads(config.read_text())
    content = {key: item for key, item in content.items() if key != name}
    write_json(config, content if value is None else {**content, name: value})


@pytest.mark.parametrize("missing", [None, "preprocessing", "inferer", "postprocessing"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", r"model\.pt of spleen_like has \d+ weights that are NaN or infinite, the first in"),
        ("other network", r"model\.pt of spleen_like does not fit its network: .*Missing key"),
        ("cut off", r"model\.pt of spleen_like cannot be read without running code of it, or is damaged"),
    ],
)
def test_predict_zoo_bundle_whose_weights_are_no_use_says_so_before_all_else(
    softmax: Path, volumes: Path, tmp_path: Path, missing: str | None, kind: str, words: str
) -> None:
    weights = softmax / "models" / "model.pt"
    if kind == "nan":
        state = {name: value * float("nan") for name, value in torch.load(weights, weights_only=True).items()}
        torch.save(state, weights)
    elif kind == "other network":
        torch.save(torch.nn.Linear(2, 1).state_dict(), weights)
    else:
        weights.write_bytes(weights.read_bytes()[:200])
    config = json.loads((softmax / "configs" / "inference.json").read_text())
    config.pop(missing, None)
    write_json(softmax / "configs" / "inference.json", config)
    with pytest.raises(BundleError, match=words):
        phantoms.silently(unet_pipeline.predict, softmax, volumes, tmp_path / "out", trust=True)


def test_predict_zoo_bundle_constant_image_and_other_modality_are_warned_of(softmax: Path, tmp_path: Path) -> None:
    phantoms.write_volume(tmp_path / "in" / "a.nii.gz", np.full(SHAPE, 5, np.int16), AFFINE)
    result = phantoms.silently(unet_pipeline.predict, softmax, tmp_path / "in", tmp_path / "out", trust=True)
    assert [note.code for note in result.notes if note.severity == "warning"] == ["constant-input"]


# images and parts that a bundle cannot use


def change_config(bundle: Path, change: Any, name: str = "inference") -> None:
    path = bundle / "configs" / f"{name}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refuse(bundle: Path, source: Path, out: Path) -> str:
    with pytest.raises((BundleError, PredictionError)) as caught:
        phantoms.silently(unet_pipeline.predict, bundle, source, out, trust=True)
    assert phantoms.list_label_maps(out) == [] if out.is_dir() else True
    return str(caught.value)


@pytest.mark.parametrize(
    ("edit", "affine", "words"),
    [
        (lambda image: np.where(image > 100, np.nan, image), np.eye(4), "values that are NaN or infinite"),
        (lambda image: image * 1e30, np.eye(4), "has values up to"),
        (lambda image: image, np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "sheared axes"),
        (
            lambda image: image,
            np.diag([200.0, 200, 200, 1]),
            "too large on the network's grid: 26x22x18 voxels of 200x200x200",
        ),
        (lambda image: image, np.diag([1e-3, 1e-3, 1e-3, 1]), "too small on the network's grid"),
    ],
)
def test_predict_zoo_bundle_image_that_no_network_can_take(
    softmax: Path, tmp_path: Path, edit: Any, affine: np.ndarray, words: str
) -> None:
    image, _ = phantoms.draw_organ(0, SHAPE)
    path = phantoms.write_volume(tmp_path / "bad.nii.gz", edit(image.astype(np.float32)).astype(np.float32), affine)
    message = refuse(softmax, path, tmp_path / "out")
    assert words in message
    assert "bad.nii.gz" in message


@pytest.mark.parametrize("shape", [(26, 22, 1), (1, 22, 18), (26, 1, 18)])
def test_predict_zoo_bundle_single_slice_has_the_images_shape(
    softmax: Path, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    image, _ = phantoms.draw_organ(0, SHAPE)
    path = phantoms.write_volume(tmp_path / "thin.nii.gz", image[: shape[0], : shape[1], : shape[2]], AFFINE)
    (written,) = phantoms.silently(unet_pipeline.predict, softmax, path, tmp_path / "out", trust=True).written
    assert nib.load(written).shape == shape


def test_predict_zoo_bundle_unknown_unit_of_the_header_is_kept(softmax: Path, volumes: Path, tmp_path: Path) -> None:
    image = nib.load(volumes / "organ_0.nii.gz")
    image.header["xyzt_units"] = 7
    nib.save(image, tmp_path / "unit.nii.gz")
    (written,) = phantoms.silently(
        unet_pipeline.predict, softmax, tmp_path / "unit.nii.gz", tmp_path / "out", trust=True
    ).written
    assert int(nib.load(written).header["xyzt_units"]) == 7


def test_predict_zoo_bundle_with_byte_order_marks_is_the_same(softmax: Path, volumes: Path, tmp_path: Path) -> None:
    plain = phantoms.silently(unet_pipeline.predict, softmax, volumes, tmp_path / "a", trust=True).written
    for name in ("inference", "metadata"):
        path = softmax / "configs" / f"{name}.json"
        path.write_text(path.read_text(), encoding="utf-8-sig")
    marked = phantoms.silently(unet_pipeline.predict, softmax, volumes, tmp_path / "b", trust=True).written
    for first, second in zip(plain, marked, strict=True):
        assert np.array_equal(np.asarray(nib.load(first).dataobj), np.asarray(nib.load(second).dataobj))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config.update(inferer=None), "'inferer' of the inference config of spleen_like is NoneType"),
        (lambda config: config.update(network="UNet"), "'network' of the inference config of spleen_like is str"),
        (
            lambda config: config.update(preprocessing=[]),
            "'preprocessing' of the inference config of spleen_like is list",
        ),
        (lambda config: config.update(device="cuda:77"), "Choose another with --device"),
        (
            lambda config: config["preprocessing"].update(transforms=[]),
            "its preprocessing gives no tensor under 'image'",
        ),
    ],
)
def test_predict_zoo_bundle_part_of_another_kind_is_named(
    softmax: Path, volumes: Path, tmp_path: Path, change: Any, words: str
) -> None:
    change_config(softmax, change)
    assert words in refuse(softmax, volumes / "organ_0.nii.gz", tmp_path / "out")


def test_predict_zoo_bundle_network_that_gives_no_numbers_writes_nothing(
    softmax: Path, volumes: Path, tmp_path: Path
) -> None:
    weights = softmax / "models" / "model.pt"
    state = {
        name: value * 0 + 3e38 if value.is_floating_point() else value for name, value in torch.load(weights).items()
    }
    torch.save(state, weights)
    assert "its network gives values that are NaN or infinite" in refuse(softmax, volumes, tmp_path / "out")


@pytest.mark.parametrize("channel_def", [None, ["background", "Organ"], {"background": "0"}, "text"])
def test_predict_zoo_bundle_without_a_usable_table_of_channels(
    softmax: Path, volumes: Path, tmp_path: Path, channel_def: Any
) -> None:
    for part in (("inputs", "image"), ("outputs", "pred")):
        change_config(
            softmax,
            lambda content, part=part: content["network_data_format"][part[0]][part[1]].update(channel_def=channel_def),
            "metadata",
        )
    source = volumes / "organ_0.nii.gz"
    assert len(phantoms.silently(unet_pipeline.predict, softmax, source, tmp_path / "out", trust=True).written) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda form: form.pop("inputs"),
        lambda form: form["inputs"]["image"].update(spatial_shape="any"),
        lambda form: form["inputs"]["image"].update(num_channels=-1),
        lambda form: form["outputs"]["pred"].update(num_channels=10**9),
    ],
)
def test_predict_zoo_bundle_whose_metadata_say_nothing_is_named(
    softmax: Path, volumes: Path, tmp_path: Path, change: Any
) -> None:
    change_config(softmax, lambda content: change(content["network_data_format"]), "metadata")
    message = refuse(softmax, volumes, tmp_path / "out")
    assert "configs/metadata.json of spleen_like does not say what goes in and out" in message
    assert "Error" not in message, "no word of Python"


def test_predict_zoo_bundle_missing_metadata_is_named_and_no_plan(softmax: Path, volumes: Path, tmp_path: Path) -> None:
    (softmax / "configs" / "metadata.json").unlink()
    message = refuse(softmax, volumes, tmp_path / "out")
    assert "spleen_like has no configs/metadata.json" in message
    assert "plan" not in message


def test_evaluate_zoo_bundle_judges_given_label_maps_by_their_record(tmp_path: Path) -> None:
    bundle = zoo.write_sigmoid_bundle(tmp_path / "brats_like", [50.0, 150.0])
    dataset = write_dataset(tmp_path / "cases", 2, {"background": 0, "level 0": [1, 2], "level 1": 2})
    first = phantoms.silently(unet_pipeline.evaluate, bundle, dataset, tmp_path / "first", trust=True)
    (maps,) = first.predictions

    def list_notes(name: str) -> list[str]:
        again = phantoms.silently(unet_pipeline.evaluate, bundle, dataset, tmp_path / name, maps, trust=True)
        return [note for note in again.record.notes if "abel maps given" in note]

    assert list_notes("same") == []
    path = maps / "predictions_run.json"
    record = json.loads(path.read_text())
    for change, words in (
        ({"weights_sha256": ["0" * 64]}, "other weights than those of brats_like"),
        ({"configs_sha256": {}}, "other configs or modules than those of brats_like today"),
        ({"label_map_sha256": "0" * 64}, "it is another file than was recorded"),
    ):
        changed = {name: entry | change for name, entry in record["images"].items()}
        path.write_text(json.dumps(record | {"images": changed}))
        (note,) = list_notes(words.replace(" ", "_"))
        assert words in note
    others = {name: entry | {"files_sha256": {"a": "0" * 64}} for name, entry in record["images"].items()}
    path.write_text(json.dumps(record | {"images": others}))
    with pytest.raises(EvaluationError, match=r"2 label map.s. in .* were made of another image than that of the case"):
        list_notes("refused")
    path.unlink()
    assert "does not say of which image" in list_notes("unknown")[0]
