"""Bad and tricky inputs, made from real data: each gets its verdict, in words, and nothing is left behind.

A case is a dataset of real files, what is done to it, and the words of the verdict. `ERROR` cases end with exit status 1 and
one message; `TRICKY` ones are right all the same, with a note, a warning, or nothing to say.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image as PillowImage
from pydicom.uid import generate_uid

ERROR, TRICKY = 1, 0
CASES_3D = ("hippocampus_001", "hippocampus_003", "hippocampus_004")
CASES_2D = ("slice_00", "slice_01", "slice_02")
SERIES = "hippocampus_crop_mr"

Break = Callable[[Path], None]


@dataclass(frozen=True)
class Trial:
    """One bad or tricky dataset; `words` must all be in what is printed."""

    name: str
    build: Callable[[Path, Path], Path]
    change: Break
    status: int
    words: tuple[str, ...]
    options: tuple[str, ...] = ()


TRIALS: list[Trial] = []


def trial(
    build: Callable[[Path, Path], Path], status: int, *words: str, options: tuple[str, ...] = ()
) -> Callable[[Break], Break]:
    """Registers a function that changes a dataset as one trial."""

    def register(change: Break) -> Break:
        name = f"{build.__name__}: {change.__name__.strip('_').replace('_', ' ')}"
        TRIALS.append(Trial(name, build, change, status, words, options))
        return change

    return register


# real datasets, small


def volumes(data: Path, root: Path) -> Path:
    """Three cases as plain folders."""
    for source, folder in (("imagesTr", "images"), ("labelsTr", "labels")):
        (root / folder).mkdir(parents=True)
        for case in CASES_3D:
            copy(data / "Task04_Hippocampus" / source / f"{case}.nii.gz", root / folder / f"{case}.nii.gz")
    return root


def decathlon(data: Path, root: Path) -> Path:
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
        for case in CASES_3D:
            copy(data / "Task04_Hippocampus" / folder / f"{case}.nii.gz", root / folder / f"{case}.nii.gz")
    content = json.loads((data / "Task04_Hippocampus" / "dataset.json").read_text())
    content["training"] = [
        {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in CASES_3D
    ]
    write_dataset_json(root, content)
    return root


def pictures(data: Path, root: Path) -> Path:
    """Three slices as plain folders."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
        for case, source in zip(CASES_2D, sorted((data / "em_membrane" / folder).iterdir()), strict=False):
            with PillowImage.open(source) as picture:
                picture.crop((0, 0, 200, 160)).save(root / folder / f"{case}.png")
    return root


def table(data: Path, root: Path) -> Path:
    pictures(data, root)
    lines = ["case,image,label,patient,split,spacing_mm"]
    lines += [f"{case},images/{case}.png,labels/{case}.png,p{number},,0.5" for number, case in enumerate(CASES_2D)]
    (root / "cases.csv").write_text("\n".join(lines) + "\n")
    return root


def nnunet(data: Path, root: Path) -> Path:
    """Three cases with two channels each, the second one negated."""
    (root / "imagesTr").mkdir(parents=True)
    (root / "labelsTr").mkdir()
    for case in CASES_3D:
        source = data / "Task04_Hippocampus" / "imagesTr" / f"{case}.nii.gz"
        copy(source, root / "imagesTr" / f"{case}_0000.nii.gz")
        image = nib.load(source)
        negated = nib.Nifti1Image(-np.asarray(image.dataobj), image.affine)
        nib.save(negated, root / "imagesTr" / f"{case}_0001.nii.gz")
        copy(data / "Task04_Hippocampus" / "labelsTr" / f"{case}.nii.gz", root / "labelsTr" / f"{case}.nii.gz")
    labels = {"background": 0, "anterior": 1, "posterior": 2}
    content = {
        "channel_names": {"0": "T1", "1": "negated"},
        "labels": labels,
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    write_dataset_json(root, content)
    return root


def series(data: Path, root: Path) -> Path:
    """Two DICOM series with a label map each."""
    for case in ("a", "b"):
        folder = root / "images" / case
        folder.mkdir(parents=True)
        for file in sorted((data / "dicom" / SERIES).iterdir()):
            copy(file, folder / file.name)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(root / "images" / "a")))
    image = reader.Execute()
    (root / "labels").mkdir()
    for case, level in (("a", 60), ("b", 80)):
        SimpleITK.WriteImage(
            SimpleITK.Cast(image > level, SimpleITK.sitkUInt8), str(root / "labels" / f"{case}.nii.gz")
        )
    change_dicom(root / "images" / "b", lambda header, _: setattr(header, "RescaleIntercept", 1))  # not the same voxels
    return root


def copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)  # not the read-only mode of the shared data


def write_dataset_json(root: Path, content: dict) -> None:
    (root / "dataset.json").write_text(json.dumps(content))


def edit_dataset_json(root: Path, **changes: object) -> None:
    write_dataset_json(root, json.loads((root / "dataset.json").read_text()) | changes)


IMAGE, LABEL = Path("images/hippocampus_003.nii.gz"), Path("labels/hippocampus_003.nii.gz")


def change_nifti(path: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    """Write voxels and affine of a file again, changed."""
    image = nib.load(path)
    array, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
    nib.save(nib.Nifti1Image(array, affine), path)


def change_header(path: Path, change: Callable[[bytearray], None]) -> None:
    """Change the bytes of a compressed NIfTI file's content."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    change(content)
    path.write_bytes(gzip.compress(bytes(content)))


def change_dicom(folder: Path, change: Callable[[pydicom.Dataset, int], None]) -> None:
    """Change the header of every file of a series; `change` gets its position in the order of the names."""
    for number, path in enumerate(sorted(folder.iterdir())):
        header = pydicom.dcmread(path)
        change(header, number)
        header.save_as(path)


def slices(root: Path) -> list[Path]:
    """Files of series b in the order of their positions."""
    files = list((root / "images" / "b").iterdir())
    return sorted(files, key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))


# files that cannot be read


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz", "Compressed file ended", "Copy it again")
def image_cut_at_half(root: Path) -> None:
    content = (root / IMAGE).read_bytes()
    (root / IMAGE).write_bytes(content[: len(content) // 2])


@trial(volumes, ERROR, "labels/hippocampus_003.nii.gz", "Compressed file ended")
def label_cut_before_its_end(root: Path) -> None:
    (root / LABEL).write_bytes((root / LABEL).read_bytes()[:-20])


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz", "CRC")
def image_with_a_wrong_checksum(root: Path) -> None:
    content = bytearray((root / IMAGE).read_bytes())
    content[-8] ^= 255
    (root / IMAGE).write_bytes(content)


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz", "does not begin with a NIfTI header")
def image_of_random_bytes(root: Path) -> None:
    (root / IMAGE).write_bytes(gzip.compress(np.random.default_rng(0).bytes(5000)))


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz", "49 bytes are no NIfTI header")
def image_that_is_text(root: Path) -> None:
    (root / IMAGE).write_bytes(b"this is text and no image, however long it may be")


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz", "0 bytes are no NIfTI header")
def image_without_a_byte(root: Path) -> None:
    (root / IMAGE).write_bytes(b"")


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz", "the header claims")
def header_of_30000_cubed(root: Path) -> None:
    change_header(
        root / IMAGE, lambda content: content.__setitem__(slice(42, 48), np.array([30000] * 3, "<i2").tobytes())
    )


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz", "it is truncated")
def header_of_one_slice_more(root: Path) -> None:
    def grow(content: bytearray) -> None:
        size = int(np.frombuffer(content[46:48], "<i2")[0])
        content[46:48] = np.array([size + 1], "<i2").tobytes()

    change_header(root / IMAGE, grow)


@trial(volumes, TRICKY, "no problem found")
def gzip_bomb_behind_the_image(root: Path) -> None:
    with gzip.open(root / IMAGE, "ab") as stream:
        stream.write(bytes(50_000_000))


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz", "has complex numbers as voxels")
def image_of_complex_numbers(root: Path) -> None:
    change_nifti(root / IMAGE, lambda array, affine: (array.astype(np.complex64), affine))


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz", "an affine that is no grid: it has no inverse")
def affine_without_inverse(root: Path) -> None:
    def flatten(content: bytearray) -> None:
        content[280:328] = bytes(48)  # srow_x to srow_z
        content[252:256] = np.array([0, 1], "<i2").tobytes()  # qform_code, sform_code

    change_header(root / IMAGE, flatten)


# voxels


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz", "has 3 values that are NaN or infinite")
def image_with_nan(root: Path) -> None:
    def spoil(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        array = array.astype(np.float32)
        array[0, 0, :3] = np.nan
        return array, affine

    change_nifti(root / IMAGE, spoil)


@trial(volumes, ERROR, "has 1 values that are NaN or infinite")
def image_with_infinity(root: Path) -> None:
    def spoil(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        array = array.astype(np.float32)
        array[0, 0, 0] = -np.inf
        return array, affine

    change_nifti(root / IMAGE, spoil)


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz", "is constant (0)")
def image_of_zeros(root: Path) -> None:
    change_nifti(root / IMAGE, lambda array, affine: (np.zeros_like(array), affine))


@trial(volumes, ERROR, "labels/hippocampus_003.nii.gz", "expected whole numbers")
def label_resampled_with_interpolation(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: ((array + np.roll(array, 1, 0)) / 2.0, affine))


@trial(volumes, ERROR, "labels/hippocampus_003.nii.gz", "has the value nan; expected whole numbers")
def label_with_nan(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: (np.where(array == 1, np.nan, array).astype(np.float32), affine))


@trial(volumes, TRICKY, "no problem found")
def label_stored_as_float(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: (array.astype(np.float32), affine))


@trial(volumes, ERROR, "label table has the value -1")
def label_with_a_negative_value(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: (np.where(array == 1, -1, array).astype(np.int16), affine))


@trial(volumes, ERROR, "label table", "expected 0 to 255", options=("--label", "background=0", "--label", "organ=1000"))
def label_value_beyond_255(root: Path) -> None:
    for path in sorted((root / "labels").iterdir()):
        change_nifti(path, lambda array, affine: ((array > 0).astype(np.int16) * 1000, affine))


@trial(volumes, ERROR, "labels/hippocampus_003.nii.gz", "has 3 channels; expected a label map with one")
def label_in_three_channels(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: (np.stack([array] * 3, axis=-1), affine))


@trial(volumes, TRICKY, "warning: labels/hippocampus_003.nii.gz has no value other than 0")
def label_without_a_structure(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: (np.zeros_like(array), affine))


@trial(decathlon, ERROR, "labelsTr/hippocampus_003.nii.gz", "undeclared value(s) 7", "Anterior=1")
def label_value_that_is_not_declared(root: Path) -> None:
    path = root / "labelsTr/hippocampus_003.nii.gz"
    change_nifti(path, lambda array, affine: (np.where(array == 1, 7, array), affine))


@trial(decathlon, ERROR, "names tumour, which no file contains")
def label_that_no_file_has(root: Path) -> None:
    edit_dataset_json(root, labels={"0": "background", "1": "Anterior", "2": "Posterior", "3": "tumour"})


# grids


@trial(volumes, ERROR, "labels/hippocampus_003.nii.gz", "its image (", "lacks the last 1", "Draw or export the label")
def label_with_a_slice_missing(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: (array[..., :-1], affine))


@trial(volumes, TRICKY, "labels/hippocampus_003.nii.gz", "lies (1, 2, 0) whole voxels", "padded")
def label_cropped_to_a_box(root: Path) -> None:
    change_nifti(
        root / LABEL,
        lambda array, affine: (array[1:-1, 2:], affine @ np.array(np.eye(4) + np.outer([1, 2, 0, 0], [0, 0, 0, 1]))),
    )


@trial(volumes, ERROR, "voxels are as large and turned as the image's, but lie between them", "(1.5, 1.5, 1.5)")
def label_cropped_between_the_voxels(root: Path) -> None:
    change_nifti(
        root / LABEL, lambda array, affine: (array[2:, 2:, 2:], affine + np.outer([1.5, 1.5, 1.5, 0], [0, 0, 0, 1]))
    )


@trial(volumes, TRICKY, "labels/hippocampus_003.nii.gz", "up to 0.02 beside whole numbers", "rounded to 0, 1, 2")
def label_a_little_beside_whole_numbers(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: ((array * 0.99).astype(np.float32), affine))


@trial(volumes, ERROR, "labels/hippocampus_003.nii.gz", "has the value 1.8", "a header that scales (scl_slope)")
def label_scaled_far_from_whole_numbers(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: ((array * 0.9).astype(np.float32), affine))


@trial(volumes, ERROR, "origin shifted by (10, 0, 0) mm", "--copy-header")
def label_shifted_by_a_centimetre(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: (array, affine + np.outer([1, 0, 0, 0], [0, 0, 0, 10])))


@trial(volumes, TRICKY, "lay elsewhere", "the image's header is used, as asked for", options=("--copy-header",))
def label_shifted_and_its_header_copied(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: (array, affine + np.outer([1, 0, 0, 0], [0, 0, 0, 10])))


@trial(volumes, ERROR, "flipped left-right")
def label_flipped_left_to_right(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: (array, np.diag([-1, 1, 1, 1]) @ affine))


@trial(volumes, ERROR, "spacing 1x1x2 instead of 1x1x1 mm")
def label_with_another_spacing(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: (array, affine @ np.diag([1, 1, 2, 1])))


@trial(volumes, ERROR, "rotated by 5 degrees")
def label_rotated(root: Path) -> None:
    angle = np.radians(5)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    change_nifti(root / LABEL, lambda array, affine: (array, turn @ affine))


@trial(volumes, ERROR, "both cover the same part of the world", "--resample-labels")
def label_drawn_at_double_resolution(root: Path) -> None:
    change_nifti(root / LABEL, double)


@trial(volumes, TRICKY, "resampled to the image's grid with nearest neighbours", options=("--resample-labels",))
def label_at_double_resolution_resampled(root: Path) -> None:
    change_nifti(root / LABEL, double)


def double(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of half the size along the first axis, in the same box."""
    fine = affine @ np.diag([0.5, 1, 1, 1])
    fine[:3, 3] -= fine[:3, 0] / 2
    return array.repeat(2, axis=0), fine


@trial(volumes, TRICKY, "note: labels/hippocampus_003.nii.gz", "a rounding of the header")
def label_header_rounded(root: Path) -> None:
    change_nifti(root / LABEL, lambda array, affine: (array, affine + np.outer([1, 1, 0, 0], [0, 0, 0, 0.004])))


@trial(volumes, ERROR, "has no place in the world (its affine is the identity)")
def label_without_a_header(root: Path) -> None:
    change_nifti(root / IMAGE, lambda array, affine: (array, affine + np.outer([1, 1, 1, 0], [0, 0, 0, -50])))
    change_nifti(root / LABEL, lambda array, affine: (array, np.eye(4)))


@trial(volumes, ERROR, "has 2 spatial dimensions, most cases have 3")
def case_of_one_slice_among_volumes(root: Path) -> None:
    for path in (root / IMAGE, root / LABEL):
        change_nifti(path, lambda array, affine: (array[:, :, 10], affine))


@trial(volumes, ERROR, "has 4 channels, most cases have 1")
def case_of_a_time_series(root: Path) -> None:
    change_nifti(root / IMAGE, lambda array, affine: (np.stack([array] * 4, axis=-1), affine))


@trial(volumes, TRICKY, "warning: images/hippocampus_003.nii.gz has the spacing 10x10x10 mm")
def case_with_a_spacing_ten_times_the_others(root: Path) -> None:
    for path in (root / IMAGE, root / LABEL):
        change_nifti(path, lambda array, affine: (array, affine @ np.diag([10, 10, 10, 1])))


@trial(volumes, TRICKY, "warning: images/hippocampus_003.nii.gz", "sform", "qform")
def qform_and_sform_that_disagree(root: Path) -> None:
    def shift(content: bytearray) -> None:
        content[252:256] = np.array([1, 1], "<i2").tobytes()  # qform_code, sform_code
        content[268:272] = np.array([33], "<f4").tobytes()  # qoffset_x

    change_header(root / IMAGE, shift)
    label = nib.load(root / LABEL)
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj), nib.load(root / IMAGE).affine), root / LABEL)


