"""TorchScript and ONNX copies of a network: equal label maps, refused when they are not, and what MONAI Deploy does with one."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import phantom_bundles as phantoms
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, load_net_with_metadata
from monai.transforms import Compose, LoadImaged, SaveImaged
from PIL import Image as PillowImage

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.dataset.image import read_image, read_label_map
from unet_pipeline.errors import BundleError, PredictionError
from unet_pipeline.evaluation.metrics import compute_dice
from unet_pipeline.files import compute_sha256
from unet_pipeline.handover.export import choose_formats, export_bundle

from .conftest import TrainedBundle

RUNTIMES = ("torchscript", "onnx")


@pytest.fixture(scope="module", params=["3d", "2d"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    """A packaged copy with both exports, its images and its dataset."""
    source = request.getfixturevalue(f"bundle_{request.param}")
    folder = tmp_path_factory.mktemp(f"exported_{request.param}")
    copy = source.copy_to(folder)
    phantoms.silently(unet_pipeline.package, copy.root, folder / "bundle.zip")
    return copy


def unsealed_copy(bundle: TrainedBundle, root: Path) -> Path:
    """A copy to be changed; with its seal, nothing of it would run after that."""
    shutil.copytree(bundle.root, root)
    BundleFolder(root).seal.unlink()
    return root


def images_of(bundle: TrainedBundle) -> Path:
    return next(folder for folder in (bundle.dataset / "imagesTr", bundle.dataset / "images") if folder.is_dir())


def first_image(bundle: TrainedBundle) -> Path:
    return sorted(images_of(bundle).iterdir())[0]


def lowest_dice(expected: Path, found: Path) -> float:
    left, right = read_label_map(expected).array, read_label_map(found).array
    values = np.union1d(left, right)
    assert len(values) > 1, "an empty label map would prove nothing"
    return min(compute_dice(left == value, right == value) for value in values)


def test_package_exports_both_by_default_and_keeps_the_parity(exported: TrainedBundle) -> None:
    record = json.loads((exported.root / "evidence" / "exports.json").read_text())
    assert list(record) == list(RUNTIMES)
    for entry in record.values():
        assert entry["sha256"] == compute_sha256(exported.root / entry["file"])
        assert max(parity["max_abs_difference"] for parity in entry["logits"]) < 1e-4
        assert len({tuple(parity["shape"]) for parity in entry["logits"]}) == 2
        (label_maps,) = entry["label_maps"]
        assert label_maps["image"].startswith("case ")
        assert label_maps["dice"] >= 0.999


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_predict_runtime_gives_the_same_label_map(
    exported: TrainedBundle, runtime: str, mirror: bool, tmp_path: Path
) -> None:
    image = first_image(exported)
    phantoms.silently(unet_pipeline.predict, exported.root, image, tmp_path / "torch", mirror=mirror)
    phantoms.silently(unet_pipeline.predict, exported.root, image, tmp_path / "other", mirror=mirror, runtime=runtime)
    (expected,), (found,) = (phantoms.list_label_maps(tmp_path / name) for name in ("torch", "other"))
    assert lowest_dice(expected, found) >= 0.999


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_predict_runtime_runs_the_exported_file(exported: TrainedBundle, runtime: str, tmp_path: Path) -> None:
    """With other weights in the export, and its record made to fit, the label map is another one."""
    root = unsealed_copy(exported, tmp_path / "bundle")
    folder = BundleFolder(root)
    weights = torch.load(folder.weights, weights_only=True)
    generator = torch.Generator().manual_seed(0)
    other = {
        name: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in weights.items()
    }
    original = folder.weights.read_bytes()
    torch.save(other, folder.weights)
    export_bundle(folder, (runtime,))
    folder.weights.write_bytes(original)
    record = json.loads(folder.exports.read_text())
    record[runtime]["weights_sha256"] = compute_sha256(folder.weights)
    folder.exports.write_text(json.dumps(record))
    image = first_image(exported)
    phantoms.silently(unet_pipeline.predict, root, image, tmp_path / "torch")
    phantoms.silently(unet_pipeline.predict, root, image, tmp_path / "other", runtime=runtime)
    (expected,), (found,) = (phantoms.list_label_maps(tmp_path / name) for name in ("torch", "other"))
    assert not np.array_equal(read_image(expected).array, read_image(found).array)


def test_predict_runtime_is_refused_where_it_cannot_be_right(exported: TrainedBundle, tmp_path: Path) -> None:
    root = unsealed_copy(exported, tmp_path / "bundle")
    image = first_image(exported)

    def predict(runtime: str, **options: bool) -> None:
        phantoms.silently(unet_pipeline.predict, root, image, tmp_path / "out", runtime=runtime, **options)

    with pytest.raises(PredictionError, match="Unknown runtime 'onxx'; did you mean 'onnx'"):
        predict("onxx")
    shutil.copyfile(root / "models" / "model.pt", root / "models" / "model_fold_7.pt")
    with pytest.raises(PredictionError, match="holds one network, and an ensemble needs"):
        predict("onnx", ensemble=True)
    weights = torch.load(root / "models" / "model.pt", weights_only=True)
    torch.save({name: value * 2 for name, value in weights.items()}, root / "models" / "model.pt")
    with pytest.raises(BundleError, match=r"models/model\.ts in bundle was made of other weights"):
        predict("torchscript")
    (root / "models" / "model.onnx").write_bytes(b"other")
    with pytest.raises(
        BundleError, match=r"model\.onnx in bundle is not the file that evidence/exports\.json describes"
    ):
        predict("onnx")
    (root / "models" / "model.ts").unlink()
    with pytest.raises(BundleError, match="has no export for torchscript"):
        predict("torchscript")
    assert not (tmp_path / "out").exists()


def test_package_export_that_differs_is_refused(
    exported: TrainedBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = unsealed_copy(exported, tmp_path / "bundle")
    (root / "evidence" / "exports.json").unlink()
    (root / "models" / "model.onnx").unlink()
    from unet_pipeline.prediction.runtime import OnnxNetwork

    forward = OnnxNetwork.forward
    monkeypatch.setattr(OnnxNetwork, "forward", lambda self, x: forward(self, x).roll(1, dims=2))
    with pytest.raises(BundleError, match="export for onnx of bundle differs from the network by"):
        phantoms.silently(unet_pipeline.package, root, tmp_path / "bundle.zip", export="onnx")
    assert not (root / "models" / "model.onnx").exists()
    assert not (tmp_path / "bundle.zip").exists()


def test_export_formats_not_asked_for_go(exported: TrainedBundle, tmp_path: Path) -> None:
    root = unsealed_copy(exported, tmp_path / "bundle")
    export_bundle(BundleFolder(root), ("torchscript",))
    assert (root / "models" / "model.ts").read_bytes() == (exported.root / "models" / "model.ts").read_bytes()
    assert not (root / "models" / "model.onnx").exists()
    export_bundle(BundleFolder(root), ())
    assert not (root / "models" / "model.ts").exists()
    assert not (root / "evidence" / "exports.json").exists()


def test_choose_formats_unknown_is_refused_with_the_nearest() -> None:
    assert choose_formats("onnx,torchscript") == ("torchscript", "onnx")
    assert choose_formats("none") == ()
    with pytest.raises(BundleError, match="did you mean 'torchscript'"):
        choose_formats("torchscrip")


def test_torchscript_holds_the_configs_and_no_path_of_this_machine(exported: TrainedBundle) -> None:
    file = exported.root / "models" / "model.ts"
    _, metadata, extra = load_net_with_metadata(str(file), more_extra_files=("inference.json",))
    assert metadata == json.loads((exported.root / "configs" / "metadata.json").read_text())
    assert json.loads(extra["inference.json"]) == json.loads((exported.root / "configs" / "inference.json").read_text())
    with zipfile.ZipFile(file) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist() if "/code/" in name)
    assert b"site-packages" not in content
    assert str(Path(unet_pipeline.__file__).parents[1]).encode() not in content


def test_deploy_operator_path_gives_the_label_map_of_predict(exported: TrainedBundle, tmp_path: Path) -> None:
    """What MonaiBundleInferenceOperator does: an image in memory, the TorchScript, and the configs inside it; nothing else."""
    image = first_image(exported)
    phantoms.silently(unet_pipeline.predict, exported.root, image, tmp_path / "ours")
    (expected,) = phantoms.list_label_maps(tmp_path / "ours")
    lone = shutil.copyfile(exported.root / "models" / "model.ts", tmp_path / "model.ts")

    network, _, extra = load_net_with_metadata(str(lone), more_extra_files=("inference.json",))
    parser = ConfigParser(json.loads(extra["inference.json"]))
    preprocessing, postprocessing, inferer = (
        parser.get_parsed_content(name) for name in ("preprocessing", "postprocessing", "inferer")
    )
    before = Compose([part for part in preprocessing.transforms if not isinstance(part, LoadImaged)])
    after = Compose([part for part in postprocessing.transforms if not isinstance(part, SaveImaged)])
    item = before({"image": in_memory(image)})
    with torch.inference_mode():
        pred = inferer(item["image"][None], network.eval())
    # the operator leaves the batch and hands on the preprocessed input, whose record the way back needs
    found = np.asarray(after({"pred": pred[0], "image": item["image"]})["pred"])
    found = found if image.suffix != ".png" else found[None]  # a picture's comes without its channel, for MONAI Label
    np.testing.assert_array_equal(found, np.asarray(read_label_map(expected).array))


def in_memory(path: Path) -> MetaTensor:
    """An image as an operator hands it over: without channel axis, with its affine."""
    meta = {"original_channel_dim": "no_channel"}
    if path.suffix == ".png":
        return MetaTensor(np.asarray(PillowImage.open(path)).T.astype(np.float32), meta=meta)
    volume = nib.load(path)
    return MetaTensor(np.asarray(volume.dataobj, dtype=np.float32), affine=volume.affine, meta=meta)


def test_package_version_rises_only_with_what_it_predicts_with(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    def package(note: str | None = None) -> dict[str, str]:
        phantoms.silently(unet_pipeline.package, copy_of_2d.root, tmp_path / "cells.zip", export="none", note=note)
        metadata = json.loads((copy_of_2d.root / "configs" / "metadata.json").read_text())
        assert list(metadata["changelog"])[-1] == metadata["version"]
        return metadata["changelog"]

    assert package() == {"0.1.0": "trained"}
    assert package() == {"0.1.0": "trained"}
    weights = torch.load(copy_of_2d.root / "models" / "model.pt", weights_only=True)
    torch.save({name: value * 1.5 for name, value in weights.items()}, copy_of_2d.root / "models" / "model.pt")
    assert package() == {"0.1.0": "trained", "0.1.1": "changed: models/model.pt"}
    assert package("longer training") == {"0.1.0": "trained", "0.1.1": "longer training"}


def test_predict_sealed_bundle_in_the_folder_of_its_training(exported: TrainedBundle, tmp_path: Path) -> None:
    """What a training leaves behind, its locks among it, is no danger to the seal."""
    (exported.root / "models" / ".model.pt.lock").touch()
    assert (exported.root / "evidence" / "manifest.sha256").is_file()
    assert (
        len(phantoms.silently(unet_pipeline.predict, exported.root, first_image(exported), tmp_path / "out").written)
        == 1
    )


@pytest.mark.real_data
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_predict_runtime_on_a_real_image_agrees(
    exported: TrainedBundle, runtime: str, pipeline_data: Path, tmp_path: Path
) -> None:
    """A hippocampus and a nuclei image, by networks that were trained on phantoms: the label maps are wrong and not empty."""
    if exported.root.name.startswith("organ"):
        image = sorted((pipeline_data / "Task04_Hippocampus" / "imagesTr").glob("hippocampus_*.nii.gz"))[0]
    else:
        image = min(
            (pipeline_data / "nuclei_fluorescence" / "images").glob("*.png"), key=lambda path: path.stat().st_size
        )
    phantoms.silently(unet_pipeline.predict, exported.root, image, tmp_path / "torch")
    phantoms.silently(unet_pipeline.predict, exported.root, image, tmp_path / "other", runtime=runtime)
    (expected,), (found,) = (phantoms.list_label_maps(tmp_path / name) for name in ("torch", "other"))
    assert lowest_dice(expected, found) >= 0.999
