"""From one grid to another whose axes are parallel to it: axes exchanged, turned round, and scaled. Linear, one axis after the other.

Images go to the network's grid and probabilities come back this way, as with MONAI's Orientation and Spacing, which interpolate all
axes at once with the coordinates of every voxel in memory: 4.4 GB for 512 x 512 x 300 voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

_SAME = 1e-3  # MONAI's AFFINE_TOL: nearer grids are taken as equal
CHUNK_VALUES = 1 << 24  # interpolated at once
_DEVICE_CHUNK_VALUES = 1 << 27  # on a GPU, where each chunk costs launches
# Voxels on average. Runs are read where they are, which takes a half to a quarter of the time of picking voxels one by one; along the last
# axis a run is a piece of memory, and short ones are slower.
_SHORTEST_RUN, _SHORTEST_LAST_RUN = 4, 12


@dataclass(frozen=True)
class AxisMap:
    """Where the voxels of one axis of the target lie on an axis of the source.

    Attributes:
        lower: index of the source voxel below, shape (target size,).
        upper: that of the voxel above.
        fraction: of the way from lower to upper, 0 to 1; None where every voxel lies on one of the source.
    """

    lower: torch.Tensor
    upper: torch.Tensor
    fraction: torch.Tensor | None

    def cut(self, first: int, last: int) -> AxisMap:
        """The map of some of the target's voxels."""
        fraction = None if self.fraction is None else self.fraction[first:last]
        return AxisMap(self.lower[first:last], self.upper[first:last], fraction)

    def list_runs(self) -> list[tuple[int, int]]:
        """First and last + 1 of the target's voxels whose lower and upper voxels follow one another; few where the scale is near 1."""
        breaks = (self.lower.diff() != 1) | (self.upper.diff() != 1)
        edges = [0, *(breaks.nonzero().flatten() + 1).tolist(), len(self.lower)]
        return list(pairwise(edges))

    @property
    def first_of_run(self) -> int | None:
        """Index of the first of source voxels one after the other; None if they are others or lie between."""
        first = int(self.lower[0])
        run = torch.arange(first, first + len(self.lower))
        return first if self.fraction is None and torch.equal(self.lower, run) else None


@dataclass(frozen=True)
class GridMap:
    """A target grid on a source grid.

    Attributes:
        axes: for each axis of the source, the map from the target's axis that runs along it.
        order: for each axis of the target, the source's axis along it.
    """

    axes: tuple[AxisMap, ...]
    order: tuple[int, ...]

    @property
    def interpolates(self) -> bool:
        """Whether any of the target's voxels lies between the source's."""
        return any(axis.fraction is not None for axis in self.axes)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Of the target, in its own order of axes."""
        return tuple(len(self.axes[axis].lower) for axis in self.order)


def map_grid(
    source_affine: np.ndarray, source_shape: Sequence[int], target_affine: np.ndarray, target_shape: Sequence[int]
) -> GridMap | None:
    """The target grid on the source grid.

    Args:
        source_affine: voxel to world; 4x4, of which the first axes count for 2D.
        source_shape: spatial.
        target_affine: likewise.
        target_shape: spatial.

    Returns:
        None if an axis of one grid runs along no axis of the other.
    """
    dims = len(source_shape)
    places = [*range(dims), source_affine.shape[0] - 1]
    source, target = (
        np.asarray(affine, dtype=np.float64)[np.ix_(places, places)] for affine in (source_affine, target_affine)
    )
    matrix = np.linalg.solve(source, target)
    steps = matrix[:dims, :dims]
    order = np.abs(steps).argmax(axis=0)
    aside = steps.copy()
    aside[order, range(dims)] = 0
    if sorted(order) != list(range(dims)) or np.abs(aside * np.asarray(target_shape)).max() > _SAME:
        return None
    # MONAI leaves the whole image as it is, or interpolates along all axes
    lines = [steps[axis, j] * np.arange(target_shape[j]) + matrix[axis, dims] for j, axis in enumerate(order)]
    on_voxels = all(
        target_shape[j] == source_shape[axis] and np.abs(line - np.rint(line)).max() <= _SAME
        for j, (axis, line) in enumerate(zip(order, lines, strict=True))
    )
    axes: dict[int, AxisMap] = {
        int(axis): _map_axis(np.rint(line) if on_voxels else line, source_shape[axis])
        for axis, line in zip(order, lines, strict=True)
    }
    return GridMap(tuple(axes[axis] for axis in range(dims)), tuple(map(int, order)))


def _map_axis(line: np.ndarray, size: int) -> AxisMap:
    """Beyond the source's border its outermost voxel counts."""
    inside = np.clip(line, 0, size - 1)
    lower = np.minimum(np.floor(inside), size - 1).astype(np.int64)
    fraction = inside - lower
    upper = np.minimum(lower + 1, size - 1)
    return AxisMap(
        torch.from_numpy(lower),
        torch.from_numpy(upper),
        torch.from_numpy(fraction) if fraction.any() else None,
    )