# folders and names


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz has no label", "Add labels/hippocampus_003.nii.gz")
def image_without_label(root: Path) -> None:
    (root / LABEL).unlink()


@trial(volumes, ERROR, "labels/hippocampus_003.nii.gz has no image", "Add images/hippocampus_003.nii.gz")
def label_without_image(root: Path) -> None:
    (root / IMAGE).unlink()


@trial(volumes, ERROR, "differs from images/Hippocampus_003.nii.gz in upper and lower case only")
def names_that_differ_in_case(root: Path) -> None:
    for path in (IMAGE, LABEL):
        copy(root / path, root / path.with_name("Hippocampus_003.nii.gz"))


@trial(volumes, ERROR, "images/hippocampus_003.nii.gz is a link that leads out of the dataset")
def link_to_a_file_outside(root: Path) -> None:
    outside = root.parent / "outside.nii.gz"
    (root / IMAGE).rename(outside)
    (root / IMAGE).symlink_to(outside)


@trial(volumes, TRICKY, "warning: images/hippocampus_003.nii.gz has the same content as images/hippocampus_001.nii.gz")
def same_image_under_two_names(root: Path) -> None:
    for path in (IMAGE, LABEL):
        copy(root / path.with_name("hippocampus_001.nii.gz"), root / path)


