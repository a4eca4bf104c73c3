"""`evaluate --predictions`: label maps of other images, of weights that have seen them, of other weights, edited ones, without a record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import phantom_bundles as phantoms
import pytest
import torch
from PIL import Image as PillowImage

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.half_weights import halve_weights
from unet_pipeline.errors import EvaluationError
from unet_pipeline.files import compute_sha256, write_json

from .conftest import TrainedBundle


@pytest.fixture
def given(copy_of_2d: TrainedBundle, tmp_path: Path) -> tuple[TrainedBundle, Path, list[str]]:
    """The bundle, the label maps of all its images as `predict` wrote them, and the names of the validation cases."""
    out = tmp_path / "maps"
    phantoms.silently(unet_pipeline.predict, copy_of_2d.root, copy_of_2d.dataset / "images", out)
    names = [case.case for case in BundleFolder(copy_of_2d.root).read_split(0).validation]
    return copy_of_2d, out, names


def evaluate(bundle: TrainedBundle, out: Path, dataset: Path | None = None) -> list[str]:
    """The notes that an evaluation of the given label maps leaves in summary.json."""
    result = phantoms.silently(unet_pipeline.evaluate, bundle.root, dataset, out.with_name("values"), out)
    return json.loads((result.folder / "summary.json").read_text(encoding="utf-8"))["notes"]


def edit_entries(out: Path, change: Callable[[dict], None]) -> None:
    record = json.loads((out / "predictions_run.json").read_text(encoding="utf-8"))
    for entry in record["images"].values():
        change(entry)
    write_json(out / "predictions_run.json", record)


def about_given(notes: list[str]) -> list[str]:
    return [note for note in notes if "abel map" in note]


def test_label_maps_of_these_images_and_weights_need_no_note(given: tuple[TrainedBundle, Path, list[str]]) -> None:
    bundle, out, _ = given
    assert about_given(evaluate(bundle, out)) == []
    assert about_given(evaluate(bundle, out, bundle.dataset)) == []


def test_label_maps_of_another_image_are_refused(given: tuple[TrainedBundle, Path, list[str]]) -> None:
    bundle, out, names = given
    edit_entries(out, lambda entry: entry.update(files_sha256=dict.fromkeys(entry["files_sha256"], "0" * 64)))
    with pytest.raises(EvaluationError, match=r"2 label map\(s\) in maps/ were made of another image") as caught:
        evaluate(bundle, out)
    assert all(name in str(caught.value) for name in names)
    assert "Predict the images of this dataset" in str(caught.value)
    assert not out.with_name("values").exists()


@pytest.mark.parametrize("halved", [False, True], ids=["as trained", "halved since"])
def test_label_maps_of_weights_that_have_seen_the_image_are_refused(
    given: tuple[TrainedBundle, Path, list[str]], halved: bool
) -> None:
    bundle, out, names = given
    folder = BundleFolder(bundle.root)
    fold = next(number for number in range(1, 4) if folder.read_split(number).validation[0].case not in names)
    state = torch.load(folder.weights, weights_only=True)
    torch.save(
        {name: value + 1e-6 if value.is_floating_point() else value for name, value in state.items()},
        folder.fold_weights(fold),
    )
    if halved:
        halve_weights(folder)
        folder.fold_weights(0).unlink()
    seen = [case.case for case in folder.read_split(fold).validation]
    with pytest.raises(EvaluationError, match="with weights of cell_bundle that were trained on the image") as caught:
        evaluate(bundle, out)  # those of fold 0, on the validation cases of both folds
    assert all(name in str(caught.value) for name in seen)
    assert not any(name in str(caught.value) for name in names)
    assert "evaluate without --predictions" in str(caught.value)


def test_label_maps_of_other_weights_edited_ones_and_those_without_record_are_named(
    given: tuple[TrainedBundle, Path, list[str]],
) -> None:
    bundle, out, names = given
    path = out / f"{names[0]}.png"
    PillowImage.fromarray(255 - np.asarray(PillowImage.open(path))).save(path)
    assert about_given(evaluate(bundle, out)) == [
        f"Label maps given of {names[0]}: it is another file than was recorded."
    ]
    edit_entries(out, lambda entry: entry.update(label_map_sha256=compute_sha256(out / entry["label_map"])))
    edit_entries(out, lambda entry: entry.update(configs_sha256={}))
    assert "other configs or modules than those of cell_bundle today" in about_given(evaluate(bundle, out))[0]
    edit_entries(out, lambda entry: entry.update(weights_sha256=["1" * 64]))
    (note,) = about_given(evaluate(bundle, out))
    assert note.startswith(f"Label maps given of {names[0]}, {names[1]}: they were made with other weights")
    assert "the numbers are not this bundle's" in note
    (out / "predictions_run.json").unlink()
    (note,) = about_given(evaluate(bundle, out))
    assert "predictions_run.json beside them does not say of which image" in note


@pytest.mark.parametrize("damage", [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"images": 3}', b'{"images": {"a": 1}}'])
def test_damaged_record_of_label_maps_is_said(given: tuple[TrainedBundle, Path, list[str]], damage: bytes) -> None:
    bundle, out, names = given
    (out / "predictions_run.json").write_bytes(damage)
    notes = about_given(evaluate(bundle, out))
    assert any("does not say of which image" in note and names[0] in note for note in notes)
    assert damage.startswith(b"{") or "predictions_run.json beside the label maps cannot be read" in notes[0]


def test_label_maps_of_the_files_that_copies_were_made_of_are_of_the_same_image(tmp_path: Path) -> None:
    dataset = phantoms.write_pictures(tmp_path / "cells", 4)
    for side in ("images", "labels"):
        for path in (dataset / side).iterdir():
            PillowImage.open(path).save(path.with_suffix(".tif"))
            path.unlink()
    small = {**phantoms.SMALL_2D, "num_epochs": 1, "iterations_per_epoch": 1, "val_interval": 1}
    root = phantoms.plan_small(dataset, tmp_path / "bundle", labels={"background": 0, "cell": 255}, **small)
    phantoms.silently(unet_pipeline.train, root)
    out = tmp_path / "maps"
    phantoms.silently(unet_pipeline.predict, root, dataset / "images", out)
    assert about_given(evaluate(TrainedBundle(dataset, root), out)) == []
