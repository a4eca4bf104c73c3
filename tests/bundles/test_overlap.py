"""Reading and writing beside the network: the same files as one case after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import phantom_bundles as phantoms
import pytest
from PIL import Image as PillowImage

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import PredictionError
from unet_pipeline.prediction.inputs import list_inputs
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.overlap import Overlap
from unet_pipeline.prediction.run import Predictions, predict_images
from unet_pipeline.prediction.window_choice import SizedCase

from .conftest import TrainedBundle

WAYS = {
    "none": Overlap(False, False, "asked for"),
    "files": Overlap(True, False, "asked for"),
    "all": Overlap(True, True, "asked for"),
    "side by side": None,  # with the number below
}


@pytest.fixture(autouse=True)
def three_images_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has; PyTorch keeps its threads, so that sums are split in the same way."""
    monkeypatch.setattr(
        "unet_pipeline.prediction.window_choice.choose_num_images",
        lambda engines, *_: 3 if engines.volumes is not None else 1,
    )


def predict(bundle: TrainedBundle, images: Path, out: Path, way: str, probabilities: bool = False) -> Predictions:
    folder = BundleFolder(bundle.root)
    return phantoms.silently(
        predict_images,
        folder,
        list_inputs(images)[:5],
        out,
        [folder.weights],
        PredictOptions("cpu", probabilities=probabilities),
        overlap=WAYS[way],
    )


def read_values(path: Path) -> bytes:
    if path.suffix == ".gz":
        image = nib.load(path)
        return image.header.binaryblock + np.asarray(image.dataobj).tobytes()
    if path.suffix == ".npz":
        return np.load(path)["probabilities"].tobytes()
    return np.asarray(PillowImage.open(path)).tobytes()


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("way", ["files", "all", "side by side"])
def test_predict_images_overlapped_files_are_the_same(
    bundle: TrainedBundle, tmp_path: Path, way: str, probabilities: bool
) -> None:
    images = next(path for path in (bundle.dataset / "imagesTr", bundle.dataset / "images") if path.is_dir())
    results = {name: predict(bundle, images, tmp_path / name, name, probabilities) for name in ("none", way)}
    names = [path.name for path in results["none"].written]
    assert [path.name for path in results[way].written] == names
    assert len(names) == 5
    files = sorted(path.name for path in (tmp_path / "none").iterdir())
    assert sorted(path.name for path in (tmp_path / way).iterdir()) == files
    assert len(files) == (10 if probabilities else 5)
    for name in files:
        assert read_values(tmp_path / way / name) == read_values(tmp_path / "none" / name), name
    assert results[way].shares.keys() == results["none"].shares.keys()
    assert min(results[way].shares[stage] for stage in ("read", "network", "postprocess", "write")) > 0


@pytest.mark.parametrize("way", WAYS)
def test_predict_images_bad_image_is_named_and_the_others_are_done(
    bundle_3d: TrainedBundle, tmp_path: Path, way: str
) -> None:
    images = tmp_path / "images"
    for seed in range(3):
        phantoms.write_volume(images / f"good_{seed}.nii.gz", phantoms.draw_organ(50 + seed)[0])
    (images / "good_1_cut.nii.gz").write_bytes((images / "good_1.nii.gz").read_bytes()[:4000])
    phantoms.write_volume(images / "good_0_flat.nii.gz", phantoms.draw_organ(53)[0][..., 0])
    with pytest.raises(PredictionError) as caught:
        predict(bundle_3d, images, tmp_path / "out", way)
    first, flat, cut = str(caught.value).splitlines()
    assert first == "2 of 5 images could not be predicted:"
    assert flat.startswith("  good_0_flat.nii.gz has 2 dimensions")
    assert cut.startswith("  good_1_cut.nii.gz cannot be read")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"good_{n}.nii.gz" for n in range(3)]


@pytest.mark.parametrize("probabilities", [False, True])
def test_predict_images_number_at_once_knows_what_is_written(
    bundle_3d: TrainedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probabilities: bool
) -> None:
    seen: list[bool] = []

    def choose(_: object, cases: Sequence[SizedCase], *__: object) -> int:
        seen.extend(case.size.writes_probabilities for case in cases)
        return 1

    monkeypatch.setattr("unet_pipeline.prediction.window_choice.choose_num_images", choose)
    predict(bundle_3d, bundle_3d.dataset / "imagesTr", tmp_path / "out", "none", probabilities)
    assert seen == [probabilities] * 5