@trial(volumes, ERROR, "has images/ and imgs/; expected one of them")
def two_folders_of_images(root: Path) -> None:
    shutil.copytree(root / "images", root / "imgs")


@trial(volumes, ERROR, "has images, and no label maps in a known layout")
def images_without_a_folder_of_labels(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.rename(root / path.name)
    shutil.rmtree(root / "images")
    shutil.rmtree(root / "labels")


@trial(volumes, ERROR, "is empty")
def folder_without_a_file(root: Path) -> None:
    for folder in ("images", "labels"):
        shutil.rmtree(root / folder)


@trial(volumes, ERROR, "has no pair of image and label")
def folders_without_a_file(root: Path) -> None:
    for folder in ("images", "labels"):
        shutil.rmtree(root / folder)
        (root / folder).mkdir()


@trial(volumes, TRICKY, "mixes the image formats .nii, .nii.gz")
def two_formats_of_images(root: Path) -> None:
    nib.save(nib.load(root / IMAGE), root / "images/hippocampus_003.nii")
    (root / IMAGE).unlink()


@trial(decathlon, ERROR, "dataset.json is not valid JSON")
def dataset_json_cut_short(root: Path) -> None:
    path = root / "dataset.json"
    path.write_text(path.read_text()[:-10])


@trial(decathlon, ERROR, "training entry 0, leads out of the dataset")
def path_that_leads_upwards(root: Path) -> None:
    edit_dataset_json(root, training=[{"image": "../../etc/passwd", "label": "labelsTr/hippocampus_001.nii.gz"}])


@trial(decathlon, ERROR, "imagesTr/hippocampus_003.nii.gz does not exist")
def listed_file_that_is_missing(root: Path) -> None:
    (root / "imagesTr/hippocampus_003.nii.gz").unlink()


@trial(decathlon, ERROR, "names 2 channel(s) (T1, T2); its images have 1")
def more_channel_names_than_channels(root: Path) -> None:
    edit_dataset_json(root, modality={"0": "T1", "1": "T2"})


# nnU-Net's layout and lists


@trial(nnunet, TRICKY, "has a file per channel", "channels  T1, negated")
def files_per_channel(root: Path) -> None:
    pass


@trial(nnunet, ERROR, "has no file of channel 1 (imagesTr/hippocampus_003_0001.nii.gz)")
def channel_file_that_is_missing(root: Path) -> None:
    (root / "imagesTr/hippocampus_003_0001.nii.gz").unlink()


@trial(nnunet, ERROR, "imagesTr/hippocampus_003_0001.nii.gz has shape", "the first channel")
def channel_of_another_shape(root: Path) -> None:
    change_nifti(root / "imagesTr/hippocampus_003_0001.nii.gz", lambda array, affine: (array[:-1], affine))


@trial(nnunet, ERROR, "imagesTr/hippocampus_003_0001.nii.gz lies up to 8 mm away from the first channel")
def channel_in_another_place(root: Path) -> None:
    path = root / "imagesTr/hippocampus_003_0001.nii.gz"
    change_nifti(path, lambda array, affine: (array, affine + np.outer([0, 1, 0, 0], [0, 0, 0, 8])))


@trial(nnunet, ERROR, "names the case hippocampus_999, which the dataset lacks")
def split_with_an_unknown_case(root: Path) -> None:
    splits = [{"train": ["hippocampus_001"], "val": ["hippocampus_999"]}]
    (root / "splits_final.json").write_text(json.dumps(splits))


@trial(nnunet, ERROR, "has the case hippocampus_001 in train and in val")
def split_with_a_case_on_both_sides(root: Path) -> None:
    splits = [{"train": ["hippocampus_001"], "val": ["hippocampus_001"]}]
    (root / "splits_final.json").write_text(json.dumps(splits))


@trial(table, TRICKY, "spacing   0.5 to 0.5 mm a pixel", "no problem found")
def list_with_spacing(root: Path) -> None:
    pass


@trial(table, ERROR, "row 3, has the spacing_mm '0'")
def list_with_a_spacing_of_zero(root: Path) -> None:
    edit_table(root, "labels/slice_01.png,p1,,0.5", "labels/slice_01.png,p1,,0")


@trial(table, ERROR, "row 3, has the split 'maybe'")
def list_with_an_unknown_split(root: Path) -> None:
    edit_table(root, "slice_01.png,p1,,", "slice_01.png,p1,maybe,")


@trial(table, ERROR, "slice_01 is for test, and slice_00 of the same patient is for train")
def patient_on_both_sides(root: Path) -> None:
    edit_table(root, "slice_00.png,p0,,", "slice_00.png,p0,train,")
    edit_table(root, "slice_01.png,p1,,", "slice_01.png,p0,test,")


@trial(table, ERROR, "is for test and has the same content as images/slice_00.png, which is for train")
def same_image_on_both_sides(root: Path) -> None:
    copy(root / "images/slice_00.png", root / "images/slice_01.png")
    edit_table(root, "slice_00.png,p0,,", "slice_00.png,p0,train,")
    edit_table(root, "slice_01.png,p1,,", "slice_01.png,p1,test,")


@trial(table, ERROR, "row 3, column image, leads out of the dataset: '/etc/passwd'")
def list_with_an_absolute_path(root: Path) -> None:
    edit_table(root, "slice_01,images/slice_01.png", "slice_01,/etc/passwd")


def edit_table(root: Path, old: str, new: str) -> None:
    text = (root / "cases.csv").read_text()
    assert old in text
    (root / "cases.csv").write_text(text.replace(old, new))


# pictures


@trial(pictures, ERROR, "labels/slice_01.png", "in-between values")
def mask_saved_as_jpeg_in_between(root: Path) -> None:
    path = root / "labels/slice_01.png"
    PillowImage.open(path).save(root.parent / "lossy.jpg", quality=75)
    PillowImage.open(root.parent / "lossy.jpg").save(path)


@trial(pictures, ERROR, "labels/slice_01.jpg", "lossy")
def mask_as_jpeg(root: Path) -> None:
    path = root / "labels/slice_01.png"
    PillowImage.open(path).save(path.with_suffix(".jpg"))
    path.unlink()


@trial(pictures, ERROR, "labels/slice_01.png", "in-between values")
def mask_halved_and_doubled_with_interpolation(root: Path) -> None:
    path = root / "labels/slice_01.png"
    picture = PillowImage.open(path)
    small = picture.resize((90, 70), PillowImage.Resampling.BILINEAR)
    small.resize(picture.size, PillowImage.Resampling.BILINEAR).save(path)


@trial(pictures, TRICKY, "has a palette; its indices are the label values: 0=#000000, 1=#ff0000")
def masks_with_a_palette(root: Path) -> None:
    for path in sorted((root / "labels").iterdir()):
        rows = (np.asarray(PillowImage.open(path)) > 0).astype(np.uint8)
        picture = PillowImage.fromarray(rows)
        picture.putpalette([0, 0, 0, 255, 0, 0])
        picture.save(path)


@trial(pictures, ERROR, "images/slice_01.png", "JPEG", "PNG")
def picture_under_a_wrong_suffix(root: Path) -> None:
    path = root / "images/slice_01.png"
    PillowImage.open(path).save(root.parent / "lossy.jpg")
    copy(root.parent / "lossy.jpg", path)


@trial(pictures, ERROR, "images/slice_01.png", "truncated")
def picture_cut_at_half(root: Path) -> None:
    path = root / "images/slice_01.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@trial(pictures, ERROR, "images/slice_01.png", "30000 x 30000")
def picture_header_of_30000_squared(root: Path) -> None:
    import struct
    import zlib

    path = root / "images/slice_01.png"
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 30000, 30000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(content)


@trial(pictures, ERROR, "has 3 channels, most cases have 1")
def picture_in_colour_among_grey_ones(root: Path) -> None:
    path = root / "images/slice_01.png"
    PillowImage.open(path).convert("RGB").save(path)


@trial(pictures, ERROR, "colour mode")
def picture_with_transparency(root: Path) -> None:
    path = root / "images/slice_01.png"
    picture = PillowImage.open(path).convert("RGBA")
    picture.putalpha(100)
    picture.save(path)


@trial(pictures, ERROR, "labels/slice_01.png has shape (160, 200), its image (200, 160)")
def mask_turned_by_90_degrees(root: Path) -> None:
    path = root / "labels/slice_01.png"
    PillowImage.open(path).transpose(PillowImage.Transpose.ROTATE_90).save(path)


@trial(pictures, TRICKY, "has .tif files")
def pictures_as_tiff(root: Path) -> None:
    for folder in ("images", "labels"):
        for path in sorted((root / folder).iterdir()):
            PillowImage.open(path).save(path.with_suffix(".tif"))
            path.unlink()


@trial(pictures, ERROR, "has 2 pages; expected one", "--pages-as-slices")
def picture_of_two_pages(root: Path) -> None:
    path = root / "images/slice_01.png"
    pages = [PillowImage.open(path), PillowImage.open(root / "images/slice_00.png")]
    pages[0].save(path.with_suffix(".tif"), save_all=True, append_images=pages[1:])
    path.unlink()


# DICOM


@trial(series, TRICKY, "has DICOM files", "2 cases")
def series_as_they_are(root: Path) -> None:
    pass


@trial(series, ERROR, "images/b has a gap of 2.00 mm between", "the others are 1.00 mm")
def series_without_one_slice(root: Path) -> None:
    slices(root)[10].unlink()


@trial(series, ERROR, "images/b/", "along the normal, where")
def series_with_a_slice_twice(root: Path) -> None:
    original = slices(root)[10]
    copied = pydicom.dcmread(original)
    copied.SOPInstanceUID = generate_uid()
    copied.save_as(original.with_name("copy.dcm"))


@trial(series, ERROR, "images/b holds 2 series")
def two_series_in_a_folder(root: Path) -> None:
    uid = generate_uid()
    half = set(slices(root)[16:])
    for path in half:
        header = pydicom.dcmread(path)
        header.SeriesInstanceUID = uid
        header.save_as(path)


@trial(series, ERROR, "images/b was taken with a tilted gantry")
def series_with_a_tilted_gantry(root: Path) -> None:
    for number, path in enumerate(slices(root)):
        header = pydicom.dcmread(path)
        header.ImagePositionPatient = [header.ImagePositionPatient[0], number * 0.2, header.ImagePositionPatient[2]]
        header.save_as(path)


@trial(series, ERROR, "images/b/", "another orientation")
def series_with_mixed_orientations(root: Path) -> None:
    path = slices(root)[5]
    header = pydicom.dcmread(path)
    header.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]
    header.save_as(path)


