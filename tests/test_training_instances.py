"""Targets of instances: codes, levels behind the augmentation, gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.writing import write_image
from unet_pipeline.training.instances import (
    EncodeInstancesd,
    LevelLoss,
    LoadInstancesd,
    SeparateTouchingd,
    compute_levels,
    encode_instances,
    find_touching,
)

NUM_LABELS, NUM_CLASSES = 1, 3  # background, cell, border


def draw(rows: str) -> np.ndarray:
    return np.array([[int(digit) for digit in row] for row in rows.split()])


PAIR = draw("""
    000000000
    011112222
    011112222
    011112222
    011112222
    000000000
""")
LEVELS = draw("""
    000000000
    022222222
    021122112
    021122112
    022222222
    000000000
""")


def compute(instances: np.ndarray, depths: tuple[int, ...] = (1,), num_classes: int = NUM_CLASSES) -> np.ndarray:
    codes = encode_instances(np.minimum(instances, 1), instances, num_classes, 2 * max(depths))
    return compute_levels(torch.from_numpy(codes)[None, None], NUM_LABELS, num_classes, depths)[0, 0].numpy()


def test_compute_levels_parts_two_cells_that_touch() -> None:
    expected = LEVELS.copy()
    expected[2:4, 8] = 1  # the border of the image is none
    assert np.array_equal(compute(PAIR), expected)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_compute_levels_flipped_are_the_flipped_levels(axes: tuple[int, ...]) -> None:
    assert np.array_equal(compute(np.flip(PAIR, axes).copy()), np.flip(compute(PAIR), axes))


def test_compute_levels_several_depths_are_classes_from_the_border_inwards() -> None:
    square = np.pad(np.ones((9, 9), int), 2)
    levels = compute(square, (1, 3), 4)
    assert levels[6].tolist() == [0, 0, 2, 3, 3, 1, 1, 1, 3, 3, 2, 0, 0]


def test_compute_levels_of_volumes() -> None:
    cube = np.pad(np.ones((3, 3, 3), int), 1)
    levels = compute(cube)
    assert levels[2, 2, 2] == 1
    assert (levels == 1).sum() == 1
    assert (levels == 2).sum() == 26


def test_compute_levels_voxels_without_annotation_keep_their_class() -> None:
    classes = np.where(np.arange(9) < 4, NUM_CLASSES, np.minimum(PAIR, 1))
    codes = encode_instances(classes, PAIR, NUM_CLASSES, 2)
    levels = compute_levels(torch.from_numpy(codes)[None, None], NUM_LABELS, NUM_CLASSES, (1,))[0, 0]
    assert (levels[:, :4] == NUM_CLASSES).all()


def test_encode_instances_near_ones_differ_and_far_ones_need_not() -> None:
    rng = np.random.default_rng(0)
    places = rng.permutation(np.arange(1, 401)).reshape(20, 20)
    instances = np.kron(places, np.ones((4, 4), int))  # 400 squares that all touch, numbered at random
    codes = encode_instances(np.ones_like(instances), instances, NUM_CLASSES, 2)
    assert codes.max() <= 255
    squares = codes[::4, ::4]
    for axis in (0, 1):
        assert (np.diff(squares.astype(int), axis=axis) != 0).all()
    assert len(np.unique(squares)) < 16


def test_encode_instances_without_a_map_takes_the_parts_of_each_class() -> None:
    classes = draw("1101 0001 2200")
    codes = encode_instances(classes, None, 4, 2)
    assert (codes % 5 == classes).all()
    assert codes[0, 0] == codes[0, 1] != codes[0, 3]


def test_encode_instances_a_voxel_of_a_label_without_instance_is_an_object_and_outside_is_none() -> None:
    classes, instances = draw("1110 0000"), draw("7700 0070")
    codes = encode_instances(classes, instances, NUM_CLASSES, 2)
    assert codes[0, 2] not in (0, codes[0, 0])
    assert not codes[1].any()


def test_encode_instances_too_many_close_together_is_an_error() -> None:
    instances = np.arange(1, 301).reshape(15, 20)
    with pytest.raises(ValueError, match="objects lie within 30 voxels of each other; expected at most 63"):
        encode_instances(np.ones_like(instances), instances, NUM_CLASSES, 30)


def test_level_loss_sees_levels_of_the_full_resolution() -> None:
    seen = []
    loss = LevelLoss(lambda _, target: seen.append(target) or torch.zeros(()), NUM_LABELS, NUM_CLASSES, (1,))
    codes = encode_instances(np.minimum(PAIR, 1), PAIR, NUM_CLASSES, 2)
    loss([torch.zeros(1, 3, 6, 9)], torch.from_numpy(codes)[None, None].float())
    assert np.array_equal(seen[0][0, 0].numpy()[:, :8], LEVELS[:, :8])


def test_encode_instancesd_as_levels_and_takes_the_map_away() -> None:
    item = {"label": torch.from_numpy(np.minimum(PAIR, 1))[None], "instances": torch.from_numpy(PAIR)[None]}
    encoded = EncodeInstancesd("label", NUM_LABELS, NUM_CLASSES, (1,), as_levels=True)(item)
    assert np.array_equal(encoded["label"][0].numpy(), compute(PAIR))
    assert "instances" not in encoded


def test_separate_touching_parts_with_a_gap() -> None:
    touching = find_touching(PAIR)
    assert touching[1:5, 4:6].all()
    assert touching.sum() == 8
    item = {"label": torch.from_numpy(np.minimum(PAIR, 1))[None], "instances": torch.from_numpy(PAIR)[None]}
    label = SeparateTouchingd("label")(item)["label"][0].numpy()
    assert np.array_equal(label, np.minimum(PAIR, 1) * ~touching)


@pytest.mark.parametrize("with_map", [True, False])
def test_load_instancesd_finds_the_map_beside_the_label_map(tmp_path: Path, with_map: bool) -> None:
    for folder, array in (("labels", np.minimum(PAIR, 1)), ("instances", 700 * PAIR)):
        (tmp_path / folder).mkdir()
        image = MedicalImage(array[None].astype(np.uint16), np.eye(4), (1.0, 1.0))
        if folder == "labels" or with_map:
            write_image(tmp_path / folder / "a.png", image)
    item = LoadInstancesd(["label", "instances"], allow_missing_keys=True)(
        {"label": str(tmp_path / "labels" / "a.png")}
    )
    assert np.array_equal(item["label"], np.minimum(PAIR, 1))
    assert ("instances" in item) == with_map
    if with_map:
        assert np.array_equal(item["instances"], 700 * PAIR)
