"""From probabilities to instances: known answers in 2D and 3D, and windows that change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer

from unet_pipeline.dataset.image import read_image
from unet_pipeline.networks.instance_maps import SaveInstancesd, SeparateInstancesd, choose_classes, separate_instances
from unet_pipeline.training.instances import compute_levels, encode_instances


def as_probabilities(classes: np.ndarray, num_classes: int, sure: float = 0.9) -> np.ndarray:
    """Of a network that knows each class."""
    rest = (1 - sure) / (num_classes - 1)
    return np.stack([np.where(classes == index, sure, rest) for index in range(num_classes)]).astype(np.float32)


def draw_cells(dims: int) -> np.ndarray:
    """Blocks that touch, with numbers in the order of their first voxels."""
    instances = np.zeros((16, 24) if dims == 2 else (8, 16, 24), np.int64)
    inner = instances[..., 2:14, 2:22] if dims == 2 else instances[1:7, 2:14, 2:22]
    inner[..., :6, :10], inner[..., :6, 10:], inner[..., 6:, :] = 1, 2, 3
    return instances


def predict_levels(instances: np.ndarray, depths: tuple[int, ...]) -> np.ndarray:
    """Probabilities of a perfect network."""
    num_classes = 2 + len(depths)
    codes = encode_instances(np.minimum(instances, 1), instances, num_classes, 2 * max(depths))
    levels = compute_levels(torch.from_numpy(codes)[None, None], 1, num_classes, depths)[0, 0].numpy()
    return as_probabilities(levels, num_classes)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("depths", [(1,), (2,), (1, 2)])
def test_separate_instances_gives_back_cells_that_touch(dims: int, depths: tuple[int, ...]) -> None:
    instances = draw_cells(dims)
    assert np.array_equal(separate_instances(predict_levels(instances, depths), 1), instances)


def draw_pair(waist: float, peaks: tuple[float, float] = (0.95, 0.95), width: int = 12) -> np.ndarray:
    """Probabilities of two objects side by side: depth rises to the peaks and falls to `waist` between them."""
    profile = np.interp(
        np.arange(2 * width),
        [0, width // 2, width, 3 * width // 2, 2 * width - 1],
        [0.3, peaks[0], waist, peaks[1], 0.3],
    )
    depth = np.zeros((16, 2 * width + 4), np.float32)
    depth[3:13, 2:-2] = profile
    inside = depth > 0
    return np.stack(
        [np.where(inside, 0.02, 1), np.where(inside, 0.98 * depth, 0), np.where(inside, 0.98 * (1 - depth), 0)]
    )


@pytest.mark.parametrize(
    ("waist", "peaks", "num"),
    [
        (0.4, (0.95, 0.95), 2),
        (0.7, (0.95, 0.95), 2),  # over any single threshold that small objects reach
        (0.3, (0.95, 0.6), 2),
        (0.6, (0.95, 0.7), 1),  # the second rises by less than a fifth
        (0.2, (0.95, 0.4), 1),  # the second is nowhere deeper than the threshold
        (0.94, (0.95, 0.95), 1),  # no waist
    ],
)
def test_separate_instances_parts_that_fall_apart_at_any_depth(
    waist: float, peaks: tuple[float, float], num: int
) -> None:
    probabilities = draw_pair(waist, peaks)
    assert separate_instances(probabilities, 1, smallest_voxels=4).max() == num
    assert separate_instances(probabilities[:, :, ::-1], 1, smallest_voxels=4).max() == num


def test_separate_instances_small_peaks_part_nothing() -> None:
    probabilities = draw_pair(0.9, (0.9, 0.9))
    probabilities[1, 6, 5], probabilities[1, 6, 20] = 0.98, 0.98  # single voxels
    probabilities[2, 6, 5], probabilities[2, 6, 20] = 0.0, 0.0
    assert separate_instances(probabilities, 1, smallest_voxels=4).max() == 1
    assert separate_instances(probabilities, 1, smallest_voxels=0).max() == 2


def test_separate_instances_gaps_are_given_back() -> None:
    instances = draw_cells(2)
    gapped = np.minimum(instances, 1)
    gapped[2:8, 11:13] = 0
    gapped[7:9, 2:22] = 0
    found = separate_instances(as_probabilities(gapped, 2), 1, closes_gaps=True)
    assert found.max() == 3
    assert (found[instances > 0] == instances[instances > 0]).mean() > 0.94
    assert not found[instances == 0].any()


def test_separate_instances_nothing_is_nothing() -> None:
    assert not separate_instances(as_probabilities(np.zeros((4, 5), int), 3), 1).any()


def test_separate_instances_an_object_without_inner_part_is_one_and_small_ones_are_left_out() -> None:
    classes = np.zeros((8, 12), int)
    classes[1, 1:6], classes[4, 4] = 2, 2  # border only
    probabilities = as_probabilities(classes, 3)
    assert separate_instances(probabilities, 1).max() == 2
    assert np.array_equal(
        separate_instances(probabilities, 1, smallest_voxels=2),
        np.where(classes == 2, 1, 0) * (np.arange(8) < 3)[:, None],
    )


@pytest.mark.parametrize("window", [(16, 16), (16, 32), (32, 48), (48, 64)])
def test_separate_instances_does_not_depend_on_the_window(window: tuple[int, int]) -> None:
    instances = np.kron(np.arange(1, 13).reshape(3, 4), np.ones((16, 16), int))[:47, :61]
    image = torch.from_numpy(predict_levels(instances, (2,)))[None]
    stitched = SlidingWindowInferer(window, 1, 0.5, mode="gaussian")(image, lambda part: part.clone())[0].numpy()
    assert np.array_equal(separate_instances(stitched, 1), instances)


def test_choose_classes_one_label_for_a_whole_instance() -> None:
    instances = np.array([[0, 1, 1, 1, 2]])
    probabilities = as_probabilities(np.array([[0, 1, 2, 2, 1]]), 3)
    assert choose_classes(instances, probabilities, 2).tolist() == [[0, 2, 2, 2, 1]]


def test_separate_instancesd_smallest_is_in_the_unit_of_the_affine() -> None:
    classes = np.zeros((8, 12), int)
    classes[1, 1:6], classes[4:6, 4:8] = 1, 1  # 5 and 8 voxels
    for size_mm, left in ((1.0, 1), (2.0, 2)):
        affine = torch.diag(torch.tensor([size_mm, size_mm, 1.0, 1.0], dtype=torch.float64))
        pred = MetaTensor(torch.from_numpy(as_probabilities(classes, 2)), affine=affine)
        item = SeparateInstancesd("pred", 1, 0.5, smallest=6.0, closes_gaps=False)({"pred": pred})
        assert int(item["instances"].max()) == left
        assert item["pred"].shape == item["instances"].shape == (1, 8, 12)


@pytest.mark.parametrize(
    ("most", "suffix", "dtype"), [(3, ".png", "uint16"), (3, ".nii.gz", "uint16"), (70_000, ".nii.gz", "uint32")]
)
def test_save_instancesd_takes_32_bits_where_16_are_too_few(tmp_path: Path, most: int, suffix: str, dtype: str) -> None:
    shape = (1, 5, 7) if suffix == ".png" else (1, 5, 7, 2)
    array = MetaTensor(torch.zeros(shape, dtype=torch.int32), meta={"filename_or_obj": "a.png", "affine": torch.eye(4)})
    array[0, 2, 3] = most
    place = {"output_dir": tmp_path, "output_ext": suffix, "output_postfix": "instances", "separate_folder": False}
    SaveInstancesd("instances", resample=False, print_log=False, **place)({"instances": array})
    written = read_image(tmp_path / f"a_instances{suffix}").array
    assert int(written.max()) == most
    assert str(written.dtype) == dtype


def test_save_instancesd_a_picture_with_too_many_is_refused(tmp_path: Path) -> None:
    save = SaveInstancesd("instances", output_dir=tmp_path, output_ext=".png", separate_folder=False)
    with pytest.raises(ValueError, match="65536 instances; a PNG file numbers 65535"):
        save({"instances": torch.full((1, 2, 2), 65_536)})
