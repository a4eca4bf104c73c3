"""`package` proves that both engines give the same label maps, and keeps the proof."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import phantom_bundles as phantoms
import pytest
import torch

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError
from unet_pipeline.files import compute_sha256
from unet_pipeline.handover.parity import EngineParity, compare_engines
from unet_pipeline.prediction import volumes

from .conftest import TrainedBundle


def compare(folder: BundleFolder) -> EngineParity:
    return phantoms.silently(compare_engines, folder)


def test_compare_engines_volumes_are_equal_and_recorded(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    folder = BundleFolder(bundle_3d.copy_to(tmp_path).root)
    parity = compare(folder)
    assert parity.reason == ""
    assert 1 <= len(parity.images) <= 3
    assert {one.num_different for one in parity.images} == {0}
    assert all(
        one.image.startswith("case ") and one.num_voxels == np.prod(phantoms.VOLUME_SHAPE) for one in parity.images
    )
    record = json.loads(folder.engines.read_text(encoding="utf-8"))
    assert record["made_of"]["models/model.pt"] == compute_sha256(folder.weights)
    assert [one["image"] for one in record["images"]] == [one.image for one in parity.images]
    assert "same label in" in parity.describe()


def test_compare_engines_up_to_date_proof_stays_and_other_weights_are_compared_again(
    bundle_3d: TrainedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = BundleFolder(bundle_3d.copy_to(tmp_path).root)
    first = compare(folder)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("predicted again")

    with monkeypatch.context() as patch:
        patch.setattr("unet_pipeline.handover.parity.build_engines", refuse)
        assert compare(folder) == first
    weights = torch.load(folder.weights, weights_only=True)
    torch.save({name: value * 0.5 for name, value in weights.items()}, folder.weights)
    assert compare(folder).made_of != first.made_of


def test_compare_engines_pictures_have_one_engine(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    parity = compare(BundleFolder(bundle_2d.copy_to(tmp_path).root))
    assert (parity.reason, parity.images) == ("pictures are small", ())
    assert "MONAI's own transforms alone" in parity.describe()


def test_compare_engines_other_label_maps_are_refused_and_nothing_is_recorded(
    bundle_3d: TrainedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = BundleFolder(bundle_3d.copy_to(tmp_path).root)
    real = volumes.iterate_probabilities

    def shift(*arguments: Any, **keywords: Any) -> Iterator[torch.Tensor]:
        for block in real(*arguments, **keywords):
            yield block.roll(1, 0)

    monkeypatch.setattr(volumes, "iterate_probabilities", shift)
    with pytest.raises(BundleError, match=r"engines volumes and transforms give label maps of case .* that differ in"):
        compare(folder)
    assert not folder.engines.exists()
