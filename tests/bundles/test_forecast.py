"""`predict --dry-run`: what it says is what a prediction then does, and nothing is run or written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import phantom_bundles as phantoms
import pytest
import torch

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.dataset.image import read_grid, read_image
from unet_pipeline.errors import PredictionError
from unet_pipeline.prediction.engines import Engines, build_engines
from unet_pipeline.prediction.input_check import find_network_grid
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.parts import Windowing
from unet_pipeline.prediction.windows import read_windows

from .conftest import TrainedBundle

STRAIGHT = np.diag([*phantoms.SPACING_MM, 1.0])
AFFINES = {
    "same grid": STRAIGHT,
    "turned round": np.diag([-1.0, -1.0, 1.0, 1.0]) @ STRAIGHT,
    "other spacing": np.diag([0.8, 1.3, 1.1, 1.0]) @ STRAIGHT,
    "axes exchanged": (np.diag([1.1, 0.9, 1.2, 1.0]) @ STRAIGHT)[:, [2, 0, 1, 3]],
}


def build(bundle: TrainedBundle, tmp_path: Path) -> Engines:
    folder = BundleFolder(bundle.root)
    return build_engines(folder, [folder.weights], tmp_path / "staging", PredictOptions("cpu"))


@pytest.mark.parametrize("name", AFFINES)
def test_find_network_grid_is_that_of_the_preprocessing(bundle_3d: TrainedBundle, tmp_path: Path, name: str) -> None:
    path = phantoms.write_volume(tmp_path / "a.nii.gz", phantoms.draw_organ(41, (41, 45, 37))[0], AFFINES[name])
    engines = build(bundle_3d, tmp_path)
    expected = engines.volumes.preprocess(read_image(path))
    shape, affine = find_network_grid(read_grid(path), engines.parts.preprocessing)
    assert shape == tuple(expected.shape[1:])
    np.testing.assert_allclose(affine, expected.affine.numpy(), atol=1e-9)


def test_find_network_grid_of_a_picture(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    path = next((bundle_2d.dataset / "images").iterdir())
    engines = build(bundle_2d, tmp_path)
    expected = engines.parts.preprocessing({"image": str(path)})["image"]
    assert find_network_grid(read_grid(path), engines.parts.preprocessing)[0] == tuple(expected.shape[1:])


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_with_windowing_label_maps_are_the_same(bundle: TrainedBundle, tmp_path: Path, batch_size: int) -> None:
    folder = next(path for path in (bundle.dataset / "imagesTr", bundle.dataset / "images") if path.is_dir())
    path = sorted(folder.iterdir())[0]
    engines = build(bundle, tmp_path)
    batched = engines.with_windowing(Windowing(batch_size, torch.device("cpu")))
    assert batched.parts.inferer.sw_batch_size == batch_size
    assert engines.parts.inferer.sw_batch_size == 1
    if engines.volumes is not None:
        image = read_image(path)
        one, many = (
            each.volumes.stream(
                each.volumes.preprocess(image), image.affine, image.spatial_shape, with_probabilities=True
            )
            for each in (engines, batched)
        )
        np.testing.assert_array_equal(one[0], many[0])
        np.testing.assert_allclose(one[1], many[1], rtol=0, atol=1e-5)
    else:
        one, many = (each.transforms.predict_probabilities(path) for each in (engines, batched))
        np.testing.assert_array_equal(one.argmax(axis=0), many.argmax(axis=0))
        np.testing.assert_allclose(one, many, rtol=0, atol=1e-5)


def test_predict_dry_run_says_what_predict_does(bundle_3d: TrainedBundle, tmp_path: Path, call_main: Callable) -> None:
    images = tmp_path / "images"
    for seed, name in enumerate(AFFINES):
        array, _ = phantoms.draw_organ(60 + seed, (41, 45, 37))
        phantoms.write_volume(images / f"{name.replace(' ', '_')}.nii.gz", array, AFFINES[name])
    arguments = (
        "predict",
        bundle_3d.root,
        images,
        tmp_path / "out",
        "--device",
        "cpu",
        "--json",
        tmp_path / "dry.json",
    )
    status, shown, error = call_main(*arguments, "--dry-run")
    assert (status, error) == (0, "")
    assert not (tmp_path / "out").exists()
    dry = json.loads((tmp_path / "dry.json").read_text())
    assert [case["name"] for case in dry["cases"]] == sorted(path.name[:-7] for path in images.iterdir())
    assert dry["window_batch_size"] == 4
    assert dry["in_rows"]
    assert dry["fits"]
    assert "windows  of 32x32x24, up to 4 at once, blended on cpu in rows" in shown
    engines = build(bundle_3d, tmp_path)
    for case in dry["cases"]:
        image = read_image(images / f"{case['name']}.nii.gz")
        prepared = engines.volumes.preprocess(image)
        assert case["shape"] == list(image.spatial_shape)
        assert case["network_shape"] == list(prepared.shape[1:])
        assert case["num_windows"] == read_windows(engines.parts.inferer, prepared.shape[1:]).num_windows
        assert f"{case['name']}  41x45x37" in shown
        assert 0.1 < case["peak_gib"] <= dry["peak_gib"]
    total = sum(case["num_windows"] for case in dry["cases"])
    assert f"total    4 image(s) to predict, {total} windows\n" in shown
    assert dry["num_copies"] == 1
    assert "copies   none; the training mirrored no axis" in shown
    status, shown, _ = call_main(*arguments)
    assert status == 0
    assert "windows  up to 4 at once, blended on cpu in rows" in shown
    assert call_main(*arguments, "--dry-run")[1].splitlines()[-2:] == [
        "kept     4 label map(s), finished before",
        "total    0 image(s) to predict",
    ]


def test_predict_dry_run_runs_no_network_and_reads_no_voxels(
    bundle_3d: TrainedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise AssertionError("the dry run reads or computes")

    image = phantoms.write_volume(tmp_path / "image.nii.gz", phantoms.draw_organ(7)[0])
    monkeypatch.setattr("unet_pipeline.prediction.stopwatch.TimedNetwork.__call__", refuse)
    monkeypatch.setattr("unet_pipeline.prediction.inputs.PredictionInput.read", refuse)
    assert len(unet_pipeline.forecast(bundle_3d.root, image, tmp_path / "out", device="cpu").cases) == 1


def test_predict_dry_run_many_images_shows_the_largest(
    bundle_2d: TrainedBundle, tmp_path: Path, call_main: Callable
) -> None:
    images = tmp_path / "images"
    phantoms.write_pictures(images.parent / "set", num_cases=12)
    (images.parent / "set" / "images").rename(images)
    status, shown, _ = call_main("predict", bundle_2d.root, images, tmp_path / "out", "--dry-run", "--device", "cpu")
    assert status == 0
    assert "blended on cpu as a whole (pictures are small)" in shown
    assert "largest  cell_" in shown
    assert "total    12 image(s) to predict, 48 windows" in shown
    assert "\ncase " not in shown
    assert "--mirror would average 4 of each window, 4 times the network's time" in shown
    shown = call_main(
        "predict",
        bundle_2d.root,
        images,
        tmp_path / "out",
        "--dry-run",
        "--device",
        "cpu",
        "--mirror",
        "--json",
        tmp_path / "dry.json",
    )[1]
    assert "copies   4 of each window, mirrored: 4 times the network's time" in shown
    assert "48 windows, 192 passes through a network" in shown
    dry = json.loads((tmp_path / "dry.json").read_text())
    assert dry["num_copies"] == dry["mirrored"] == 4


def test_predict_dry_run_names_what_cannot_be_predicted(
    bundle_3d: TrainedBundle, tmp_path: Path, call_main: Callable
) -> None:
    images = tmp_path / "images"
    array, _ = phantoms.draw_organ(7)
    phantoms.write_volume(images / "good.nii.gz", array)
    phantoms.write_volume(images / "flat.nii.gz", array[..., 0])
    (images / "cut.nii.gz").write_bytes(b"")
    status, shown, error = call_main("predict", bundle_3d.root, images, tmp_path / "out", "--dry-run")
    assert status == 1
    assert "case     good  30x34x22" in shown
    assert error.startswith("Error: 2 of 3 images cannot be predicted:\n  cut.nii.gz cannot be read")
    assert "flat.nii.gz has 2 dimensions" in error


def test_predict_dry_run_has_the_errors_of_predict(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    image = phantoms.write_volume(tmp_path / "image.nii.gz", phantoms.draw_organ(7)[0])
    for match, place, keywords in (
        ("does not exist", tmp_path / "nowhere", {}),
        ("Unknown runtime 'tpu'", image, {"runtime": "tpu"}),
        ("Unknown precision 'half'", image, {"precision": "half"}),
        ("Device 'xyz' cannot be used", image, {"device": "xyz"}),
    ):
        for verb in (unet_pipeline.predict, unet_pipeline.forecast):
            with pytest.raises(PredictionError, match=match):
                verb(bundle_3d.root, place, tmp_path / "out", **keywords)
    for verb in (unet_pipeline.predict, unet_pipeline.forecast):
        with pytest.raises(PredictionError, match="holds the image"):
            verb(bundle_3d.root, image, tmp_path)
    assert nib.load(image).shape == phantoms.VOLUME_SHAPE
