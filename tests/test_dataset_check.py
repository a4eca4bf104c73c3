"""Every file of a dataset is read once; all problems are found."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PillowImage
from scipy import ndimage

from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.fingerprint import read_fingerprint
from unet_pipeline.dataset.intensities import PooledIntensities
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.report import build_manifest, write_report
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.messages import ERROR, NOTE, WARNING, Problem

SECOND_IMAGE, SECOND_LABEL = "images/case_02.nii.gz", "labels/case_02.nii.gz"


def check(root: Path, labels: dict[str, int] | None = None) -> CheckReport:
    """The report; none of its messages says where the dataset lies."""
    report = check_dataset(read_dataset(root), labels)
    for problem in report.problems:
        assert str(root.parent) not in str(problem)
        assert problem.remedy
    return report


def read_array(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj).copy()


def halve_with_averaging(path: Path) -> None:
    """Blocks of 2 x 2 pixels become their mean: edges get grey values, five values in all at the most."""
    with PillowImage.open(path) as picture:
        averaged = picture.reduce(2).resize(picture.size, PillowImage.Resampling.NEAREST)
    averaged.save(path)


def only_error(report: CheckReport) -> Problem:
    assert [problem.severity for problem in report.problems] == [ERROR], report.problems
    assert report.fingerprint is None
    return report.problems[0]


# datasets without problems


def test_check_dataset_plain_folders_find_labels_and_grid(nifti_folders: Path) -> None:
    report = check(nifti_folders)
    assert report.problems == ()
    assert report.dataset.labels == {"background": 0, "label_1": 1, "label_2": 2}
    fingerprint = report.require_no_errors()
    assert (fingerprint.num_cases, fingerprint.spatial_dims, fingerprint.suffix) == (4, 3, ".nii.gz")
    assert fingerprint.channels == ("channel_0",)
    assert fingerprint.cases[0].shape == (12, 16, 10)
    assert fingerprint.cases[0].spacing_mm == pytest.approx((0.8, 1.0, 1.5))


def test_check_dataset_voxels_per_label_are_counted(nifti_folders: Path, volume_phantom: Callable) -> None:
    _, label = volume_phantom()
    for case in check(nifti_folders).require_no_errors().cases:
        assert case.num_voxels == {
            "background": int((label == 0).sum()),
            "label_1": int((label == 1).sum()),
            "label_2": int((label == 2).sum()),
        }


def test_check_dataset_intensities_are_those_under_the_labels(nifti_folders: Path, volume_phantom: Callable) -> None:
    pooled = np.concatenate([image[label > 0] for image, label in map(volume_phantom, range(4))])
    (intensities,) = check(nifti_folders).require_no_errors().intensities
    assert intensities.mean == pytest.approx(pooled.mean(), rel=1e-5)
    assert intensities.std == pytest.approx(pooled.std(), rel=1e-5)
    assert intensities.percentile_99_5 == pytest.approx(np.percentile(pooled, 99.5), rel=1e-5)


def test_check_dataset_more_cases_keep_no_more_samples(nifti_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Counted(PooledIntensities):
        def add(self, samples: np.ndarray, missing: Collection[int] = ()) -> None:
            seen.append(samples.shape[1])
            super().add(samples, missing)

    monkeypatch.setattr("unet_pipeline.dataset.check.PooledIntensities", Counted)
    monkeypatch.setattr("unet_pipeline.dataset.intensities._MAX_SAMPLES", 60)
    dataset = read_dataset(nifti_folders)
    assert len(dataset.cases) > 1
    for number in (1, len(dataset.cases)):
        seen.clear()
        check_dataset(replace(dataset, cases=dataset.cases[:number]))
        assert len(seen) == number
        assert 30 <= sum(seen) <= 60


def test_check_dataset_test_cases_do_not_change_the_intensities(nifti_folders: Path) -> None:
    dataset = read_dataset(nifti_folders)
    *kept, last = dataset.cases
    with_test = check_dataset(replace(dataset, cases=(*kept, replace(last, split="test")))).require_no_errors()
    without = check_dataset(replace(dataset, cases=tuple(kept))).require_no_errors()
    everything = check_dataset(dataset).require_no_errors()
    only_test = replace(dataset, cases=tuple(replace(case, split="test") for case in dataset.cases))
    assert with_test.intensities == without.intensities
    assert with_test.intensities != everything.intensities
    assert check_dataset(only_test).require_no_errors().intensities == everything.intensities


def test_check_dataset_both_layouts_give_the_same_numbers(nifti_folders: Path, decathlon_folder: Path) -> None:
    plain, declared = check(nifti_folders).require_no_errors(), check(decathlon_folder).require_no_errors()
    assert declared.labels == {"background": 0, "shell": 1, "core": 2}
    assert declared.channels == ("MRI",)
    assert plain.intensities == declared.intensities
    assert [case.shape for case in plain.cases] == [case.shape for case in declared.cases]


def test_check_dataset_pictures_have_width_first_and_labels_0_and_255(png_folders: Path) -> None:
    report = check(png_folders)
    assert report.problems == ()
    assert report.dataset.labels == {"background": 0, "label_255": 255}
    fingerprint = report.require_no_errors()
    assert (fingerprint.spatial_dims, fingerprint.suffix) == (2, ".png")
    assert {case.shape for case in fingerprint.cases} == {(48, 32)}
    assert fingerprint.cases[0].spacing_mm == (1.0, 1.0)


def test_check_dataset_given_names_replace_those_found(png_folders: Path) -> None:
    report = check(png_folders, {"disc": 255, "ground": 0})
    assert report.problems == ()
    assert report.dataset.labels == {"ground": 0, "disc": 255}


def test_check_dataset_label_saved_as_float_is_accepted(nifti_folders: Path, write_nifti: Callable) -> None:
    path = nifti_folders / SECOND_LABEL
    write_nifti(path, read_array(path).astype(np.float32))
    assert check(nifti_folders).problems == ()


def test_check_dataset_affine_rounded_to_four_digits_is_put_right(nifti_folders: Path, write_nifti: Callable) -> None:
    path = nifti_folders / SECOND_LABEL
    write_nifti(path, read_array(path), spacing_mm=(0.8001, 1.0, 1.5))
    prepared, rounded = check(nifti_folders).problems
    assert (rounded.severity, rounded.file, rounded.code) == (NOTE, SECOND_LABEL, "header-rounded")
    assert prepared.code == "prepared"


# one file that cannot be read


def test_check_dataset_image_without_label_names_the_image(nifti_folders: Path) -> None:
    (nifti_folders / SECOND_LABEL).unlink()
    problem = only_error(check(nifti_folders))
    assert (problem.file, problem.cause) == (SECOND_IMAGE, "has no label")


def test_check_dataset_label_without_image_names_the_label(nifti_folders: Path) -> None:
    (nifti_folders / SECOND_IMAGE).unlink()
    problem = only_error(check(nifti_folders))
    assert (problem.file, problem.cause) == (SECOND_LABEL, "has no image")


@pytest.mark.parametrize("path", ["imagesTr/case_02.nii.gz", "labelsTr/case_02.nii.gz"])
def test_check_dataset_listed_file_that_is_missing_is_named(decathlon_folder: Path, path: str) -> None:
    (decathlon_folder / path).unlink()
    problem = only_error(check(decathlon_folder))
    assert (problem.file, problem.cause) == (path, "does not exist")


@pytest.mark.parametrize("path", [SECOND_IMAGE, SECOND_LABEL])
def test_check_dataset_truncated_file_is_named(nifti_folders: Path, path: str) -> None:
    content = (nifti_folders / path).read_bytes()
    (nifti_folders / path).write_bytes(content[: len(content) // 2])
    assert only_error(check(nifti_folders)).file == path


@pytest.mark.parametrize("path", [SECOND_IMAGE, SECOND_LABEL])
def test_check_dataset_wrong_checksum_is_named(nifti_folders: Path, path: str) -> None:
    content = bytearray((nifti_folders / path).read_bytes())
    content[-8] ^= 1
    (nifti_folders / path).write_bytes(content)
    problem = only_error(check(nifti_folders))
    assert problem.file == path
    assert "CRC" in problem.cause


def test_check_dataset_image_and_label_both_unreadable_are_both_named(nifti_folders: Path) -> None:
    for path in (SECOND_IMAGE, SECOND_LABEL):
        (nifti_folders / path).write_bytes(b"no image")
    assert [problem.file for problem in check(nifti_folders).errors] == [SECOND_IMAGE, SECOND_LABEL]


def test_check_dataset_picture_under_a_path_with_spaces_is_named_relative(png_folders: Path) -> None:
    spaced = png_folders.rename(png_folders.with_name("my phantoms"))
    (spaced / "images" / "case_02.png").write_bytes(b"no picture")
    assert only_error(check(spaced)).file == "images/case_02.png"


# one case whose content is wrong


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_check_dataset_voxels_without_value_are_counted(
    nifti_folders: Path, write_nifti: Callable, value: float
) -> None:
    image = read_array(nifti_folders / SECOND_IMAGE).astype(np.float32)
    image[:2, 0, 0] = value
    write_nifti(nifti_folders / SECOND_IMAGE, image)
    problem = only_error(check(nifti_folders))
    assert problem.file == SECOND_IMAGE
    assert problem.cause.startswith("has 2 values that are NaN or infinite")


@pytest.mark.parametrize("value", [3e38, -1e19])
def test_check_dataset_values_beyond_float32s_squares_are_refused_in_any_format(
    nifti_folders: Path, write_nifti: Callable, value: float
) -> None:
    image = read_array(nifti_folders / SECOND_IMAGE).astype(np.float32)
    image[0, 0, 0] = value
    write_nifti(nifti_folders / SECOND_IMAGE, image)
    (problem,) = check(nifti_folders).errors
    assert (problem.file, problem.code) == (SECOND_IMAGE, "values-too-large")
    assert problem.cause.startswith(f"has values up to {abs(value):.3g}; expected less than 1e+18")
    assert "scl_slope" in problem.remedy


def test_check_dataset_image_that_float32_takes_for_one_value_is_constant(
    nifti_folders: Path, write_nifti: Callable
) -> None:
    image = read_array(nifti_folders / SECOND_IMAGE).astype(np.float64) + 1e17
    write_nifti(nifti_folders / SECOND_IMAGE, image)
    assert [problem.code for problem in check(nifti_folders).errors] == ["constant"]


@pytest.mark.parametrize(
    ("patients", "warned"),
    [
        (("P1", "p1", "P2", "P3"), ["case_02"]),
        (("P1", "p1", "P1", "p1"), ["case_02"]),
        (("P1", "P 1", "p1", "P2"), ["case_02", "case_03"]),
        (("\u00e9", "e\u0301", "a", "b"), ["case_02"]),
        (("P1", "P1", "P2", "P01"), []),
    ],
)
def test_check_dataset_patients_that_differ_in_case_only_are_a_warning(
    nifti_folders: Path, patients: tuple[str, ...], warned: list[str]
) -> None:
    rows = [
        f"images/case_{number:02d}.nii.gz,labels/case_{number:02d}.nii.gz,{patient}"
        for number, patient in enumerate(patients, start=1)
    ]
    (nifti_folders / "cases.csv").write_text("\n".join(["image,label,patient", *rows]), encoding="utf-8")
    report = check(nifti_folders)
    alike = [problem for problem in report.problems if problem.code == "patients-alike"]
    assert [problem.file for problem in alike] == warned
    assert {problem.severity for problem in alike} <= {WARNING}
    assert all(f"case_01 the patient {patients[0]!r}; they are taken for two" in problem.cause for problem in alike)


def test_check_dataset_constant_image_is_named_with_its_value(nifti_folders: Path, write_nifti: Callable) -> None:
    write_nifti(nifti_folders / SECOND_IMAGE, np.full((12, 16, 10), 7, np.int16))
    problem = only_error(check(nifti_folders))
    assert (problem.file, problem.cause) == (SECOND_IMAGE, "is constant (7)")


def test_check_dataset_label_between_whole_numbers_is_named(nifti_folders: Path, write_nifti: Callable) -> None:
    label = read_array(nifti_folders / SECOND_LABEL).astype(np.float32)
    label[0, 0, 0] = 0.25
    write_nifti(nifti_folders / SECOND_LABEL, label)
    problem = only_error(check(nifti_folders))
    assert problem.file == SECOND_LABEL
    assert "0.25" in problem.cause


def test_check_dataset_undeclared_value_is_named_with_the_table(decathlon_folder: Path, write_nifti: Callable) -> None:
    path = decathlon_folder / "labelsTr/case_02.nii.gz"
    label = read_array(path)
    label[0, 0, 0] = 9
    write_nifti(path, label)
    problem = only_error(check(decathlon_folder))
    assert problem.file == "labelsTr/case_02.nii.gz"
    assert "undeclared value(s) 9" in problem.cause
    assert "background=0, shell=1, core=2" in problem.cause


def test_check_dataset_other_shape_shows_both(nifti_folders: Path, write_nifti: Callable) -> None:
    write_nifti(nifti_folders / SECOND_LABEL, read_array(nifti_folders / SECOND_LABEL)[:, :-1])
    problem = only_error(check(nifti_folders))
    assert problem.file == SECOND_LABEL
    assert problem.cause.startswith(
        "has shape (12, 15, 10), its image (12, 16, 10); it begins at the image's first voxel"
    )


@pytest.mark.parametrize(
    "affine",
    [
        pytest.param(np.diag([0.8, 1.0, 1.6, 1.0]), id="spacing"),
        pytest.param(np.diag([-0.8, 1.0, 1.5, 1.0]), id="flip"),
        pytest.param(np.array([[0.8, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1.5, 0], [0, 0, 0, 1]]), id="shift"),
    ],
)
def test_check_dataset_other_affine_is_named(nifti_folders: Path, write_nifti: Callable, affine: np.ndarray) -> None:
    write_nifti(nifti_folders / SECOND_LABEL, read_array(nifti_folders / SECOND_LABEL), affine=affine)
    problem = only_error(check(nifti_folders))
    assert problem.file == SECOND_LABEL
    assert "another affine" in problem.cause


def test_check_dataset_picture_label_turned_by_90_degrees_is_named(
    png_folders: Path, write_picture: Callable, picture_phantom: Callable
) -> None:
    _, label = picture_phantom()
    write_picture(png_folders / "labels" / "case_02.png", np.ascontiguousarray(label.T))
    problem = only_error(check(png_folders))
    assert (problem.file, problem.cause) == ("labels/case_02.png", "has shape (32, 48), its image (48, 32)")


def test_check_dataset_smoothed_mask_is_named(
    png_folders: Path, write_picture: Callable, picture_phantom: Callable
) -> None:
    _, label = picture_phantom()
    write_picture(png_folders / "labels" / "case_02.png", ndimage.gaussian_filter(label, 2))
    problem = only_error(check(png_folders))
    assert problem.file == "labels/case_02.png"
    assert "in-between values" in problem.cause
    assert "without smoothing" in problem.remedy


def test_check_dataset_edges_of_grey_with_declared_labels_are_named(
    png_folders: Path,
) -> None:
    halve_with_averaging(png_folders / "labels" / "case_02.png")
    problem = only_error(check(png_folders, {"background": 0, "disc": 255}))
    assert problem.file == "labels/case_02.png"
    assert "undeclared value(s)" in problem.cause


def test_check_dataset_edges_of_grey_without_declared_labels_are_reported(png_folders: Path) -> None:
    """A mask halved with averaging has five values or fewer; it must not quietly become a task with five labels."""
    for path in sorted((png_folders / "labels").iterdir()):
        halve_with_averaging(path)
    assert check(png_folders).problems


def test_check_dataset_empty_label_is_a_warning(nifti_folders: Path, write_nifti: Callable) -> None:
    write_nifti(nifti_folders / SECOND_LABEL, np.zeros((12, 16, 10), np.uint8))
    report = check(nifti_folders)
    assert [(problem.severity, problem.file) for problem in report.problems] == [(WARNING, SECOND_LABEL)]
    assert report.require_no_errors().num_cases == 4


# cases that do not fit each other, and the label table


def test_check_dataset_case_with_other_dimensions_is_named(nifti_folders: Path, write_nifti: Callable) -> None:
    for path in (SECOND_IMAGE, SECOND_LABEL):
        write_nifti(nifti_folders / path, read_array(nifti_folders / path)[:, :, 5])
    problem = only_error(check(nifti_folders))
    assert (problem.file, problem.cause) == (SECOND_IMAGE, "has 2 spatial dimensions, most cases have 3")


def test_check_dataset_case_with_other_channels_is_named(nifti_folders: Path, write_nifti: Callable) -> None:
    image = read_array(nifti_folders / SECOND_IMAGE)
    write_nifti(nifti_folders / SECOND_IMAGE, np.stack([image, image], axis=-1))
    problem = only_error(check(nifti_folders))
    assert (problem.file, problem.cause) == (SECOND_IMAGE, "has 2 channels, most cases have 1")


def test_check_dataset_mixed_formats_are_to_be_copied(nifti_folders: Path) -> None:
    path = nifti_folders / SECOND_IMAGE
    nib.save(nib.load(path), path.with_name("case_02.nii"))
    path.unlink()
    report = check(nifti_folders)
    (note,) = report.problems
    assert (note.severity, note.cause) == (NOTE, "mixes the image formats .nii, .nii.gz")
    assert report.needs_preparation
    assert report.require_no_errors().suffix == ".nii.gz"


def test_check_dataset_same_voxels_twice_are_a_warning(nifti_folders: Path) -> None:
    shutil.copyfile(nifti_folders / "images/case_01.nii.gz", nifti_folders / SECOND_IMAGE)
    report = check(nifti_folders)
    (problem,) = report.problems
    assert (problem.severity, problem.file) == (WARNING, SECOND_IMAGE)
    assert problem.cause == "has the same content as images/case_01.nii.gz"
    assert report.patients["case_01"] == report.patients["case_02"]


def test_check_dataset_same_voxels_on_both_sides_are_an_error(nifti_folders: Path) -> None:
    shutil.copyfile(nifti_folders / "images/case_01.nii.gz", nifti_folders / SECOND_IMAGE)
    dataset = read_dataset(nifti_folders)
    cases = tuple(
        replace(case, split=side) for case, side in zip(dataset.cases, ("train", "test", "train", "train"), strict=True)
    )
    problem = only_error(check_dataset(replace(dataset, cases=cases)))
    assert problem.cause == "is for test and has the same content as images/case_01.nii.gz, which is for train"


def test_check_dataset_patient_on_both_sides_is_an_error(nifti_folders: Path) -> None:
    dataset = read_dataset(nifti_folders)
    sides = ("train", "test", "train", "train")
    cases = tuple(replace(case, split=side, patient="one") for case, side in zip(dataset.cases, sides, strict=True))
    problem = only_error(check_dataset(replace(dataset, cases=cases)))
    assert (problem.file, problem.cause) == ("case_02", "is for test, and case_01 of the same patient is for train")


def test_check_dataset_patient_on_both_sides_of_a_given_fold_is_an_error(nifti_folders: Path) -> None:
    dataset = read_dataset(nifti_folders)
    cases = tuple(replace(case, patient=case.name[:6]) for case in dataset.cases)
    folds = ((("case_01", "case_02"), ("case_03", "case_04")),)
    report = check_dataset(replace(dataset, cases=cases, folds=folds))
    assert {problem.code for problem in report.errors} == {"patient-across-split"}


def test_check_dataset_spacing_far_from_the_others_is_a_warning(nifti_folders: Path, write_nifti: Callable) -> None:
    for path in (SECOND_IMAGE, SECOND_LABEL):
        write_nifti(nifti_folders / path, read_array(nifti_folders / path), spacing_mm=(8.0, 10.0, 15.0))
    (problem,) = check(nifti_folders).problems
    assert (problem.severity, problem.file) == (WARNING, SECOND_IMAGE)
    assert problem.cause == "has the spacing 8x10x15 mm, the median of the dataset is 0.8x1x1.5 mm"


def test_check_dataset_spacing_of_a_table_against_the_header_is_a_warning(nifti_folders: Path) -> None:
    dataset = read_dataset(nifti_folders)
    cases = (replace(dataset.cases[0], spacing_mm=(0.8, 1.0, 3.0)), *dataset.cases[1:])
    (problem,) = check_dataset(replace(dataset, cases=cases)).problems
    assert problem.cause == "has the spacing 0.8x1x1.5 mm in its header, and 0.8x1x3 mm in the dataset's table"


def test_check_dataset_spacing_of_pictures_comes_from_the_table(png_folders: Path) -> None:
    dataset = read_dataset(png_folders)
    cases = tuple(replace(case, spacing_mm=(0.25,)) for case in dataset.cases)
    fingerprint = check_dataset(replace(dataset, cases=cases)).require_no_errors()
    assert {case.pixel_spacing_mm for case in fingerprint.cases} == {(0.25, 0.25)}
    assert {case.spacing_mm for case in fingerprint.cases} == {(1.0, 1.0)}


def test_check_dataset_files_per_channel_become_channels(nifti_folders: Path) -> None:
    dataset = read_dataset(nifti_folders)
    for case in dataset.cases:
        path = nifti_folders / case.image
        shutil.copyfile(path, path.with_name(f"second_{path.name}"))
    cases = tuple(
        replace(case, further_channels=(case.image.with_name(f"second_{case.image.name}"),)) for case in dataset.cases
    )
    report = check_dataset(replace(dataset, cases=cases))
    assert report.require_no_errors().channels == ("channel_0", "channel_1")
    assert report.needs_preparation == "has a file per channel"
    assert len(report.manifest) == 12


def test_check_dataset_channel_on_another_grid_is_named(nifti_folders: Path, write_nifti: Callable) -> None:
    dataset = read_dataset(nifti_folders)
    for case in dataset.cases:
        path = nifti_folders / case.image
        shutil.copyfile(path, path.with_name(f"second_{path.name}"))
    cut = nifti_folders / "images" / "second_case_02.nii.gz"
    write_nifti(cut, read_array(cut)[:-1])
    cases = tuple(
        replace(case, further_channels=(case.image.with_name(f"second_{case.image.name}"),)) for case in dataset.cases
    )
    problem = only_error(check_dataset(replace(dataset, cases=cases)))
    assert problem.file == "images/second_case_02.nii.gz"
    assert problem.cause == "has shape (11, 16, 10), the first channel case_02.nii.gz has (12, 16, 10)"


def test_check_dataset_colour_masks_must_agree(png_folders: Path, write_picture: Callable) -> None:
    for number, colour in enumerate(((255, 0, 0), (255, 0, 0), (0, 255, 0), (255, 0, 0)), start=1):
        rows = np.zeros((32, 48, 3), np.uint8)
        rows[10:20, 10:30] = colour
        write_picture(png_folders / "labels" / f"case_0{number}.png", rows)
    report = check(png_folders)
    (error,) = report.errors
    assert error.file == "labels/case_03.png"
    assert error.cause == "gives the value 1 to the colour #00ff00, labels/case_01.png to #ff0000"


def test_check_dataset_colour_masks_are_to_be_copied(png_folders: Path, write_picture: Callable) -> None:
    for path in sorted((png_folders / "labels").iterdir()):
        rows = np.zeros((32, 48, 3), np.uint8)
        rows[10:20, 10:30] = (255, 0, 0)
        write_picture(path, rows)
    report = check(png_folders)
    assert report.require_no_errors().labels == {"background": 0, "label_1": 1}
    assert report.needs_preparation == "has 4 label map(s) whose grid or form is put right"


def test_check_dataset_ignore_value_is_no_label(nifti_folders: Path, write_nifti: Callable) -> None:
    label = read_array(nifti_folders / SECOND_LABEL)
    label[0, 0, 0] = 7
    write_nifti(nifti_folders / SECOND_LABEL, label)
    report = check_dataset(replace(read_dataset(nifti_folders), ignore_value=7))
    assert report.require_no_errors().labels == {"background": 0, "label_1": 1, "label_2": 2}


def test_check_dataset_declared_label_in_no_file_is_named(nifti_folders: Path) -> None:
    problem = only_error(check(nifti_folders, {"background": 0, "shell": 1, "core": 2, "vessel": 3}))
    assert problem.file == "label table"
    assert "vessel" in problem.cause


def test_check_dataset_broken_case_does_not_make_its_label_look_unused(
    decathlon_folder: Path, write_nifti: Callable
) -> None:
    """Only case_02 has the core; its image is broken, its label is not."""
    for name in ("case_01", "case_03", "case_04"):
        path = decathlon_folder / f"labelsTr/{name}.nii.gz"
        write_nifti(path, np.minimum(read_array(path), 1))
    (decathlon_folder / "imagesTr/case_02.nii.gz").write_bytes(b"no image")
    assert only_error(check(decathlon_folder)).file == "imagesTr/case_02.nii.gz"


def test_check_dataset_labels_without_zero_are_a_problem_of_the_table(
    nifti_folders: Path, write_nifti: Callable
) -> None:
    for path in sorted((nifti_folders / "labels").iterdir()):
        write_nifti(path, read_array(path) + 1)
    problem = only_error(check(nifti_folders))
    assert problem.file == "label table"
    assert "no value 0" in problem.cause


def test_check_dataset_only_background_is_a_problem_of_the_table(nifti_folders: Path, write_nifti: Callable) -> None:
    for path in sorted((nifti_folders / "labels").iterdir()):
        write_nifti(path, np.zeros((12, 16, 10), np.uint8))
    assert "1 label(s)" in check(nifti_folders).errors[0].cause


def test_check_dataset_more_channel_names_than_channels_is_listed(decathlon_folder: Path) -> None:
    path = decathlon_folder / "dataset.json"
    write_json(path, json.loads(path.read_text()) | {"modality": {"0": "T1", "1": "T2"}})
    assert only_error(check(decathlon_folder)).cause == "names 2 channel(s) (T1, T2); its images have 1"


def test_check_dataset_several_problems_put_errors_first_by_file(nifti_folders: Path, write_nifti: Callable) -> None:
    write_nifti(nifti_folders / "labels/case_01.nii.gz", np.zeros((12, 16, 10), np.uint8))
    (nifti_folders / "labels/case_04.nii.gz").unlink()
    (nifti_folders / "images/case_03.nii.gz").write_bytes(b"no image")
    report = check(nifti_folders)
    assert [(problem.severity, problem.file) for problem in report.problems] == [
        (ERROR, "images/case_03.nii.gz"),
        (ERROR, "images/case_04.nii.gz"),
        (WARNING, "labels/case_01.nii.gz"),
    ]


def test_check_dataset_every_case_broken_still_reports(nifti_folders: Path) -> None:
    for path in sorted((nifti_folders / "images").iterdir()):
        path.write_bytes(b"no image")
    report = check(nifti_folders)
    assert {problem.file for problem in report.errors} == {f"images/case_0{number}.nii.gz" for number in range(1, 5)}
    assert report.fingerprint is None


# the report


def test_require_no_errors_lists_every_error(nifti_folders: Path) -> None:
    for number in (1, 3):
        (nifti_folders / f"images/case_0{number}.nii.gz").write_bytes(b"no image")
    with pytest.raises(DatasetError) as caught:
        check(nifti_folders).require_no_errors()
    message = str(caught.value)
    assert message.startswith("Dataset phantoms_nifti has 2 error(s):")
    assert "images/case_01.nii.gz" in message
    assert "images/case_03.nii.gz" in message
    assert str(nifti_folders) not in message


def test_require_no_errors_groups_by_kind_as_check_does(png_folders: Path) -> None:
    report = check(png_folders)
    alike = tuple(Problem(ERROR, f"labels/{number}.png", "is odd", "Mend it.", "odd") for number in range(300))
    other = Problem(ERROR, "dataset.json", "is worse", "Write it.", "worse")
    with pytest.raises(DatasetError) as caught:
        replace(report, fingerprint=None, problems=(*alike, other)).require_no_errors()
    assert str(caught.value).splitlines() == [
        "Dataset phantoms_png has 301 error(s):",
        "  error: 300 files with the problem 'odd'. Mend it.",
        *(f"    labels/{number}.png is odd" for number in range(3)),
        "    and 297 more",
        "  error: dataset.json is worse. Write it.",
    ]


def test_build_manifest_every_file_is_listed_with_size_and_digest(png_folders: Path) -> None:
    manifest = build_manifest(check(png_folders))
    assert (manifest["dataset_name"], manifest["num_cases"]) == ("phantoms_png", 4)
    files = sorted(path for path in png_folders.rglob("*") if path.is_file())
    assert manifest["files"] == [
        {
            "path": path.relative_to(png_folders).as_posix(),
            "num_bytes": path.stat().st_size,
            "sha256": compute_sha256(path),
        }
        for path in files
    ]


def test_write_report_usable_dataset_writes_three_files(nifti_folders: Path, tmp_path: Path) -> None:
    report = check(nifti_folders)
    written = write_report(report, tmp_path / "report")
    assert [path.name for path in written] == ["problems.json", "fingerprint.json", "dataset_manifest.json"]
    assert json.loads(written[0].read_text()) == []
    assert read_fingerprint(written[1]) == report.fingerprint
    assert json.loads(written[2].read_text()) == build_manifest(report)


def test_write_report_unusable_dataset_writes_its_problems(nifti_folders: Path, tmp_path: Path) -> None:
    (nifti_folders / SECOND_LABEL).unlink()
    (written,) = write_report(check(nifti_folders), tmp_path / "report")
    (problem,) = json.loads(written.read_text())
    assert problem["severity"] == ERROR
    assert problem["file"] == SECOND_IMAGE
    assert set(problem) == {"severity", "file", "cause", "remedy", "code"}


# real data


@pytest.mark.real_data
def test_check_dataset_hippocampus_has_no_problem(hippocampus_report: CheckReport) -> None:
    assert hippocampus_report.problems == ()
    fingerprint = hippocampus_report.require_no_errors()
    assert fingerprint.num_cases == 208
    assert fingerprint.labels == {"background": 0, "Anterior": 1, "Posterior": 2}
    assert fingerprint.median_shape() == (35, 50, 36)
    assert {case.spacing_mm for case in fingerprint.cases} == {(1.0, 1.0, 1.0)}
    assert len(hippocampus_report.manifest) == 416


@pytest.mark.real_data
def test_check_dataset_em_membrane_has_no_problem(em_membrane_report: CheckReport) -> None:
    assert em_membrane_report.problems == ()
    fingerprint = em_membrane_report.require_no_errors()
    assert fingerprint.num_cases == 24
    assert fingerprint.labels == {"background": 0, "label_255": 255}
    assert {case.shape for case in fingerprint.cases} == {(512, 512)}
    cell_share = sum(case.num_voxels["label_255"] for case in fingerprint.cases) / fingerprint.num_voxels()
    assert 0.7 < cell_share < 0.85  # membrane is the smaller part


@pytest.mark.real_data
def test_check_dataset_histology_has_three_channels(pipeline_data: Path) -> None:
    report = check_dataset(read_dataset(pipeline_data / "nuclei_histology"))
    assert report.errors == ()
    fingerprint = report.require_no_errors()
    assert fingerprint.num_cases == 64
    assert len(fingerprint.channels) == len(fingerprint.intensities) == 3
    assert {case.shape for case in fingerprint.cases} == {(320, 256)}


@pytest.mark.parametrize(("slope", "inter"), [(1e36, 0.0), (1.0, 1e38), (-1e20, 0.0)])
def test_check_dataset_values_that_float32_cannot_square_are_an_error(
    nifti_folders: Path, slope: float, inter: float
) -> None:
    path = sorted((nifti_folders / "images").iterdir())[0]
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([0.8, 1.0, 1.5, 1.0]))
    nib.save(image, path)
    content = bytearray(gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes())
    content[112:120] = np.array([slope, inter], "<f4").tobytes()  # scl_slope and scl_inter
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else bytes(content))
    found = [
        problem for problem in check_dataset(read_dataset(nifti_folders)).errors if problem.code == "nifti-scaling"
    ]
    assert [problem.file for problem in found] == [f"images/{path.name}"]
    assert "expected numbers up to 1e+18" in found[0].cause