def interpolate(array: torch.Tensor, axis_map: AxisMap, dim: int) -> torch.Tensor:
    """Values of an array at the voxels of a target axis, linear between the source's."""
    first = axis_map.first_of_run
    if first is not None:
        return array.narrow(dim, first, len(axis_map.lower))
    if axis_map.fraction is None:
        return _pick(array, axis_map.lower, dim)
    shape = [1] * array.ndim
    shape[dim] = -1
    fraction = axis_map.fraction.to(array).reshape(shape)
    if array.is_cuda:  # one launch for the axis, whatever the runs
        return _pick(array, axis_map.lower, dim).lerp_(_pick(array, axis_map.upper, dim), fraction)
    runs = axis_map.list_runs()
    shortest = _SHORTEST_RUN if dim < array.ndim - 1 else _SHORTEST_LAST_RUN
    if len(runs) > 1 and len(runs) * shortest > len(axis_map.lower):
        return _pick(array, axis_map.lower, dim).lerp_(_pick(array, axis_map.upper, dim), fraction)
    out = array.new_empty([*array.shape[:dim], len(axis_map.lower), *array.shape[dim + 1 :]])
    for start, end in runs:
        below, above = (array.narrow(dim, int(of[start]), end - start) for of in (axis_map.lower, axis_map.upper))
        torch.lerp(below, above, fraction.narrow(dim, start, end - start), out=out.narrow(dim, start, end - start))
    return out


def _pick(array: torch.Tensor, indices: torch.Tensor, dim: int) -> torch.Tensor:
    """A copy of the entries at `indices` of one axis; along the last one `index_select` takes nine times as long as `gather`."""
    indices = indices.to(array.device)
    if dim < array.ndim - 1:
        return array.index_select(dim, indices)
    return array.gather(dim, indices.expand(*array.shape[:-1], len(indices)))


def _count_chunk_values(array: torch.Tensor) -> int:
    return CHUNK_VALUES if array.device.type == "cpu" else _DEVICE_CHUNK_VALUES


def resample(image: torch.Tensor, grid: GridMap) -> torch.Tensor:
    """An image on the target grid, computed in float64 in parts and rounded to float32.

    Args:
        image: shape (channels, *spatial).
        grid: target on the image's grid.
    """
    first, *others = grid.axes
    shape = [len(axis.lower) for axis in grid.axes]
    out = torch.empty((image.shape[0], *shape), dtype=torch.float32, device=image.device)
    num_rows = max(1, _count_chunk_values(image) // max(1, int(np.prod(shape[1:])) * image.shape[0]))
    for start in range(0, shape[0], num_rows):
        part = first.cut(start, start + num_rows)
        low, high = int(part.lower.min()), int(torch.maximum(part.lower, part.upper).max()) + 1
        rows = image[:, low:high].double()
        values = interpolate(rows, AxisMap(part.lower - low, part.upper - low, part.fraction), 1)
        for dim, axis in enumerate(others, start=2):
            values = interpolate(values, axis, dim)
        out[:, start : start + num_rows] = values
    return out.permute(0, *(1 + axis for axis in grid.order))


def iterate_resampled(blocks: Iterator[torch.Tensor], grid: GridMap) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Values on the target grid while the rows of the source arrive, so that neither has to be in memory as a whole.

    Args:
        blocks: shape (classes, rows, *rest); the source's rows in their order, without a gap.
        grid: the target on the source.

    Yields:
        Indices of the target's rows along the source's first axis, and their values of shape (classes, rows, *rest), the axes in the
        source's order.
    """
    first, *others = grid.axes
    last_needed = torch.maximum(first.lower, first.upper) if first.fraction is not None else first.lower
    waiting = torch.argsort(first.lower, stable=True)
    kept, kept_from, arrived = torch.empty(0), 0, 0
    for block in blocks:
        arrived += block.shape[1]
        for dim, axis in reversed([*enumerate(others, start=2)]):
            block = interpolate(block, axis, dim)
        block = block if not kept.numel() else torch.cat([kept, block], dim=1)
        ready = waiting[: int((last_needed[waiting] < arrived).sum())]
        waiting = waiting[len(ready) :]
        num_rows = max(1, _count_chunk_values(block) // block[:, 0].numel())
        for part in ready.split(num_rows) if len(ready) else ():
            fraction = None if first.fraction is None else first.fraction[part]
            rows = AxisMap(first.lower[part] - kept_from, first.upper[part] - kept_from, fraction)
            yield part, interpolate(block, rows, 1)
        if len(waiting):
            keep_from = min(int(first.lower[waiting[0]]), arrived)
            kept, kept_from = block[:, keep_from - kept_from :].clone(), keep_from
