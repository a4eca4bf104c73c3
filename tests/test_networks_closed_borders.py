"""Gaps in thin borders: known answers, what must never change, and the whole way on phantoms with stock MONAI beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy import ndimage
from scipy.special import expit, logit

import unet_pipeline
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.writing import write_image
from unet_pipeline.files import write_json
from unet_pipeline.networks.closed_borders import CloseBordersd, close_borders
from unet_pipeline.planning.edit import edit_plan
from unet_pipeline.planning.plan import read_plan

from .phantom_bundles import run_stock_inference

MEMBRANE, CELL = 0, 1


def draw_two_cells(in_gap: float, dims: int = 2) -> np.ndarray:
    """Probabilities of membrane and cell: two cells of 12 by 9, a membrane of 3 between them, with a gap of 2 voxels."""
    membrane = np.full((16, 25) if dims == 2 else (16, 25, 8), 0.9)
    membrane[2:14, 2:11] = membrane[2:14, 14:23] = 0.01
    membrane[7:9, 11:14] = in_gap
    membrane[7:9, 12] = in_gap + 0.05  # its ridge
    return np.stack([membrane, 1 - membrane])


def count_parts(classes: np.ndarray) -> int:
    return int(ndimage.label(classes == CELL)[1])


@pytest.mark.parametrize("dims", [2, 3])
def test_close_borders_gap_gets_a_line_of_one_voxel_along_the_ridge(dims: int) -> None:
    probabilities = draw_two_cells(0.2, dims)
    before = probabilities.argmax(axis=0)
    after = close_borders(probabilities, [CELL], 0.03)
    assert (count_parts(before), count_parts(after)) == (1, 2)
    changed = np.argwhere(before != after)
    assert set(changed[:, 1]) == {12}
    assert set(changed[:, 0]) == {7, 8}
    assert len(changed) == 2 * (1 if dims == 2 else 8)
    assert after.dtype == np.uint8


def test_close_borders_that_do_not_rise_above_the_threshold_stay_open() -> None:
    probabilities = draw_two_cells(0.2)
    assert np.array_equal(close_borders(probabilities, [CELL], 0.3), probabilities.argmax(axis=0))


def test_close_borders_small_seeds_part_nothing() -> None:
    probabilities = draw_two_cells(0.2)
    probabilities[:, 2:14, 14:23] = np.array([0.2, 0.8])[:, None, None]  # unsure all over
    probabilities[:, 3:7, 15:21] = np.array([0.01, 0.99])[:, None, None]  # but for 24 pixels
    assert np.array_equal(close_borders(probabilities, [CELL], 0.03), probabilities.argmax(axis=0))
    probabilities[:, 7, 15] = 0.01, 0.99  # 25
    assert count_parts(close_borders(probabilities, [CELL], 0.03)) == 2


def test_close_borders_parts_without_any_seed_stay() -> None:
    probabilities = np.stack([np.full((30, 30), 0.4), np.full((30, 30), 0.6)])
    assert (close_borders(probabilities, [CELL], 0.03) == CELL).all()
    assert (close_borders(probabilities[::-1], [CELL], 0.03) == MEMBRANE).all()


def test_close_borders_line_is_the_likeliest_class_that_is_not_separated() -> None:
    two = draw_two_cells(0.2)[:, :, :, None]
    membrane, cell = two[0, ..., 0], two[1, ..., 0]
    probabilities = np.stack([0.1 * membrane, cell, 0.3 * membrane, 0.6 * membrane])
    after = close_borders(probabilities, [0, 1], 0.03)
    assert set(after[7:9, 12]) == {3}
    assert close_borders(probabilities, [1, 3], 0.03)[7, 12] == 2


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_close_borders_are_those_of_temperature_1(temperature: float) -> None:
    probabilities = draw_two_cells(0.2)
    cooled = expit(logit(probabilities) / temperature)
    expected = close_borders(probabilities, [CELL], 0.03)
    assert np.array_equal(close_borders(cooled, [CELL], 0.03, 1 / temperature - 1), expected)
    assert np.array_equal(close_borders(cooled, [CELL], 0.03), expected) == (temperature < 1), (
        "sure parts are unsure at 2"
    )


def draw_field(seed: int, dims: int) -> np.ndarray:
    """Smooth random probabilities of two classes, from 0 to 1."""
    noise = ndimage.gaussian_filter(
        np.random.default_rng(seed).normal(size=(48, 40) if dims == 2 else (20, 22, 18)), 2.0
    )
    cell = 1 / (1 + np.exp(-10 * noise / np.abs(noise).max()))
    return np.stack([1 - cell, cell])


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), dims=st.sampled_from([2, 3]), threshold=st.sampled_from([0.01, 0.03, 0.1, 0.3]))
def test_close_borders_each_seed_has_a_part_of_its_own_and_only_lines_change(
    seed: int, dims: int, threshold: float
) -> None:
    probabilities = draw_field(seed, dims)
    before, after = probabilities.argmax(axis=0), close_borders(probabilities, [CELL], threshold)
    assert not ((before != after) & (before != CELL)).any()
    parts, num_parts = ndimage.label(after == CELL)
    seeds, num_seeds = ndimage.label(np.rint(1000 * probabilities[MEMBRANE]) <= 1000 * threshold)
    sizes = np.bincount(seeds.reshape(-1))
    large = [number for number in range(1, num_seeds + 1) if sizes[number] >= 5**dims]
    of_seed = [set(parts[seeds == number].tolist()) for number in large]
    assert all(len(one) == 1 and 0 not in one for one in of_seed), "no line runs through a seed"
    assert len(set().union(*of_seed)) == len(large), "no two seeds are in one part"
    assert num_parts >= len(large)


@pytest.mark.parametrize("axis", [1, 2])
def test_close_borders_of_the_mirrored_image_has_as_many_parts(axis: int) -> None:
    for seed in range(5):
        probabilities = draw_field(seed, 2)
        mirrored = close_borders(np.flip(probabilities, axis), [CELL], 0.1)
        assert count_parts(mirrored) == count_parts(close_borders(probabilities, [CELL], 0.1))


def test_close_bordersd_gives_classes_of_the_image_with_its_affine() -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0]))
    pred = MetaTensor(torch.as_tensor(draw_two_cells(0.2)), affine=affine)
    item = CloseBordersd("pred", [CELL], 0.03, logit_factor=0.0)({"pred": pred, "image": 1})
    assert (item["pred"].shape, item["pred"].dtype, item["image"]) == ((1, 16, 25), torch.uint8, 1)
    assert torch.equal(item["pred"].affine, affine.to(item["pred"].affine))


def write_tissue(root: Path, dims: int) -> Path:
    """Five images of dark membranes around bright cells."""
    generator = np.random.default_rng(dims)
    suffix, shape = (".png", (64, 48)) if dims == 2 else (".nii.gz", (32, 32, 24))
    for number in range(5):
        cell = np.ones(shape, bool)
        cell[number + 5 :: 16], cell[:, number + 7 :: 16] = False, False
        image = (120 * cell + generator.integers(0, 60, shape)).astype(np.uint8)
        for folder, array in (("images", image), ("labels", cell.astype(np.uint8))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            write_image(root / folder / f"c{number}{suffix}", MedicalImage(array[None], np.eye(4), (1.0,) * dims))
    write_json(root / "dataset_facts.json", {"labels": {"membrane": 0, "cell": 1}})
    return root


def read_probabilities(folder: Path, number: int, dims: int) -> np.ndarray:
    """Shape (classes, *spatial), the axes as `read_image` has them."""
    if dims == 3:
        return np.asarray(read_image(folder / f"c{number}_probabilities.nii.gz").array)
    with np.load(folder / f"c{number}_probabilities.npz") as file:
        (rows_and_columns,) = file.values()
    return np.asarray(rows_and_columns).swapaxes(1, 2)


def find_threshold_with_lines(probabilities: list[np.ndarray]) -> float:
    """The first of rising thresholds at which the borders of any image are closed somewhere."""
    thresholds = [round(0.02 * step, 2) for step in range(1, 25)]
    return next(
        threshold
        for threshold in thresholds
        if any((close_borders(one, [CELL], threshold) != one.argmax(axis=0)).any() for one in probabilities)
    )


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_closed_borders_the_whole_way(tmp_path: Path, dims: int, warm_python: Path) -> None:
    tissue, bundle, out = write_tissue(tmp_path / "tissue", dims), tmp_path / "bundle", tmp_path / "out"
    planned = unet_pipeline.plan(tissue, bundle, "quick", 2).plan
    assert (planned.separated_labels, planned.border_threshold) == (("cell",), 0.02)
    small = {"num_epochs": 2, "iterations_per_epoch": 4, "val_interval": 2, "warmup_iterations": 1, "batch_size": 1}
    unet_pipeline.train(bundle, overrides=small)
    unet_pipeline.predict(bundle, tissue / "images", out, probabilities=True)
    probabilities = [read_probabilities(out, number, dims) for number in range(5)]
    threshold = find_threshold_with_lines(probabilities)
    edit_plan(bundle / "configs" / "plan.yaml", {"border_threshold": (threshold, "8 steps are sure of little")})
    unet_pipeline.refresh(bundle)
    unet_pipeline.predict(bundle, tissue / "images", out)
    run_stock_inference(warm_python, bundle, tissue / "images", tmp_path / "stock")
    suffix = ".png" if dims == 2 else ".nii.gz"
    for number in range(5):
        label_map = read_image(out / f"c{number}{suffix}").array[0]
        assert np.array_equal(label_map, close_borders(probabilities[number], [CELL], threshold))
        assert np.array_equal(read_image(tmp_path / "stock" / f"c{number}{suffix}").array[0], label_map)
    table = unet_pipeline.evaluate(bundle).rows
    assert table[table["label"] == "cell"]["v_rand"].notna().all()
    tuned = unet_pipeline.tune(bundle)
    assert tuned.num_cases == len(table[table["label"] == "cell"])
    assert read_plan(bundle / "configs" / "plan.yaml").border_threshold == threshold
