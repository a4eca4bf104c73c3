"""Instance maps and their tables; and the whole way of instances on phantoms, 2D and 3D, with stock MONAI beside it."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import unet_pipeline
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.writing import write_image
from unet_pipeline.errors import EvaluationError, PredictionError
from unet_pipeline.prediction.instances import (
    as_unsigned,
    compute_eccentricity,
    find_predicted_instances,
    instances_path,
    table_path,
    write_instances,
    write_table,
)

from .phantom_bundles import run_stock_inference


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_write_table_known_answers_in_pixels_and_mm(tmp_path: Path) -> None:
    instances = np.zeros((10, 12), np.uint16)
    instances[1:5, 2:6], instances[7, 2:10] = 1, 2  # a square, and a line of 8
    write_table(tmp_path / "t.csv", instances, 3 * (instances > 0), {3: "cell"}, (0.5, 2.0))
    square, line = read_rows(tmp_path / "t.csv")
    assert (square["instance"], square["label"], square["area_pixel"], square["area_mm2"]) == ("1", "cell", "16", "16")
    assert (square["centroid_i_voxel"], square["centroid_j_mm"], square["solidity"]) == ("2.5", "7", "1")
    assert float(square["eccentricity"]) == pytest.approx(np.sqrt(1 - 0.25**2), abs=1e-5)
    assert float(line["eccentricity"]) > 0.99


def test_write_table_without_spacing_and_without_instances(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", np.zeros((3, 4, 5), np.uint16), np.zeros((3, 4, 5)), {}, None)
    header = "instance,label,volume_voxel,centroid_i_voxel,centroid_j_voxel,centroid_k_voxel,eccentricity,solidity\n"
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == header


@pytest.mark.parametrize("dims", [2, 3])
def test_compute_eccentricity_of_a_square_or_cube_is_0_and_units_count(dims: int) -> None:
    voxels = np.argwhere(np.ones((4,) * dims))
    assert compute_eccentricity(voxels, (1.0,) * dims) == pytest.approx(0, abs=1e-6)
    stretched = (2.0, *(1.0,) * (dims - 1))
    assert compute_eccentricity(voxels, stretched) == pytest.approx(np.sqrt(0.75))


@pytest.mark.parametrize("suffix", [".png", ".nii.gz", ".nrrd"])
def test_write_instances_reads_back(tmp_path: Path, suffix: str) -> None:
    instances = as_unsigned(np.arange(20).reshape(4, 5) * 400)
    path = instances_path(tmp_path / f"a.b{suffix}", suffix)
    write_instances(path, instances, np.eye(4), Path("a.png"))
    assert np.array_equal(read_image(path).array[0].reshape(4, 5), instances)
    assert find_predicted_instances(tmp_path / f"a.b{suffix}") == path
    assert table_path(path) == tmp_path / "a.b_instances.csv"


def test_write_instances_more_than_65535_take_32_bits_and_no_png(tmp_path: Path) -> None:
    many = as_unsigned(np.array([[0, 70_000]]))
    assert (many.dtype, as_unsigned(np.array([[0, 65_535]])).dtype) == (np.uint32, np.uint16)
    with pytest.raises(PredictionError, match="would have 70000 instances; a PNG file numbers 65,535"):
        write_instances(tmp_path / "a_instances.png", many, np.eye(4), Path("a.png"))


def write_cells(root: Path, dims: int) -> Path:
    """Six images of bright blocks in pairs that touch, with their masks and instance maps."""
    generator = np.random.default_rng(dims)
    suffix = ".png" if dims == 2 else ".nii.gz"
    shape = (64, 48) if dims == 2 else (32, 24, 20)
    for number in range(6):
        instances = np.zeros(shape, np.uint16)
        first, second = 4 + number % 3, 10 + number % 3
        instances[first : first + 8, 4:14], instances[first + 8 : first + 16, 4:14] = 1, 2
        instances[:, 16:], instances[second : second + 9, 17:23] = 0, 3
        image = (100 * (instances > 0) + generator.integers(0, 40, shape)).astype(np.uint8)
        for folder, array in (("images", image), ("labels", np.minimum(instances, 1)), ("instances", instances)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            kept = array if folder == "instances" else array.astype(np.uint8)
            write_image(root / folder / f"c{number}{suffix}", MedicalImage(kept[None], np.eye(4), (1.0,) * dims))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_instances_the_whole_way(tmp_path: Path, dims: int, warm_python: Path) -> None:
    cells = write_cells(tmp_path / "cells", dims)
    bundle = tmp_path / "bundle"
    planned = unet_pipeline.plan(cells, bundle, "quick", 2)
    assert (planned.plan.instance_targets, planned.plan.shape.num_classes) == ("levels", 3)
    small = {"num_epochs": 1, "iterations_per_epoch": 2, "val_interval": 1, "warmup_iterations": 1, "batch_size": 1}
    unet_pipeline.train(bundle, overrides=small)
    unet_pipeline.predict(bundle, cells / "images", tmp_path / "out")
    kept = unet_pipeline.predict(bundle, cells / "images", tmp_path / "out")
    assert (len(kept.written), len(kept.kept)) == (0, 6)
    (tmp_path / "out" / "c0_instances.csv").unlink()
    assert len(unet_pipeline.predict(bundle, cells / "images", tmp_path / "out").written) == 1
    stock = tmp_path / "stock"
    run_stock_inference(warm_python, bundle, cells / "images", stock)
    suffix = ".png" if dims == 2 else ".nii.gz"
    for number in range(6):
        label_map, instances = (
            read_image(tmp_path / "out" / f"c{number}{end}{suffix}").array for end in ("", "_instances")
        )
        assert np.array_equal(label_map > 0, instances > 0)
        assert np.array_equal(read_image(stock / f"c{number}_instances{suffix}").array, instances)
        assert len(read_rows(tmp_path / "out" / f"c{number}_instances.csv")) == instances.max()
    rows = read_rows(tmp_path / "out" / "predictions.csv")
    (size,) = (name for name in rows[0] if name.startswith("size_"))
    assert all(row[size] for row in rows), "what expected Dice is made of"
    unet_pipeline.evaluate(bundle)
    (metrics,) = (bundle / "evidence").rglob("metrics.csv")
    table = pd.read_csv(metrics)
    cells_of = table[table["label"] != "background"]
    assert (cells_of["instance_count_error"].dropna() + cells_of["num_instances_reference"] >= 0).all()
    assert (cells_of["num_instances_reference"] == 3).all()
    if dims == 2:
        check_references_that_number_objects(bundle, cells, tmp_path)
    with pytest.raises(EvaluationError, match="gives instances, and `tune` chooses what is done to label maps"):
        unet_pipeline.tune(bundle)


def check_references_that_number_objects(bundle: Path, cells: Path, folder: Path) -> None:
    """`evaluate BUNDLE OTHER` gives the same numbers for label maps that are instance maps as for `labels/` and `instances/`."""
    both, numbered = folder / "both", folder / "numbered"
    for place in (both, numbered):
        shutil.copytree(cells, place)
        for path in (place / "images").iterdir():  # other images than those of the training
            image = read_image(path)
            write_image(path, replace(image, array=image.array // 2))
    shutil.rmtree(numbered / "labels")
    (numbered / "instances").rename(numbered / "labels")
    expected, found = unet_pipeline.evaluate(bundle, both), unet_pipeline.evaluate(bundle, numbered)
    pd.testing.assert_frame_equal(found.rows, expected.rows)
    assert set(found.rows["num_instances_reference"].dropna()) == {3}
    note = "The label maps of numbered number their objects: they were taken for instance maps."
    assert found.record.notes == [note, *expected.record.notes]
