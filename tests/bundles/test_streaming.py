"""Streaming an image gives what MONAI's own way gives: label values and probabilities, on grids of any kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantom_bundles as phantoms
import pytest
import torch
from monai.bundle import ConfigParser

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.errors import PredictionError
from unet_pipeline.prediction.engine import Case
from unet_pipeline.prediction.engines import Engines, build_engines
from unet_pipeline.prediction.inputs import list_inputs
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.parts import Windowing
from unet_pipeline.prediction.run import predict_images
from unet_pipeline.prediction.volumes import VolumesEngine

from .conftest import TrainedBundle

STRAIGHT = np.diag([*phantoms.SPACING_MM, 1.0])
AFFINES = {
    "same grid": STRAIGHT,
    "turned round": np.diag([-1.0, -1.0, 1.0, 1.0]) @ STRAIGHT,
    "other spacing": np.diag([0.8, 1.3, 1.1, 1.0]) @ STRAIGHT,
    "half the spacing": np.diag([0.5, 0.5, 0.5, 1.0]) @ STRAIGHT,
    "half of one axis": np.diag([1.0, 0.5, 1.0, 1.0]) @ STRAIGHT,
    "axes exchanged": (np.diag([1.1, 0.9, 1.2, 1.0]) @ STRAIGHT)[:, [2, 0, 1, 3]],
}


def build(
    bundle: TrainedBundle, tmp_path: Path, members: int = 1, mirror: bool = False, accelerated: bool | None = None
) -> Engines:
    folder = BundleFolder(bundle.root)
    options = PredictOptions("cpu", mirror)
    return build_engines(folder, [folder.weights] * members, tmp_path / "staging", options, accelerated=accelerated)


def stream(engines: Engines, image: MedicalImage, with_probabilities: bool = False) -> tuple[Any, Any]:
    """Label values and probabilities of the engine `volumes`."""
    engine = engines.volumes
    assert engine is not None
    return engine.stream(engine.preprocess(image), image.affine, image.spatial_shape, with_probabilities)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("has_room", [True, False])
def test_stream_accelerated_is_the_plain_way(
    bundle_3d: TrainedBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    members: int,
    mirror: bool,
    has_room: bool,
) -> None:
    """As on a GPU, but for its kernels: sums of the whole image or of rows, all members and mirrored copies in one batch."""
    array, _ = phantoms.draw_organ(41, (35, 41, 29))
    image = read_image(phantoms.write_volume(tmp_path / "image.nii.gz", array, AFFINES["other spacing"]))
    plain = build(bundle_3d, tmp_path, members, mirror=mirror)
    fast = build(bundle_3d, tmp_path, members, mirror=mirror, accelerated=True)
    fast = fast.with_windowing(Windowing(3, torch.device("cpu")))
    calls = []
    monkeypatch.setattr(
        "unet_pipeline.prediction.volumes.fits_whole", lambda *sizes: calls.append(sizes[1]) or has_room
    )
    expected, found = (stream(one, image, with_probabilities=True) for one in (plain, fast))
    assert expected[1] is not None
    assert found[1] is not None
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1e-5)
    assert (found[0] != expected[0]).mean() < 1e-4
    assert calls == [members * len(plain.parts.label_values)]
    assert (fast.volumes.joint is fast.parts.networks[0]) == (members == 1)
    assert fast.parts.stopwatch.seconds["network"] > 0


def test_stream_out_of_memory_takes_rows_and_then_main_memory(
    bundle_3d: TrainedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array, _ = phantoms.draw_organ(41, (30, 30, 30))
    image = read_image(phantoms.write_volume(tmp_path / "image.nii.gz", array, STRAIGHT))
    fast = build(bundle_3d, tmp_path, accelerated=True)
    expected, _ = stream(fast, image)
    tried = []

    def run_out(self: VolumesEngine, *arguments: Any) -> Any:
        tried.append(arguments[-2])  # whether the sums of the whole image are held
        if len(tried) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, *arguments)

    real = VolumesEngine._stream
    monkeypatch.setattr(VolumesEngine, "_stream", run_out)
    cpu = torch.device("cpu")
    monkeypatch.setattr(VolumesEngine, "_list_attempts", lambda *_: [(True, cpu), (False, cpu), (False, cpu)])
    found, _ = stream(fast, image)
    assert tried == [True, False, False]
    np.testing.assert_array_equal(found, expected)


def test_predict_images_out_of_memory_is_a_message(
    bundle_3d: TrainedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array, _ = phantoms.draw_organ(41, (30, 30, 30))
    path = phantoms.write_volume(tmp_path / "image.nii.gz", array, STRAIGHT)

    def run_out(*_: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(VolumesEngine, "_stream", run_out)
    folder = BundleFolder(bundle_3d.root)
    with pytest.raises(PredictionError, match=r"image\.nii\.gz does not fit into the memory of this machine"):
        predict_images(folder, list_inputs(path), tmp_path / "out", [folder.weights], PredictOptions("cpu"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "members"), [*((name, 1) for name in AFFINES), ("other spacing", 2), ("axes exchanged", 2)]
)
def test_stream_is_the_stock_way(bundle_3d: TrainedBundle, tmp_path: Path, name: str, members: int) -> None:
    array, _ = phantoms.draw_organ(41, (35, 41, 29))
    path = phantoms.write_volume(tmp_path / "image.nii.gz", array, AFFINES[name])
    predictor = build(bundle_3d, tmp_path, members)
    assert predictor.volumes is not None
    image = read_image(path)
    case = Case(list_inputs(path)[0], predictor.transforms, (path,), image.affine, image.spatial_shape)
    stock = predictor.transforms.infer(case, with_probabilities=True)
    expected, label_map = stock.probabilities, tmp_path / "stock.nii.gz"
    assert predictor.transforms.write(case, stock, label_map, tmp_path) == ()
    expected_labels = np.asarray(nib.load(label_map).dataobj)
    assert predictor.volumes.takes(image.grid)
    labels, none = stream(predictor, image)
    assert none is None
    np.testing.assert_array_equal(labels, expected_labels)
    also, probabilities = stream(predictor, image, with_probabilities=True)
    np.testing.assert_array_equal(also, expected_labels)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)
    assert len(np.unique(labels)) >= 2


@pytest.fixture(scope="module")
def many_classes(bundle_3d: TrainedBundle, tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    """More classes than the network's first level has channels; its weights are random."""
    small = {**phantoms.SMALL_3D, "filters": [2, 8, 16]}
    root = phantoms.plan_small(bundle_3d.dataset, tmp_path_factory.mktemp("many") / "bundle", **small)
    folder = BundleFolder(root)
    torch.manual_seed(0)
    parser = ConfigParser(json.loads(folder.config("inference").read_text(encoding="utf-8")))
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder.weights)
    return replace(bundle_3d, root=root)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("name", ["same grid", "other spacing", "axes exchanged"])
