"""Archives of the published form, in miniature, become the layouts of this project with the values that they had."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import DatasetError
from unet_pipeline.public_data.card import PublicSet, find_set
from unet_pipeline.public_data.convert import LUNG_SIZE, classify_stain, convert


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


# the ISBI stacks


def write_em(folder: Path, num_sections: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    volume = generator.integers(0, 255, (num_sections, 6, 8), np.uint8)
    labels = generator.integers(0, 2, volume.shape, np.uint8) * np.uint8(255)
    for name, stack in (("train-volume", volume), ("train-labels", labels), ("test-volume", volume)):
        tifffile.imwrite(folder / f"{name}.tif", stack, photometric="minisblack")
    return volume, labels


def test_em_stacks_become_a_picture_per_section(tmp_path: Path) -> None:
    volume, labels = write_em(tmp_path)
    assert convert(find_set("em_membrane"), tmp_path, tmp_path / "out") == 3
    for number in range(3):
        assert np.array_equal(read(tmp_path / "out" / "images" / f"slice_{number:02d}.png"), volume[number])
        assert np.array_equal(read(tmp_path / "out" / "labels" / f"slice_{number:02d}.png"), labels[number])
    assert len(read_dataset(tmp_path / "out").cases) == 3


def cut_labels(folder: Path) -> None:
    tifffile.imwrite(folder / "train-labels.tif", np.zeros((2, 6, 8), np.uint8), photometric="minisblack")


def change_values(folder: Path) -> None:
    tifffile.imwrite(folder / "train-labels.tif", np.full((3, 6, 8), 7, np.uint8), photometric="minisblack")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut_labels, r"shape \(2, 6, 8\).*expected the shape \(3, 6, 8\)"),
        (change_values, r"values \[7\]; expected .* \[0, 255\]"),
        (lambda folder: (folder / "train-labels.tif").unlink(), r"0 files train-labels\.tif"),
        (lambda folder: (folder / "train-volume.tif").write_bytes(b"II*\0"), r"train-volume\.tif cannot be read"),
    ],
)
def test_em_stacks_of_another_form_are_an_error(tmp_path: Path, change: Callable[[Path], object], words: str) -> None:
    write_em(tmp_path)
    change(tmp_path)
    with pytest.raises(DatasetError, match=words):
        convert(find_set("em_membrane"), tmp_path, tmp_path / "out")


# nuclei


RAMP = np.repeat(np.arange(80, dtype=np.uint8).reshape(8, 10, 1) // 2, 3, -1)
DARK, BRIGHT = RAMP, RAMP + np.uint8(180)
STAINED = BRIGHT - np.array([10, 60, 20], np.uint8)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (DARK, "fluorescence"),
        (STAINED, "stained"),
        (BRIGHT, "unstained"),
        (BRIGHT - np.array([0, 9, 0], np.uint8), "unstained"),
        (BRIGHT - np.array([0, 10, 0], np.uint8), "stained"),
    ],
)
def test_classify_stain(image: np.ndarray, kind: str) -> None:
    assert classify_stain(image) == kind


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "kind"), [("nuclei_fluorescence", "fluorescence"), ("nuclei_histology", "stained")])
def test_classify_stain_of_known_images_is_their_sets(pipeline_data: Path, name: str, kind: str) -> None:
    paths = sorted((pipeline_data / name / "images").iterdir())[::4]
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    assert {classify_stain(image) for image in images} == {kind}


def write_nuclei(folder: Path, names: dict[str, np.ndarray]) -> None:
    """An RGBA image per folder, and two masks that touch, as the collection has them."""
    for name, image in names.items():
        alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
        save(folder / name / "images" / f"{name}.png", np.concatenate([image, alpha], -1))
        for mask_name, columns in (("1b", slice(1, 4)), ("0a", slice(4, 6))):
            mask = np.zeros(image.shape[:2], np.uint8)
            mask[2:5, columns] = 255
            save(folder / name / "masks" / f"{mask_name}.png", mask)


NUCLEI = {"00ae65c1c6631ae6f2be1a44": DARK, "0121d6759c5adb290c8e828f": STAINED, "ffff00000000aaaa": BRIGHT}


@pytest.mark.parametrize(
    ("name", "case", "pixels"),
    [
        ("nuclei_fluorescence", "00ae65c1c663", DARK[..., 0]),
        ("nuclei_histology", "0121d6759c5a", STAINED),
    ],
)
def test_nuclei_of_one_type_get_labels_and_instances(tmp_path: Path, name: str, case: str, pixels: np.ndarray) -> None:
    write_nuclei(tmp_path / "stage1_train", NUCLEI)
    out = tmp_path / "out"
    assert convert(find_set(name), tmp_path, out) == 3
    assert [path.name for path in (out / "images").iterdir()] == [f"{case}.png"]
    assert np.array_equal(read(out / "images" / f"{case}.png"), pixels)
    instances = read(out / "instances" / f"{case}.png")
    assert instances.dtype == np.uint16
    assert np.unique(instances[2:5, 4:6]).tolist() == [1]  # the mask whose name comes first
    assert np.unique(instances[2:5, 1:4]).tolist() == [2]
    assert np.count_nonzero(instances) == 15
    label = read(out / "labels" / f"{case}.png")
    assert label.dtype == np.uint8
    assert np.array_equal(label, (instances > 0) * 255)
    assert [found.name for found in read_dataset(out).cases] == [case]


def remove_masks(folder: Path) -> None:
    for file in folder.rglob("masks/*.png"):
        file.unlink()


def shrink_mask(folder: Path) -> None:
    save(next(folder.rglob("0a.png")), np.zeros((3, 3), np.uint8))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove_masks, "a0 has no mask"),
        (shrink_mask, r"a0/masks/0a\.png has the size \(3, 3\); expected that of its image, \(8, 10\)"),
        (lambda folder: next(folder.rglob("0a.png")).write_bytes(b"x"), r"masks/0a\.png cannot be decoded"),
        (lambda folder: next(folder.rglob("images/*.png")).write_bytes(b"x"), r"images/a0\.png cannot be decoded"),
    ],
)
def test_nuclei_of_another_form_are_an_error(tmp_path: Path, change: Callable[[Path], object], words: str) -> None:
    write_nuclei(tmp_path, {"a0": DARK})
    change(tmp_path)
    with pytest.raises(DatasetError, match=words):
        convert(find_set("nuclei_fluorescence"), tmp_path, tmp_path / "out")


# heads


def draw_ellipse(centre: tuple[float, float], shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    """The outline of an ellipse with half axes 10 and 15, one pixel wide, and its inside with it."""
    rows, columns = np.indices(shape)
    inside = ((rows - centre[0]) / 10) ** 2 + ((columns - centre[1]) / 15) ** 2 <= 1
    padded = np.pad(inside, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    if centre[0] < 10:
        core[0] = inside[0] & padded[1, :-2] & padded[1, 2:]  # the border of the image closes it
    return np.stack([inside & ~core, inside])


TABLE = "filename,pixel size(mm),head circumference (mm)\n000_HC.png,0.0691358041432,44.3\n010_2HC.png,0.1,69.8\n"


def write_heads(folder: Path, table: str = TABLE) -> dict[str, np.ndarray]:
    heads = {"000_HC": draw_ellipse((20, 30)), "010_2HC": draw_ellipse((4, 30))}
    for name, (outline, _) in heads.items():
        save(folder / "training_set" / f"{name}.png", outline.astype(np.uint8) + np.uint8(90))
        save(folder / "training_set" / f"{name}_Annotation.png", outline.astype(np.uint8) * np.uint8(255))
    (folder / "training_set_pixel_size_and_HC.csv").write_text(table)
    return {name: inside for name, (_, inside) in heads.items()}


def test_heads_outlines_are_filled_also_where_the_border_cuts_them(tmp_path: Path) -> None:
    heads = write_heads(tmp_path)
    assert convert(find_set("fetal_head_ultrasound"), tmp_path, tmp_path / "out") == 2
    for name, inside in heads.items():
        assert np.array_equal(read(tmp_path / "out" / "labels" / f"{name}.png"), inside * 255)
        assert np.unique(read(tmp_path / "out" / "images" / f"{name}.png")).tolist() == [90, 91]
    lines = (tmp_path / "out" / "cases.csv").read_text().splitlines()
    assert lines[0] == "case,image,label,patient,spacing_mm,head_circumference_mm"
    assert lines[1] == "000_HC,images/000_HC.png,labels/000_HC.png,000,0.0691358041432,44.3"
    assert lines[2].split(",")[3:] == ["010", "0.1", "69.8"]
    cases = read_dataset(tmp_path / "out").cases
    assert [case.name for case in cases] == ["000_HC", "010_2HC"]


@pytest.mark.real_data
def test_heads_filled_as_those_of_the_project(pipeline_data: Path, tmp_path: Path) -> None:
    source = pipeline_data / "fetal_head_ultrasound"
    label = read(source / "labels" / "000_HC.png") > 0
    padded = np.pad(label, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    save(tmp_path / "000_HC.png", read(source / "images" / "000_HC.png"))
    save(tmp_path / "000_HC_Annotation.png", (label & ~core).astype(np.uint8) * np.uint8(255))
    (tmp_path / "training_set.csv").write_text("\n".join(TABLE.splitlines()[:2]))
    convert(find_set("fetal_head_ultrasound"), tmp_path, tmp_path / "out")
    assert np.array_equal(read(tmp_path / "out" / "labels" / "000_HC.png") > 0, label)


def open_outline(folder: Path) -> None:
    path = folder / "training_set" / "000_HC_Annotation.png"
    outline = read(path).copy()
    outline[:, 28:32] = 0
    save(path, outline)


def empty_outline(folder: Path) -> None:
    save(folder / "training_set" / "000_HC_Annotation.png", np.zeros((40, 60), np.uint8))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (open_outline, r"000_HC_Annotation\.png has no closed outline"),
        (empty_outline, r"000_HC_Annotation\.png has no closed outline"),
        (
            lambda folder: (folder / "training_set" / "010_2HC_Annotation.png").unlink(),
            r"010_2HC_Annotation\.png is missing",
        ),
        (lambda folder: (folder / "training_set" / "000_HC.png").unlink(), r"000_HC\.png is missing"),
        (lambda folder: write_heads(folder, "file,mm\n"), r"has the columns \[\]"),
        (lambda folder: write_heads(folder, "file,mm\na,1\n"), r"has the columns \['file', 'mm'\]"),
        (lambda folder: next(folder.glob("*.csv")).unlink(), r"no training_set\*\.csv"),
    ],
)
def test_heads_of_another_form_are_an_error(tmp_path: Path, change: Callable[[Path], object], words: str) -> None:
    write_heads(tmp_path)
    change(tmp_path)
    with pytest.raises(DatasetError, match=words):
        convert(find_set("fetal_head_ultrasound"), tmp_path, tmp_path / "out")


# lungs


def write_lungs(folder: Path, dtype: type = np.uint8) -> None:
    """One image of twice the size, left half bright, with a lung in each half."""
    height, width = LUNG_SIZE[1] * 2, LUNG_SIZE[0] * 2
    image = np.zeros((height, width), dtype)
    image[:, : width // 2] = 200 if dtype == np.uint8 else 4000
    root = folder / "MontgomerySet"
    save(root / "CXR_png" / "MCUCXR_0001_0.png", image)
    for side, columns in (("left", slice(0, 200)), ("right", slice(-200, None))):
        mask = np.zeros(image.shape, np.uint8)
        mask[100:300, columns] = 255
        save(root / "ManualMask" / f"{side}Mask" / "MCUCXR_0001_0.png", mask)
    (root / "ClinicalReadings").mkdir()


@pytest.mark.parametrize(("dtype", "bright"), [(np.uint8, 200), (np.uint16, 4000)])
def test_lungs_both_masks_become_one_label(tmp_path: Path, dtype: type, bright: int) -> None:
    write_lungs(tmp_path, dtype)
    card, out = find_set("lung_xray"), tmp_path / "out"
    assert convert(card, tmp_path, out) == 1
    image = read(out / "imagesTr" / "MCUCXR_0001_0_0000.png")
    assert image.shape == LUNG_SIZE[::-1]
    assert image.dtype == dtype
    assert np.unique(image[:, :256]).tolist() == [bright]
    label = read(out / "labelsTr" / "MCUCXR_0001_0.png")
    assert np.unique(label[50:150, :100]).tolist() == np.unique(label[50:150, -100:]).tolist() == [1]
    assert label.sum() == 2 * 100 * 100
    dataset = read_dataset(out)
    assert dataset.labels == {"background": 0, "lung": 1}
    assert [case.name for case in dataset.cases] == ["MCUCXR_0001_0"]
    assert dataset.licence == card.licence


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: next(folder.rglob("rightMask/*.png")).unlink(), r"no mask of the right lung"),
        (lambda folder: save(next(folder.rglob("leftMask/*.png")), np.zeros((3, 3), np.uint8)), "expected the same"),
    ],
)
def test_lungs_of_another_form_are_an_error(tmp_path: Path, change: Callable[[Path], object], words: str) -> None:
    write_lungs(tmp_path)
    change(tmp_path)
    with pytest.raises(DatasetError, match=words):
        convert(find_set("lung_xray"), tmp_path, tmp_path / "out")


# the Decathlon


def write_decathlon(folder: Path, num_cases: int = 2) -> None:
    root = folder / "Task04_Hippocampus"
    pairs = []
    for number in range(num_cases):
        name = f"hippocampus_{number:03d}.nii.gz"
        pairs.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
        for part in ("imagesTr", "labelsTr"):
            (root / part).mkdir(parents=True, exist_ok=True)
            voxels = (np.arange(120).reshape(4, 5, 6) + number) % 3
            nib.save(nib.Nifti1Image(voxels.astype(np.uint8), np.eye(4)), root / part / name)
    facts = {"name": "Hippocampus", "modality": {"0": "MRI"}, "licence": "CC-BY-SA 4.0", "test": []}
    labels = {"0": "background", "1": "Anterior", "2": "Posterior"}
    (root / "dataset.json").write_text(json.dumps({**facts, "labels": labels, "training": pairs}))


@pytest.fixture
def decathlon() -> PublicSet:
    return replace(find_set("Task04_Hippocampus"), num_cases=2)


def test_decathlon_stays_as_it_is(tmp_path: Path, decathlon: PublicSet) -> None:
    write_decathlon(tmp_path)
    assert convert(decathlon, tmp_path, tmp_path / "out") == 2
    assert len(list((tmp_path / "out" / "imagesTr").iterdir())) == 2


def test_decathlon_listed_file_that_is_not_there_is_named(tmp_path: Path, decathlon: PublicSet) -> None:
    write_decathlon(tmp_path)
    (tmp_path / "Task04_Hippocampus" / "labelsTr" / "hippocampus_001.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"labelsTr/hippocampus_001\.nii\.gz"):
        convert(decathlon, tmp_path, tmp_path / "out")


def test_decathlon_without_list_is_an_error(tmp_path: Path, decathlon: PublicSet) -> None:
    with pytest.raises(DatasetError, match=r"0 files dataset\.json"):
        convert(decathlon, tmp_path, tmp_path / "out")
