"""Histograms of a dataset: every case is in one bar of each."""

from __future__ import annotations

import re

import numpy as np
import pytest

from unet_pipeline.dataset.tiles import Tile
from unet_pipeline.evidence.report.check_figures import _choose_edges, draw_histograms


def build_tiles(num_cases: int, spatial_dims: int = 3) -> list[Tile]:
    random = np.random.default_rng(0)
    return [
        Tile(
            f"case_{number}",
            (),
            shape=(30 + number, 40, 50)[:spatial_dims],
            spacing_mm=(1.0, 1.0, 2.0)[:spatial_dims],
            voxels_by_value={0: 9, 1: 500 * (number + 1)},
            samples=random.normal(number, 1, 50).astype(np.float32),
        )
        for number in range(num_cases)
    ]


@pytest.mark.parametrize("num_cases", [2, 30])
def test_draw_histograms_each_case_is_in_one_bar_of_each_chart(num_cases: int) -> None:
    figures, sentences = draw_histograms(build_tiles(num_cases), {"cell": 1})
    charts = [str(figure.svg) for figure in figures if "data-cases" in str(figure.svg)]
    assert len(charts) == 3  # axis 1, the label, the median intensity
    for chart in charts:
        cases = [int(case) for bar in re.findall(r'data-cases="([\d ]+)"', chart) for case in bar.split()]
        assert sorted(cases) == list(range(num_cases))
    assert "Axis 2 of the image: 40 voxels in all cases." in sentences
    assert "Spacing along axis 3: 2 mm in all cases." in sentences


def test_draw_histograms_sizes_are_in_ml_and_percent() -> None:
    volumes, pictures = (draw_histograms(build_tiles(3, dims), {"cell": 1})[0] for dims in (3, 2))
    assert "Size of cell: 1 to 3 ml, median 2." in [figure.caption for figure in volumes]
    assert any("Size of cell: 41.67 to 117.2 % of the picture" in figure.caption for figure in pictures)


def test_draw_histograms_without_images_are_none() -> None:
    assert draw_histograms([Tile("a", ())], {}) == ([], [])


def test_draw_histograms_single_case() -> None:
    figures, sentences = draw_histograms(build_tiles(1), {})
    assert len(figures) == 8
    assert sentences == []


@pytest.mark.parametrize("values", [[3, 3], [1, 2, 3, 9], list(range(500)), [0.1, 0.25, 7e5]])
def test_choose_edges_hold_all_values_at_equal_widths(values: list[float]) -> None:
    edges = _choose_edges(np.array(values, float))
    assert edges[0] <= min(values)
    assert edges[-1] >= max(values)
    assert np.allclose(np.diff(edges), edges[1] - edges[0])
    assert len(edges) <= 26
