"""Whatever the format of the input: the same label map, and a dataset that had to be copied goes the whole way."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image as PillowImage

sys.path.insert(0, str(Path(__file__).parents[1]))

import phantom_bundles as phantoms

import unet_pipeline
from unet_pipeline.dataset.image import read_image, read_label_map
from unet_pipeline.errors import EvaluationError, PredictionError
from unet_pipeline.files import write_json

from .conftest import TrainedBundle

SHORT = {"num_epochs": 1, "val_interval": 1, "iterations_per_epoch": 4, "warmup_iterations": 1}


def predict(bundle: Path, source: Path, out: Path) -> Path:
    (written,) = phantoms.silently(unet_pipeline.predict, bundle, source, out).written
    return written


@pytest.fixture(scope="module")
def organ(bundle_3d: TrainedBundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An image as NIfTI, obliquely stored, and its label map."""
    folder = tmp_path_factory.mktemp("organ")
    image, _ = phantoms.draw_organ(99)
    affine = np.array([[0, -1.5, 0, 30], [1.45, 0, 0.5, -10], [-0.38, 0, 1.94, 5], [0, 0, 0, 1]])
    affine[:3, :3] = np.linalg.qr(affine[:3, :3])[0] * (1.5, 1.5, 2.0)  # orthogonal, as SimpleITK wants it
    path = phantoms.write_volume(folder / "organ.nii.gz", image.astype(np.int16), affine)
    return path, predict(bundle_3d.root, path, folder / "out")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nhdr", ".nii"])
def test_predict_volume_in_another_format_gives_the_same_label_map(
    bundle_3d: TrainedBundle, organ: tuple[Path, Path], suffix: str, tmp_path: Path
) -> None:
    source = tmp_path / f"organ{suffix}"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(organ[0])), str(source))
    written = predict(bundle_3d.root, source, tmp_path / "out")
    assert written.name == "organ.nii.gz"
    expected, found = read_label_map(organ[1]), read_label_map(written)
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)