def test_stream_many_classes_is_the_stock_way_but_for_rounding(
    many_classes: TrainedBundle, tmp_path: Path, name: str, members: int
) -> None:
    array, _ = phantoms.draw_organ(41, (35, 41, 29))
    path = phantoms.write_volume(tmp_path / "image.nii.gz", array, AFFINES[name])
    predictor = build(many_classes, tmp_path, members)
    assert [head.num_features for head in predictor.volumes.deferred_heads] == [2] * members
    assert predictor.volumes.deferred_heads[0].num_classes > 2
    expected = predictor.transforms.predict_probabilities(path)
    image = read_image(path)
    labels, probabilities = stream(predictor, image, with_probabilities=True)
    alone, _ = stream(predictor, image)
    assert probabilities is not None
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)
    lowest, highest = np.partition(expected, -2, axis=0)[-2:]
    is_clear = highest - lowest > 1e-4
    stock = np.asarray(predictor.parts.label_values, np.uint8)[expected.argmax(axis=0)]
    assert is_clear.mean() > 0.9
    for found in (labels, alone):
        np.testing.assert_array_equal(found[is_clear], stock[is_clear])


def test_build_predictor_few_classes_or_the_stock_way_keep_the_network_whole(
    bundle_2d: TrainedBundle, bundle_3d: TrainedBundle, many_classes: TrainedBundle, tmp_path: Path
) -> None:
    assert build(bundle_3d, tmp_path).volumes.deferred_heads == ()
    assert build(bundle_2d, tmp_path).volumes is None
    copy = many_classes.copy_to(tmp_path)
    edit_inference(
        copy.root, lambda config: config["native_probability_transforms"][1].update(softmax=False, sigmoid=True)
    )
    assert build(copy, tmp_path).volumes is None


