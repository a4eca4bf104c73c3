"""Layers: where the crop lies, that values are the files' own, and what rounding costs."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PillowImage

from unet_pipeline.errors import PipelineError
from unet_pipeline.evidence.records.case_files import Labels, Source
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.viewer.layers import MARGIN_MM, Layers, build_layers, encode_nifti, read_cropped

from .conftest import save_nifti
from .viewer.evaluations import draw_oblique, shift_file

LABELS = Labels({"background": 0, "core": 1, "rim": 2}, {}, ("core", "rim"), spatial_dims=3)


def load(content: bytes | None) -> nib.Nifti1Image:
    assert content is not None
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def build_case(root: Path, dtype: type = np.int16) -> tuple[Source, Path]:
    draw_oblique(root, "a", dtype=dtype)
    shift_file(root / "labels" / "a.nii.gz", root / "found" / "a.nii.gz")
    image = PredictionInput("a", (root / "images" / "a.nii.gz",))
    return Source(image, root / "labels" / "a.nii.gz"), root / "found" / "a.nii.gz"


def build(root: Path, crop: bool = True, exact: bool = True, dtype: type = np.int16) -> Layers:
    source, prediction = build_case(root, dtype)
    return build_layers(source, [prediction], LABELS, crop, exact)


@pytest.mark.parametrize("crop", [True, False])
def test_build_layers_every_voxel_is_where_it_was_with_its_value(tmp_path: Path, crop: bool) -> None:
    layers = build(tmp_path, crop)
    original = nib.load(tmp_path / "images" / "a.nii.gz")
    shown = load(layers.images[0])
    assert nib.aff2axcodes(shown.affine) == ("R", "A", "S")
    values = np.asarray(original.dataobj)
    for voxel in np.random.default_rng(0).integers(0, shown.shape, (200, 3)):
        there = nib.affines.apply_affine(np.linalg.inv(original.affine) @ shown.affine, voxel)
        i, j, k = np.rint(there).astype(int)
        assert np.allclose(there, (i, j, k), atol=1e-4)
        assert np.asarray(shown.dataobj)[tuple(voxel)] == values[i, j, k]


def test_build_layers_crop_keeps_all_labels_and_the_margin(tmp_path: Path) -> None:
    source, prediction = build_case(tmp_path)
    layers = build_layers(source, [prediction], LABELS)
    for content, path in ((layers.reference, source.reference), (layers.predictions[0], prediction)):
        cropped, whole = np.asarray(load(content).dataobj), np.asarray(nib.load(str(path)).dataobj)
        assert [(cropped == value).sum() for value in (1, 2)] == [(whole == value).sum() for value in (1, 2)]
    spacing_mm = load(layers.images[0]).header.get_zooms()
    labelled = (np.asarray(load(layers.reference).dataobj) > 0) | (np.asarray(load(layers.predictions[0]).dataobj) > 0)
    whole_shape = nib.as_closest_canonical(nib.load(tmp_path / "images" / "a.nii.gz")).shape
    for axis, start in enumerate(layers.facts["start"]):
        inside = np.flatnonzero(labelled.any(axis=tuple({0, 1, 2} - {axis})))
        before = inside[0] * spacing_mm[axis]
        assert before >= MARGIN_MM or start == 0
        after = (labelled.shape[axis] - 1 - inside[-1]) * spacing_mm[axis]
        assert after >= MARGIN_MM or start + labelled.shape[axis] == whole_shape[axis]
    assert np.prod(labelled.shape) < np.prod(whole_shape)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_build_layers_rounded_values_are_within_half_a_step(tmp_path: Path, dtype: type) -> None:
    exact = load(build(tmp_path, dtype=dtype).images[0])
    rounded = load(build(tmp_path, exact=False, dtype=dtype).images[0])
    assert rounded.get_data_dtype() == np.uint8
    slope = float(rounded.dataobj.slope)
    given, kept = exact.get_fdata(), rounded.get_fdata()
    low, high = np.percentile(given, [0.1, 99.9])
    inside = (given >= low) & (given <= high)
    assert np.abs(given - kept)[inside].max() <= slope / 2 + 1e-3
    assert kept.min() >= low - 1e-3
    assert kept.max() <= high + 1e-3


def test_build_layers_missing_label_map_is_none(tmp_path: Path) -> None:
    source, _ = build_case(tmp_path)
    layers = build_layers(Source(source.image, None), [None], LABELS)
    assert layers.reference is None
    assert layers.predictions == (None,)
    assert layers.instances == (None, None)
    assert layers.facts["start"] == [0, 0, 0]


def test_build_layers_instance_maps_lie_on_the_label_maps(tmp_path: Path) -> None:
    source, prediction = build_case(tmp_path)
    assert source.reference is not None
    for label, path in (
        (source.reference, tmp_path / "instances" / "a.nii.gz"),
        (prediction, prediction.with_name("a_instances.nii.gz")),
    ):
        whole = nib.load(label)
        numbers = np.cumsum(np.asarray(whole.dataobj) > 0).reshape(whole.shape) * (np.asarray(whole.dataobj) > 0)
        save_nifti(path, numbers.astype(np.int32), affine=whole.affine)
    layers = build_layers(source, [prediction], LABELS)
    for label, instances in zip((layers.reference, layers.predictions[0]), layers.instances, strict=True):
        mask, numbers = (np.asarray(load(content).dataobj) for content in (label, instances))
        assert ((mask > 0) == (numbers > 0)).all()
        assert len(np.unique(numbers)) == (mask > 0).sum() + 1
        assert np.allclose(load(instances).affine, load(label).affine)


def test_build_layers_label_map_of_another_grid_is_refused(tmp_path: Path) -> None:
    source, prediction = build_case(tmp_path)
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.diag([7, 7, 7, 1])), prediction)
    with pytest.raises(PipelineError, match=r"a\.nii\.gz"):
        build_layers(source, [prediction], LABELS)


def test_build_layers_picture_keeps_colours_columns_first(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    PillowImage.fromarray(rows).save(tmp_path / "p.png")
    labels = Labels({"background": 0, "cell": 255}, {}, ("cell",), spatial_dims=2)
    PillowImage.fromarray((rows[..., 0] > 99).astype(np.uint8) * 255).save(tmp_path / "l.png")
    layers = build_layers(Source(PredictionInput("p", (tmp_path / "p.png",)), None), [tmp_path / "l.png"], labels)
    shown = np.asarray(load(layers.images[0]).dataobj)
    assert shown.shape == (9, 5, 1, 3)
    assert (shown[:, :, 0].transpose(1, 0, 2) == rows).all()
    assert ((rows[..., 0] > 99) * 255 == np.asarray(load(layers.predictions[0]).dataobj)[..., 0].T).all()


def test_build_layers_probabilities_are_those_of_the_classes(tmp_path: Path) -> None:
    source, prediction = build_case(tmp_path)
    chances = np.random.default_rng(0).random((*nib.load(prediction).shape, 3)).astype(np.float32)
    affine = nib.load(prediction).affine
    nib.save(nib.Nifti1Image(chances, affine), prediction.with_name("a_probabilities.nii.gz"))
    layers = build_layers(source, [prediction], LABELS, crop=False)
    shown = load(layers.probabilities).get_fdata()
    turned = nib.as_closest_canonical(nib.Nifti1Image(chances[..., 1:], affine)).get_fdata()
    assert np.abs(shown - turned).max() <= 0.5 / 255 + 1e-6


def test_encode_nifti_same_input_same_bytes() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert encode_nifti(array, np.eye(4)) == encode_nifti(array, np.eye(4))


def test_read_cropped_gives_images_on_one_grid(tmp_path: Path) -> None:
    source, prediction = build_case(tmp_path)
    image, reference, found = read_cropped(source, prediction, LABELS)
    assert reference is not None
    assert image.spatial_shape == reference.spatial_shape == found.spatial_shape
    assert np.allclose(image.spacing_mm, (1.5, 1.2, 0.9))