def test_predict_dicom_series_lies_on_the_series_grid(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    import dicom_phantoms

    image, label = phantoms.draw_organ(99)
    folder = dicom_phantoms.write_series(tmp_path / "scans" / "organ", image.astype(np.int16))
    written = predict(bundle_3d.root, tmp_path / "scans", tmp_path / "out")
    found, grid = read_label_map(written), read_image(folder)
    assert written.name == "organ.nii.gz"
    assert found.spatial_shape == grid.spatial_shape == label.shape
    np.testing.assert_allclose(found.affine, grid.affine, atol=1e-4)
    as_nifti = phantoms.write_volume(tmp_path / "organ.nii.gz", image.astype(np.int16), grid.affine)
    expected = read_label_map(predict(bundle_3d.root, as_nifti, tmp_path / "expected"))
    np.testing.assert_array_equal(found.array, expected.array)


@pytest.mark.parametrize(("suffix", "mode"), [(".tif", "L"), (".tiff", "L"), (".png", "L")])
def test_predict_picture_in_another_format_gives_the_same_label_map(
    bundle_2d: TrainedBundle, tmp_path: Path, suffix: str, mode: str
) -> None:
    picture, _ = phantoms.draw_cell(99)
    (tmp_path / "plain").mkdir()
    PillowImage.fromarray(picture).save(tmp_path / "plain" / "cell.png")
    PillowImage.fromarray(picture).convert(mode).save(tmp_path / f"cell{suffix}")
    expected = predict(bundle_2d.root, tmp_path / "plain", tmp_path / "expected")
    written = predict(bundle_2d.root, tmp_path / f"cell{suffix}", tmp_path / "out")
    assert written.read_bytes() == expected.read_bytes()


def test_predict_one_bad_file_among_several_formats_does_not_stop_the_rest(
    bundle_3d: TrainedBundle, organ: tuple[Path, Path], tmp_path: Path
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    image = SimpleITK.ReadImage(str(organ[0]))
    for name in ("a.mha", "b.nrrd"):
        SimpleITK.WriteImage(image, str(source / name))
    SimpleITK.WriteImage(image, str(source / "cut.mha"))
    content = (source / "cut.mha").read_bytes()
    (source / "cut.mha").write_bytes(content[:-100])
    four = nib.load(organ[0])
    nib.save(nib.Nifti1Image(np.stack([np.asarray(four.dataobj)] * 7, axis=-1), four.affine), source / "film.nii.gz")
    with pytest.raises(PredictionError, match="2 of 4 images could not be predicted") as caught:
        phantoms.silently(unet_pipeline.predict, bundle_3d.root, source, tmp_path / "out")
    assert "cut.mha is truncated" in str(caught.value)
    assert "film.nii.gz has 3 dimensions and 7 channel(s)" in str(caught.value)
    assert "time" in str(caught.value)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "b.nii.gz"]


def test_predict_far_spacing_is_done_with_a_warning(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    image, _ = phantoms.draw_organ(99)
    path = phantoms.write_volume(tmp_path / "organ.nii.gz", image, np.diag([6.0, 6.0, 8.0, 1.0]))
    predictions = phantoms.silently(unet_pipeline.predict, bundle_3d.root, path, tmp_path / "out")
    assert [note.code for note in predictions.notes] == ["unseen-spacing"]
    assert "voxels of 6x6x8 mm, and the network was trained at 1.5x1.5x2 mm" in predictions.notes[0].cause
    assert read_label_map(predictions.written[0]).spatial_shape == image.shape


def test_predict_voxels_without_a_value_are_refused(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    image, _ = phantoms.draw_organ(99)
    image[3, 3, 3] = np.nan
    path = phantoms.write_volume(tmp_path / "organ.nii.gz", image)
    with pytest.raises(PredictionError, match=r"organ\.nii\.gz has 1 values that are NaN or infinite"):
        phantoms.silently(unet_pipeline.predict, bundle_3d.root, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_whole_way_files_per_channel(tmp_path: Path) -> None:
    """nnU-Net's layout with two channels: planned with copies, trained, predicted from channel files, evaluated."""
    root = tmp_path / "Dataset001_Organs"
    for seed in range(5):
        image, label = phantoms.draw_organ(seed)
        for channel, array in enumerate((image, 100 - image)):
            phantoms.write_volume(root / "imagesTr" / f"organ_{seed}_{channel:04d}.nii.gz", array)
        phantoms.write_volume(root / "labelsTr" / f"organ_{seed}.nii.gz", label)
    labels = {"background": 0, "organ": 1, "tumour": 2}
    content = {"channel_names": {"0": "T1", "1": "T2"}, "labels": labels, "numTraining": 5, "file_ending": ".nii.gz"}
    write_json(root / "dataset.json", content)

    bundle = phantoms.plan_small(root, tmp_path / "bundle", **phantoms.SMALL_3D)
    assert (tmp_path / "bundle_data" / "images" / "organ_0.nii.gz").is_file()
    phantoms.silently(unet_pipeline.train, bundle, overrides=SHORT)
    validation = phantoms.silently(unet_pipeline.evaluate, bundle)
    assert set(validation.rows["label"]) == set(labels)

    predictions = phantoms.silently(unet_pipeline.predict, bundle, root / "imagesTr", tmp_path / "out")
    assert [path.name for path in predictions.written] == [f"organ_{seed}.nii.gz" for seed in range(5)]
    of_copies = read_label_map(validation.predictions[0] / f"{validation.rows['case'][0]}.nii.gz")
    of_channels = read_label_map(tmp_path / "out" / f"{validation.rows['case'][0]}.nii.gz")
    np.testing.assert_array_equal(of_copies.array, of_channels.array)

    evaluation = phantoms.silently(unet_pipeline.evaluate, bundle, root)  # knows its training cases by the originals
    assert set(evaluation.rows["case"]) == set(validation.rows["case"])
    assert len(evaluation.excluded) + len(set(evaluation.rows["case"])) == 5


def test_whole_way_voxels_without_annotation_count_for_nothing(tmp_path: Path) -> None:
    """Half of every label map is not annotated: it is learnt from the other half, and not measured."""
    root = tmp_path / "Dataset002_Organs"
    for seed in range(5):
        image, label = phantoms.draw_organ(seed)
        label[: label.shape[0] // 2] = 7
        phantoms.write_volume(root / "imagesTr" / f"organ_{seed}_0000.nii.gz", image)
        phantoms.write_volume(root / "labelsTr" / f"organ_{seed}.nii.gz", label)
    labels = {"background": 0, "organ": 1, "tumour": 2, "ignore": 7}
    content = {"channel_names": {"0": "T1"}, "labels": labels, "numTraining": 5, "file_ending": ".nii.gz"}
    write_json(root / "dataset.json", content)
    bundle = phantoms.plan_small(root, tmp_path / "bundle", **{**phantoms.SMALL_3D, "num_epochs": 6})
    phantoms.silently(unet_pipeline.train, bundle)
    evaluation = phantoms.silently(unet_pipeline.evaluate, bundle)
    scored = evaluation.rows[evaluation.rows["label"] != "background"]
    assert scored["dice"].min() > 0.8
    case = evaluation.rows["case"][0]
    prediction = read_label_map(evaluation.predictions[0] / f"{case}.nii.gz").array[0]
    assert (prediction[: prediction.shape[0] // 2] > 0).sum() > 200  # found without having been shown
    counted = evaluation.rows[evaluation.rows["case"] == case]["num_voxels_prediction"].sum()
    assert counted == prediction[prediction.shape[0] // 2 :].size


def test_whole_way_list_with_patients_spacing_and_a_test_set(tmp_path: Path) -> None:
    root = phantoms.write_pictures(tmp_path / "cells", num_cases=6)
    lines = ["case,image,label,patient,split,spacing_mm"]
    for number in range(6):
        split = "test" if number == 5 else ""
        lines.append(f"c{number},images/cell_{number:02d}.png,labels/cell_{number:02d}.png,p{number // 2},{split},0.5")
    lines[-1] = lines[-1].replace("p2", "p9")  # the test case is of a patient of its own
    (root / "cases.csv").write_text("\n".join(lines) + "\n")
    bundle = phantoms.plan_small(root, tmp_path / "bundle", **phantoms.SMALL_2D)
    record = json.loads((bundle / "evidence/splits/split.json").read_text())
    assert [entry["case"] for entry in record["test"]] == ["c5"]
    for number in range(3):
        split = json.loads((bundle / f"evidence/splits/fold_{number}.json").read_text())
        sides = [{entry["case"] for entry in split[side]} for side in ("training", "validation")]
        assert "c5" not in sides[0] | sides[1]
        for pair in ({"c0", "c1"}, {"c2", "c3"}):
            assert pair <= sides[0] or pair <= sides[1]
    phantoms.silently(unet_pipeline.train, bundle, overrides=SHORT)
    validation = phantoms.silently(unet_pipeline.evaluate, bundle)
    assert set(validation.rows["voxel_volume"]) == {0.25}  # mm^2 of a pixel


def test_whole_way_one_case_can_be_tried_and_gives_no_result(tmp_path: Path) -> None:
    root = phantoms.write_pictures(tmp_path / "cells", num_cases=1)
    bundle = phantoms.plan_small(root, tmp_path / "bundle", **phantoms.SMALL_2D)
    phantoms.silently(unet_pipeline.train, bundle, overrides=SHORT)
    with pytest.raises(EvaluationError, match="validates on the case"):
        phantoms.silently(unet_pipeline.evaluate, bundle)


def test_whole_way_coarser_pixels_come_back_to_the_pictures_own(tmp_path: Path) -> None:
    root = phantoms.write_pictures(tmp_path / "cells", num_cases=4)
    labels = {"background": 0, "cell": 255}
    numbers = {**phantoms.SMALL_2D, "spacing_mm": [2.0, 2.0], "patch_size": [32, 32], "window_size": [32, 32]}
    bundle = phantoms.plan_small(root, tmp_path / "bundle", labels=labels, **numbers)
    phantoms.silently(
        unet_pipeline.train,
        bundle,
        overrides={**SHORT, "num_epochs": 6, "iterations_per_epoch": 20},
    )
    evaluation = phantoms.silently(unet_pipeline.evaluate, bundle)
    cells = evaluation.rows[evaluation.rows["label"] == "cell"]
    assert cells["dice"].min() > 0.8
    first, *_ = phantoms.list_label_maps(evaluation.predictions[0])
    assert read_label_map(first).spatial_shape == phantoms.PICTURE_SIZE


def test_whole_way_empty_tiny_and_large_cases(tmp_path: Path) -> None:
    """A case without any organ, one smaller than a patch and one of many patches are trained on and predicted."""
    root = phantoms.write_volumes(tmp_path / "organs", num_cases=6)
    image, label = phantoms.draw_organ(0)
    phantoms.write_volume(
        root / "imagesTr" / "organ_00.nii.gz",
        image * 0 + np.random.default_rng(0).normal(0, 12, image.shape).astype(np.float32),
    )
    phantoms.write_volume(root / "labelsTr" / "organ_00.nii.gz", label * 0)
    for name, cut in (("organ_01", (slice(12, 17), slice(14, 20), slice(9, 13))),):
        image, label = phantoms.draw_organ(1)
        phantoms.write_volume(root / "imagesTr" / f"{name}.nii.gz", image[cut])
        phantoms.write_volume(root / "labelsTr" / f"{name}.nii.gz", label[cut])
    image, label = phantoms.draw_organ(2, (70, 60, 50))
    phantoms.write_volume(root / "imagesTr" / "organ_02.nii.gz", image)
    phantoms.write_volume(root / "labelsTr" / "organ_02.nii.gz", label)
    bundle = phantoms.plan_small(root, tmp_path / "bundle", **{**phantoms.SMALL_3D, "num_epochs": 1, "val_interval": 1})
    for fold in range(4):
        phantoms.silently(unet_pipeline.train, bundle, fold=fold, overrides={"iterations_per_epoch": 3})
    evaluation = phantoms.silently(unet_pipeline.evaluate, bundle)
    assert set(evaluation.rows["case"]) == {f"organ_{number:02d}" for number in range(6)}
    for folder in evaluation.predictions:
        for path in folder.glob("*.nii.gz"):
            assert read_label_map(path).spatial_shape == read_label_map(root / "labelsTr" / path.name).spatial_shape


def test_whole_way_regions_are_trained_and_measured(tmp_path: Path) -> None:
    """The whole organ of value 1 and 2, its tumour of value 2: results are given for what the dataset names."""
    root = tmp_path / "Dataset003_Regions"
    for seed in range(5):
        image, label = phantoms.draw_organ(seed)
        phantoms.write_volume(root / "imagesTr" / f"organ_{seed}_0000.nii.gz", image)
        phantoms.write_volume(root / "labelsTr" / f"organ_{seed}.nii.gz", label)
    labels = {"background": 0, "whole": [1, 2], "tumour": 2}
    content = {"channel_names": {"0": "T1"}, "labels": labels, "regions_class_order": [1, 2], "numTraining": 5}
    write_json(root / "dataset.json", {**content, "file_ending": ".nii.gz"})
    bundle = phantoms.plan_small(root, tmp_path / "bundle", **phantoms.SMALL_3D)
    config = json.loads((bundle / "configs" / "train.json").read_text())
    assert config["region_classes"] == [[1, 2], [2]]
    phantoms.silently(unet_pipeline.train, bundle)
    evaluation = phantoms.silently(unet_pipeline.evaluate, bundle)
    scored = {row.label: row for row in evaluation.summary if row.metric == "dice"}
    assert scored["whole"].in_mean
    assert scored["tumour"].in_mean
    assert not scored["whole 1"].in_mean
    assert scored["whole"].mean > 0.85
    table = evaluation.rows.pivot(index="case", columns="label", values="num_voxels_reference")
    assert (table["whole"] == table["whole 1"] + table["tumour"]).all()


# values that no PNG file can hold


@pytest.fixture(scope="module")
def cell(bundle_2d: TrainedBundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    """A picture, shape (height, width), and its label map."""
    folder = tmp_path_factory.mktemp("cell")
    rows, _ = phantoms.draw_cell(77)
    PillowImage.fromarray(rows).save(folder / "cell.png")
    return rows, read_label_map(predict(bundle_2d.root, folder / "cell.png", folder / "out")).array


@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".tif", ".mha", ".nii.gz"])
def test_predict_picture_of_any_values_gives_the_same_label_map(
    bundle_2d: TrainedBundle, cell: tuple[np.ndarray, np.ndarray], dtype: type, suffix: str, tmp_path: Path
) -> None:
    rows, expected = cell
    source = tmp_path / f"cell{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(source, rows.astype(dtype))
    else:
        image = SimpleITK.GetImageFromArray(rows.astype(dtype))
        image.SetSpacing((0.3, 0.3))  # of a picture it does not count
        SimpleITK.WriteImage(image, str(source))
    written = predict(bundle_2d.root, source, tmp_path / "out")
    assert written.name == "cell.png"
    found = read_label_map(written).array
    if suffix == ".nii.gz":  # ITK's axes, which NIfTI turns round and back
        assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1)])
def test_predict_picture_of_one_row_is_refused(
    bundle_2d: TrainedBundle, shape: tuple[int, int], tmp_path: Path
) -> None:
    PillowImage.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "row.png")
    with pytest.raises(
        PredictionError, match=f"row.png has {shape[1]} x {shape[0]} pixels; expected at least 2 along each"
    ):
        predict(bundle_2d.root, tmp_path / "row.png", tmp_path / "out")


def test_forecast_picture_with_a_pixel_size_is_sized_in_pixels(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(phantoms.draw_cell(5)[0])
    image.SetSpacing((0.1, 0.1))
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    (case,) = phantoms.silently(unet_pipeline.forecast, bundle_2d.root, tmp_path / "a.mha", tmp_path / "out").cases
    assert case.network_shape == case.shape


def test_predict_volume_with_a_unit_that_is_none_keeps_its_header(
    bundle_3d: TrainedBundle, organ: tuple[Path, Path], tmp_path: Path
) -> None:
    image = nib.load(organ[0])
    image.header["xyzt_units"] = 7
    nib.save(image, tmp_path / "organ.nii.gz")
    written = nib.load(predict(bundle_3d.root, tmp_path / "organ.nii.gz", tmp_path / "out"))
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(nib.load(organ[1]).dataobj))
    assert int(written.header["xyzt_units"]) == 7


def test_predict_results_of_one_name_are_refused_before_the_first_image(
    bundle_3d: TrainedBundle, tmp_path: Path
) -> None:
    for name in ("a", "a_probabilities"):
        phantoms.write_volume(tmp_path / "images" / f"{name}.nii.gz", phantoms.draw_organ(1)[0])
    arguments = bundle_3d.root, tmp_path / "images", tmp_path / "out"
    with pytest.raises(PredictionError, match=r"Two results would be named a_probabilities\.nii\.gz"):
        phantoms.silently(unet_pipeline.predict, *arguments, probabilities=True)
    assert len(phantoms.silently(unet_pipeline.predict, *arguments).written) == 2


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_predict_name_that_is_taken_by_no_file_is_refused(bundle_3d: TrainedBundle, kind: str, tmp_path: Path) -> None:
    source = phantoms.write_volume(tmp_path / "images" / "a.nii.gz", phantoms.draw_organ(1)[0])
    taken = tmp_path / "out" / "a.nii.gz"
    taken.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(taken)
    elif kind == "folder":
        taken.mkdir()
    else:
        taken.symlink_to(os.devnull)
    named = "a folder" if kind == "folder" else "a device or a pipe"
    with pytest.raises(PredictionError, match=rf"a\.nii\.gz in the output folder is {named}"):
        predict(bundle_3d.root, source, tmp_path / "out")


def test_predict_longest_name_that_a_file_may_have(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    source = phantoms.write_volume(tmp_path / "images" / f"{'a' * 248}.nii.gz", phantoms.draw_organ(1)[0])
    assert predict(bundle_3d.root, source, tmp_path / "out").name == source.name


def test_predict_single_slice_is_a_warning(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    source = phantoms.write_volume(tmp_path / "a.nii.gz", phantoms.draw_organ(1)[0][:, :, 9:10])
    result = phantoms.silently(unet_pipeline.predict, bundle_3d.root, source, tmp_path / "out")
    assert "flat-input" in {note.code for note in result.notes}


def test_predict_says_what_of_a_folder_is_left_out(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    phantoms.write_volume(tmp_path / "images" / "a.nii.gz", phantoms.draw_organ(1)[0])
    (tmp_path / "images" / "b.bmp").touch()
    said: list[str] = []
    phantoms.silently(
        unet_pipeline.predict, bundle_3d.root, tmp_path / "images", tmp_path / "out", announce=said.append
    )
    assert said[0] == "left out 1 file(s) in no known format: b.bmp"