def edit_inference(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change inference.json as a user with an editor does."""
    path = BundleFolder(root).config("inference")
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_stream_takes_the_temperature_of_the_inference_config(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    """As stock MONAI does: the plan's number is not read again."""
    copy = bundle_3d.copy_to(tmp_path)
    edit_inference(copy.root, lambda config: config.update(uncalibrated=False, logit_factor=-0.6))
    array, _ = phantoms.draw_organ(41)
    path = phantoms.write_volume(tmp_path / "image.nii.gz", array)
    predictor, before = build(copy, tmp_path), build(bundle_3d, tmp_path)
    assert predictor.volumes is not None
    assert predictor.volumes.recipe.logit_scale == pytest.approx(0.4)
    image = read_image(path)
    found = []
    for one in (predictor, before):
        _, probabilities = stream(one, image, with_probabilities=True)
        np.testing.assert_allclose(probabilities, one.transforms.predict_probabilities(path), rtol=0, atol=1e-5)
        found.append(probabilities)
    assert found[0].max(axis=0).mean() < found[1].max(axis=0).mean() - 0.01, "softer"


@pytest.mark.parametrize(
    ("number", "change", "expected"),
    [
        (0, {"minv": 0.0, "maxv": 1.0, "factor": None, "_disabled_": False}, "not only multiplied"),
        (1, {"softmax": False, "sigmoid": True}, "no softmax"),
    ],
)
def test_read_recipe_other_probabilities_go_the_stock_way(
    bundle_3d: TrainedBundle, tmp_path: Path, number: int, change: dict[str, Any], expected: str
) -> None:
    copy = bundle_3d.copy_to(tmp_path)
    edit_inference(copy.root, lambda config: config["native_probability_transforms"][number].update(change))
    engines = build(copy, tmp_path)
    assert engines.volumes is None
    assert expected in engines.reason


def test_predict_bfloat16_differs_little_and_says_so(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    array, _ = phantoms.draw_organ(43)
    image = phantoms.write_volume(tmp_path / "image.nii.gz", array)
    maps = {}
    for precision in ("float32", "bfloat16"):
        result = phantoms.silently(
            unet_pipeline.predict, bundle_3d.root, image, tmp_path / precision, device="cpu", precision=precision
        )
        assert result.precision == precision
        assert sum(result.shares.values()) == pytest.approx(1)
        assert result.shares["network"] > 0
        maps[precision] = np.asarray(nib.load(result.written[0]).dataobj)
    assert 0.97 < (maps["float32"] == maps["bfloat16"]).mean() <= 1


def test_predict_unknown_precision_names_the_choices(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    array, _ = phantoms.draw_organ(43)
    image = phantoms.write_volume(tmp_path / "image.nii.gz", array)
    with pytest.raises(PredictionError, match="Unknown precision 'float16'"):
        unet_pipeline.predict(bundle_3d.root, image, tmp_path / "out", precision="float16")


def test_read_recipe_pictures_and_other_interpolation_go_the_stock_way(
    bundle_2d: TrainedBundle, bundle_3d: TrainedBundle, tmp_path: Path
) -> None:
    assert build(bundle_2d, tmp_path).reason == "pictures are small"
    image = read_image(next(bundle_3d.dataset.rglob("*.nii.gz")))
    engines = build(bundle_3d, tmp_path)
    assert engines.choose(image.grid) is engines.volumes
    lean = replace(image.grid, affine=image.grid.affine @ np.array([[1, 0.1, 0, 0], *np.eye(4)[1:]]))
    assert engines.choose(lean) is engines.transforms
