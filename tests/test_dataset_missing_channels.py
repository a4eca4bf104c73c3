"""Cases that lack channels: errors, or used where the user says so, in every layout that has a file per channel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.dataset.case_reading import read_case_grid, read_case_image
from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.fix import fix_dataset
from unet_pipeline.dataset.layouts import read_dataset, read_datasets
from unet_pipeline.dataset.missing_channels import (
    ANY,
    COLUMN,
    find_constant,
    fit_to_channels,
    insert_missing,
    resolve_allowed,
    zero_constant,
)
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.prepare import prepare_dataset
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import write_json, write_text

from .conftest import save_nifti

NAMES = ("t1", "t2")
CASES = ("a", "b", "c", "d")
LACKING = {"b": (1,), "c": (0,)}  # places of the channels that a case has no file of
T1, T2 = 100.0, 900.0


def draw(place: int, seed: int) -> np.ndarray:
    values = np.random.default_rng((seed, place)).normal((T1, T2)[place], 1, (10, 11, 12))
    return values.astype(np.float32)


def write_cases(name_image: Callable[[str, int], Path], name_label: Callable[[str], Path]) -> None:
    label = np.zeros((10, 11, 12), np.uint8)
    label[3:7, 3:7, 3:7] = 1
    for seed, case in enumerate(CASES):
        for place in range(2):
            if place not in LACKING.get(case, ()):
                save_nifti(name_image(case, place), draw(place, seed))
        save_nifti(name_label(case), label)


def write_nnunet(root: Path) -> None:
    write_cases(
        lambda case, place: root / "imagesTr" / f"{case}_{place:04d}.nii.gz",
        lambda case: root / "labelsTr" / f"{case}.nii.gz",
    )
    channels = {str(place): name for place, name in enumerate(NAMES)}
    facts = {"channel_names": channels, "labels": {"background": 0, "ball": 1}, "file_ending": ".nii.gz"}
    write_json(root / "dataset.json", facts)


def write_case_folders(root: Path) -> None:
    write_cases(
        lambda case, place: root / case / f"{case}-{NAMES[place]}.nii.gz",
        lambda case: root / case / f"{case}-seg.nii.gz",
    )


def write_plain(root: Path) -> None:
    write_cases(
        lambda case, place: root / "images" / f"{case}_{NAMES[place]}.nii.gz",
        lambda case: root / "labels" / f"{case}.nii.gz",
    )


def write_bids(root: Path) -> None:
    write_cases(
        lambda case, place: root / f"sub-{case}" / "anat" / f"sub-{case}_{NAMES[place]}.nii.gz",
        lambda case: root / f"sub-{case}" / "anat" / f"sub-{case}_seg.nii.gz",
    )


def list_paths(case: str, absent: str | None) -> list[str | None]:
    """Paths of a list; that of a missing channel is `absent`, or one of a file that does not exist."""
    named = [f"images/{case}_{name}.nii.gz" for name in NAMES]
    return [
        absent if place in LACKING.get(case, ()) and absent != "as if" else path for place, path in enumerate(named)
    ]


def write_table(root: Path, absent: str = "") -> None:
    write_plain(root)
    rows = [f"{case},{','.join(map(str, list_paths(case, absent)))},labels/{case}.nii.gz" for case in CASES]
    write_text(root / "cases.csv", "\n".join(["case,image_0,image_1,label", *rows]) + "\n")


def write_joined_column(root: Path) -> None:
    write_plain(root)
    rows = [f"{case},{';'.join(map(str, list_paths(case, '')))},labels/{case}.nii.gz" for case in CASES]
    write_text(root / "cases.csv", "\n".join(["case,image,label", *rows]) + "\n")


def write_monai_list(root: Path) -> None:
    write_plain(root)
    entries = [{"image": list_paths(case, None), "label": f"labels/{case}.nii.gz"} for case in CASES]
    write_json(root / "dataset.json", {"training": entries})


LAYOUTS = {
    "nnunet": write_nnunet,
    "case folders": write_case_folders,
    "plain": write_plain,
    "bids": write_bids,
    "table": write_table,
    "table of files that do not exist": lambda root: write_table(root, "as if"),
    "table with one column": write_joined_column,
    "list": write_monai_list,
}


@pytest.fixture
def nnunet(tmp_path: Path) -> Path:
    write_nnunet(tmp_path / "data")
    return tmp_path / "data"


def check_with(root: Path, *allowed: str) -> CheckReport:
    return check_dataset(
        read_dataset(root, missing_channels=allowed), None, ReadOptions(missing_channels=allowed or ())
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_channels_are_errors_without_the_option(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path)
    errors = check_with(tmp_path).errors
    assert len(errors) == 2
    if layout != "table of files that do not exist":
        assert {error.code for error in errors} <= {"channel-missing", "channel-file-missing"}
        assert all("--missing-channels any" in error.remedy for error in errors)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_channels_are_taken_where_they_may_be_missing(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path)
    report = check_with(tmp_path, ANY)
    assert not report.errors
    cases = dict(zip(CASES, report.dataset.cases, strict=True))
    assert {name: case.missing_channels for name, case in cases.items() if case.missing_channels} == LACKING
    fingerprint = report.require_no_errors()
    assert len(fingerprint.channels) == 2
    assert fingerprint.missing_channels == fingerprint.channels
    patterns = [case.columns[COLUMN] for case in cases.values()]
    assert patterns == ["none", fingerprint.channels[1], fingerprint.channels[0], "none"]
    warnings = [problem for problem in report.problems if problem.code == "channels-missing"]
    assert [problem.cause.partition(" (")[0] for problem in warnings] == [
        f"has 1 of 4 cases without {fingerprint.channels[place]}" for place in (1, 0)
    ]


def test_statistics_are_of_the_channels_that_are_there(nnunet: Path) -> None:
    means = [channel.mean for channel in check_with(nnunet, ANY).require_no_errors().intensities]
    assert means == pytest.approx([T1, T2], abs=0.5)


def test_only_named_channels_may_be_missing(nnunet: Path) -> None:
    report = check_with(nnunet, "T2")
    assert [(error.file, error.code) for error in report.errors] == [("imagesTr/c_0001.nii.gz", "channel-missing")]
    assert [case.name for case in report.dataset.cases] == ["a", "b", "d"]


def test_names_are_suggested_and_numbers_are_names_too() -> None:
    assert resolve_allowed(["1"], NAMES) == ("t2",)
    assert resolve_allowed(["ANY"], NAMES) == NAMES
    assert resolve_allowed([], NAMES) == ()
    with pytest.raises(DatasetError, match=r"names the channel 't11'; did you mean.*t1"):
        resolve_allowed(["t11"], NAMES)
    with pytest.raises(DatasetError, match="the images have one channel"):
        resolve_allowed([ANY], ["t1"])


def test_channel_that_no_case_has_is_an_error(nnunet: Path) -> None:
    for path in (nnunet / "imagesTr").glob("*_0001.nii.gz"):
        path.unlink()
    errors = check_with(nnunet, ANY).errors
    assert ("channel-never-there", "has the channel t2, which no case has") in {(e.code, e.cause) for e in errors}


def test_case_without_any_channel_is_an_error(nnunet: Path, tmp_path: Path) -> None:
    (nnunet / "imagesTr" / "b_0000.nii.gz").unlink()
    assert [(error.file, error.code) for error in check_with(nnunet, ANY).errors] == [
        ("labelsTr/b.nii.gz", "nnunet-no-image")
    ]
    write_text(tmp_path / "cases.csv", "image_0,image_1,label\n,,l.nii.gz\n")
    with pytest.raises(DatasetError, match="row 2, has an empty image"):
        read_dataset(tmp_path / "cases.csv", missing_channels=(ANY,))


def test_image_has_zeros_for_a_missing_channel(nnunet: Path) -> None:
    dataset = read_dataset(nnunet, missing_channels=(ANY,))
    for case, seed, place in ((dataset.cases[1], 1, 1), (dataset.cases[2], 2, 0)):
        image = read_case_image(nnunet, case, ReadOptions())
        assert read_case_grid(nnunet, case).num_channels == len(image.array) == 2
        assert not image.array[place].any()
        np.testing.assert_array_equal(image.array[1 - place], draw(1 - place, seed))


def test_copies_have_zeros_and_cases_no_missing_files(nnunet: Path, tmp_path: Path) -> None:
    copies, _ = prepare_dataset(check_with(nnunet, ANY), tmp_path / "copies")
    array = np.asarray(nib.load(copies.root / copies.cases[1].image).dataobj)
    assert array.shape == (10, 11, 12, 2)
    assert array[..., 0].any()
    assert not array[..., 1].any()
    assert not copies.cases[1].missing_channels


def test_channel_of_one_value_counts_as_missing(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    for case, place in (("b", 1), ("c", 0)):
        save_nifti(tmp_path / "imagesTr" / f"{case}_{place:04d}.nii.gz", np.full((10, 11, 12), -1.5, np.float32))
    noted = [problem for problem in check_with(tmp_path).problems if problem.code == "channel-constant"]
    assert [problem.cause.partition(" (")[0] for problem in noted] == [
        f"has 1 of 4 cases whose channel {name} has one value everywhere" for name in NAMES
    ]
    report = check_with(tmp_path, ANY)
    assert [case.columns[COLUMN] for case in report.dataset.cases] == ["none", "t2", "t1", "none"]
    means = [channel.mean for channel in report.require_no_errors().intensities]
    assert means == pytest.approx([T1, T2], abs=0.5)
    copies, _ = prepare_dataset(report, tmp_path / "copies")
    assert not np.asarray(nib.load(copies.root / copies.cases[1].image).dataobj)[..., 1].any()


def test_channel_that_is_constant_in_every_case_is_none_that_some_lack(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    for case in CASES:
        save_nifti(tmp_path / "imagesTr" / f"{case}_0001.nii.gz", np.zeros((10, 11, 12), np.float32))
    save_nifti(tmp_path / "imagesTr" / "c_0000.nii.gz", draw(0, 2))
    assert not [problem for problem in check_with(tmp_path).problems if problem.code == "channel-constant"]


def test_fixed_copy_keeps_what_is_missing(nnunet: Path, tmp_path: Path) -> None:
    fixed = fix_dataset(nnunet, tmp_path / "fixed", None, ReadOptions(missing_channels=(ANY,)))
    assert not fixed.copy.errors
    assert [case.missing_channels for case in fixed.copy.dataset.cases] == [(), (1,), (0,), ()]


def test_arrays_known_answers() -> None:
    array = np.array([[[1, 2]], [[3, 4]]], np.int16)
    np.testing.assert_array_equal(insert_missing(array, (1,)), [[[1, 2]], [[0, 0]], [[3, 4]]])
    assert insert_missing(array, ()) is array
    constant = np.array([[[1, 2]], [[5, 5]], [[0, 0]]], np.int16)
    assert find_constant(constant) == (1, 2)
    assert find_constant(constant[1:2]) == ()
    np.testing.assert_array_equal(zero_constant(constant), [[[1, 2]], [[0, 0]], [[0, 0]]])
    assert zero_constant(array) is array


def test_joined_datasets_have_the_channels_of_all(nnunet: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    label = np.zeros((10, 11, 12), np.uint8)
    label[3:7, 3:7, 3:7] = 1
    for name in ("e", "f"):
        save_nifti(other / "imagesTr" / f"{name}_0000.nii.gz", draw(1, ord(name)))
        save_nifti(other / "labelsTr" / f"{name}.nii.gz", label)
    facts = {"channel_names": {"0": "T2"}, "labels": {"background": 0, "ball": 1}, "file_ending": ".nii.gz"}
    write_json(other / "dataset.json", facts)
    with pytest.raises(DatasetError, match="The datasets have the channels"):
        read_datasets([nnunet, other])
    joined = read_datasets([nnunet, other], missing_channels=(ANY,))
    assert joined.name == "data + other"
    report = check_dataset(joined, None, ReadOptions(missing_channels=(ANY,)))
    assert not report.errors
    assert [case.columns[COLUMN] for case in report.dataset.cases] == ["none", "t2", "t1", "none", "t1", "t1"]
    warned = [problem.cause for problem in report.problems if problem.code == "channels-missing"]
    assert warned[1].startswith("has 3 of 6 cases without t1 (c, e, f)")
    assert len(warned) == 2
    only = read_datasets([nnunet, other], missing_channels=("t2",))
    assert [case.name for case in only.cases] == ["a", "b", "d"]
    errors = [(one.code, one.cause) for one in only.problems_of_layout if one.severity == "error"]
    wrong = "is of case {}, which has no file of channel t1; other cases have one"
    assert errors == [("channel-file-missing", wrong.format(case)) for case in ("c", "e", "f")]


def test_dataset_with_a_part_of_the_channels_is_fitted_to_a_network() -> None:
    case = Case("a", Path("flair"), Path("label"), (Path("t1"),))
    fitted = fit_to_channels(Dataset(Path(), "list", (case,), ("FLAIR", "T1")), ("t1", "t2", "flair"))
    (one,) = fitted.cases
    assert one.channel_files == (Path("t1"), None, Path("flair"))
    assert (one.missing_channels, one.columns[COLUMN]) == ((1,), "t2")
    other = Dataset(Path(), "list", (case,), ("ct", "t1"))
    assert fit_to_channels(other, ("t1", "t2")) is other