@trial(series, ERROR, "images/b/", "lacks PixelSpacing")
def series_without_pixel_spacing(root: Path) -> None:
    change_dicom(root / "images/b", lambda header, _: header.__delattr__("PixelSpacing"))


@trial(series, ERROR, "images/b/", "is truncated")
def series_with_a_file_cut_short(root: Path) -> None:
    path = slices(root)[7]
    path.write_bytes(path.read_bytes()[:-500])


@trial(series, ERROR, "has no series of images, only 32 localizer(s)")
def series_of_localizers(root: Path) -> None:
    change_dicom(
        root / "images/b", lambda header, _: setattr(header, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])
    )


@trial(series, TRICKY, "holds 1 secondary capture(s) beside series")
def series_with_a_screenshot(root: Path) -> None:
    header = pydicom.dcmread(slices(root)[0])
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    header.SeriesInstanceUID = generate_uid()
    header.save_as(root / "images/b/screenshot.dcm")


@trial(series, TRICKY, "holds 1 file(s) that are no DICOM and are passed over: notes.txt")
def series_with_a_file_of_another_format(root: Path) -> None:
    (root / "images/b/notes.txt").write_text("seen by nobody")


# the verdicts


@pytest.fixture
def call(call_main: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str]]:
    """Exit status, and everything that was printed."""

    def run(*arguments: str) -> tuple[int, str]:
        status, out, err = call_main(*arguments)
        return status, out + err

    return run


