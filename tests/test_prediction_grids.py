"""Ways between parallel grids: MONAI's Spacing and Orientation and their inverses give the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd, Spacingd

from unet_pipeline.prediction import grids
from unet_pipeline.prediction.grids import iterate_resampled, map_grid, resample

AFFINES = {
    "scaled": np.diag([1.3, 0.9, 2.0, 1.0]),
    "turned": np.array([[0, 0, 1.3, 4], [-0.9, 0, 0, 9], [0, 2.0, 0, -7], [0, 0, 0, 1]]),
    "oblique": np.array([[0.9, -0.4, 0, 3], [0.4, 0.9, 0, 2], [0, 0, 1.7, 1], [0, 0, 0, 1]]),
    "same": np.diag([-1.0, 1.0, 1.0, 1.0]),
}


def build(spacing: Sequence[float]) -> Compose:
    return Compose([Orientationd("image", axcodes="RAS"), Spacingd("image", pixdim=spacing, mode="bilinear")])


def split(values: torch.Tensor, sizes: Sequence[int]) -> Iterator[torch.Tensor]:
    yield from values.split(list(sizes), dim=1)


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.1, 0.7, 3.0)])
def test_resample_is_monai_s_spacing(name: str, spacing: tuple[float, ...]) -> None:
    image = torch.rand((2, 14, 11, 9), generator=torch.Generator().manual_seed(0))
    transform = build(spacing)
    expected = transform({"image": MetaTensor(image, affine=torch.from_numpy(AFFINES[name]))})["image"]
    grid = map_grid(AFFINES[name], image.shape[1:], expected.affine.numpy(), expected.shape[1:])
    assert grid is not None
    assert grid.target_shape == tuple(expected.shape[1:])
    torch.testing.assert_close(resample(image, grid), expected.as_tensor(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.1, 0.7, 3.0)])
def test_iterate_resampled_is_monai_s_inverse(name: str, spacing: tuple[float, ...]) -> None:
    image = torch.rand((1, 14, 11, 9), generator=torch.Generator().manual_seed(0))
    transform = build(spacing)
    sample = transform({"image": MetaTensor(image, affine=torch.from_numpy(AFFINES[name]))})
    there = sample["image"]
    values = torch.rand((4, *there.shape[1:]), generator=torch.Generator().manual_seed(1))
    sample["pred"] = MetaTensor(values.clone(), affine=there.affine)
    invert = Invertd("pred", transform=transform, orig_keys="image", nearest_interp=False, to_tensor=True)
    expected = invert(sample)["pred"]
    grid = map_grid(there.affine.numpy(), there.shape[1:], AFFINES[name], image.shape[1:])
    assert grid is not None
    num_rows = there.shape[1]
    found = torch.full((4, *[len(axis.lower) for axis in grid.axes]), float("nan"))
    for rows, part in iterate_resampled(split(values, [3, 1, num_rows - 4]), grid):
        assert found[:, rows].isnan().all(), "every row comes once"
        found[:, rows] = part
    returned = found.permute(0, *(1 + axis for axis in grid.order))
    torch.testing.assert_close(returned, expected.as_tensor(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("step", [0.5, 0.93, 0.98, 1.04, 1.9, -0.97])
def test_interpolate_in_runs_or_voxel_by_voxel_is_numpy_s(
    step: float, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, target = (40, 40, 40), np.eye(4)
    target[dim - 1, dim - 1], target[dim - 1, 3] = step, 0.3 if step > 0 else 38.6
    grid = map_grid(np.eye(4), sizes, target, sizes)
    assert grid is not None
    values = torch.rand((2, *sizes), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for shortest in (0, 1000):
        monkeypatch.setattr(grids, "_SHORTEST_RUN", shortest)
        monkeypatch.setattr(grids, "_SHORTEST_LAST_RUN", shortest)
        found.append(grids.interpolate(values, grid.axes[dim - 1], dim))
    assert torch.equal(*found), "to the last bit"
    places = step * np.arange(40) + target[dim - 1, 3]
    expected = np.apply_along_axis(lambda line: np.interp(places, np.arange(40), line), dim, values.numpy())
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=0, atol=1e-12)


def test_list_runs_ends_a_run_where_a_voxel_is_left_out_or_taken_twice_and_at_the_border() -> None:
    lower, upper = torch.tensor([0, 1, 2, 4, 5, 5, 6, 7]), torch.tensor([1, 2, 3, 5, 6, 6, 7, 7])
    assert grids.AxisMap(lower, upper, torch.rand(8)).list_runs() == [(0, 3), (3, 5), (5, 7), (7, 8)]
    assert grids.AxisMap(lower[:1], upper[:1], None).list_runs() == [(0, 1)]


def test_map_grid_equal_grids_do_not_interpolate() -> None:
    grid = map_grid(np.eye(4), (5, 6, 7), np.eye(4), (5, 6, 7))
    assert grid is not None
    assert not grid.interpolates
    assert [axis.first_of_run for axis in grid.axes] == [0, 0, 0]


def test_map_grid_turned_against_each_other_has_no_map() -> None:
    assert map_grid(np.eye(4), (9, 9, 9), AFFINES["oblique"], (9, 9, 9)) is None


def test_map_grid_beyond_the_border_takes_the_border() -> None:
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[0, 3] = -2.5
    grid = map_grid(np.eye(4), (4, 1, 1), affine, (8, 1, 1))
    assert grid is not None
    values = torch.arange(4.0).reshape(1, 4, 1, 1)
    assert resample(values, grid).flatten().tolist() == [0, 0, 0, 0.5, 1.5, 2.5, 3, 3]