def list_files(root: Path) -> list[tuple[str, int]]:
    return sorted((path.relative_to(root).as_posix(), path.lstat().st_size) for path in root.rglob("*"))


def test_trials_there_are_at_least_sixty() -> None:
    assert len(TRIALS) >= 60
    assert len({trial.name for trial in TRIALS}) == len(TRIALS)


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_check_gives_the_verdict_and_leaves_everything_as_it_is(
    trial: Trial, pipeline_data: Path, tmp_path: Path, call: Callable[..., tuple[int, str]]
) -> None:
    root = trial.build(pipeline_data, tmp_path / "dataset")
    trial.change(root)
    before = list_files(tmp_path)
    status, printed = call("check", "dataset", *trial.options)
    for words in trial.words:
        assert words in printed
    assert status == trial.status, printed
    assert "Traceback" not in printed
    assert str(tmp_path) not in printed
    assert list_files(tmp_path) == before
    if status == ERROR:
        planned, said = call(
            "plan", "dataset", "bundle", "--preset", "quick", "--folds", "2", "--no-forecast", *trial.options
        )
        assert planned == ERROR
        assert "Traceback" not in said
        assert list_files(tmp_path) == before


@pytest.mark.parametrize("build", [nnunet, series, table], ids=lambda build: build.__name__)
def test_plan_of_a_tricky_dataset_is_complete(
    build: Callable[[Path, Path], Path],
    pipeline_data: Path,
    tmp_path: Path,
    call: Callable[..., tuple[int, str]],
) -> None:
    build(pipeline_data, tmp_path / "dataset")
    status, printed = call("plan", "dataset", "bundle", "--preset", "quick", "--folds", "2", "--no-forecast")
    assert status == 0, printed
    split = json.loads((tmp_path / "bundle/evidence/splits/fold_0.json").read_text())
    copies = build is not table
    root = tmp_path / ("bundle_data" if copies else "dataset")
    for side in ("training", "validation"):
        for case in split[side]:
            assert (root / case["image"]).is_file()
            assert (root / case["label"]).is_file()
    manifest = json.loads((tmp_path / "bundle/evidence/dataset_manifest.json").read_text())
    assert len(manifest["prepared"]) == (len(manifest["cases"]) if copies else 0)
