"""Rows of numbers: what goes in comes out, exactly, and a view writes into its table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unet_pipeline.training.row_layout import RowLayout


def test_encode_and_decode_are_inverse_for_any_shape() -> None:
    layout = RowLayout({"offset": (), "centre": (3,), "matrix": (3, 3), "field": (2, 4, 5)})
    generator = np.random.default_rng(0)
    rows = [{name: generator.normal(size=shape) for name, shape in layout.shapes.items()} for _ in range(4)]
    table = torch.from_numpy(np.stack([layout.encode(row) for row in rows]))
    assert table.shape == (4, 1 + 3 + 9 + 40)
    values = layout.decode(table)
    for name, shape in layout.shapes.items():
        assert values[name].shape == (4, *shape)
        assert np.array_equal(values[name].numpy(), np.stack([row[name] for row in rows]))


def test_rows_hold_places_and_seeds_exactly() -> None:
    layout = RowLayout({"offset": (), "seed": (2,)})
    row = layout.encode({"offset": 2**40 + 1, "seed": np.array([2**32 - 1, 0])})
    values = layout.decode(torch.from_numpy(row)[None])
    assert values["offset"].long().tolist() == [2**40 + 1]
    assert values["seed"].long().tolist() == [[2**32 - 1, 0]]


def test_decode_gives_views() -> None:
    layout = RowLayout({"offset": (), "centre": (2,)})
    table = torch.zeros(3, 3, dtype=torch.float64)
    layout.decode(table)["offset"][1] = 7
    assert table[1].tolist() == [7, 0, 0]


def test_encode_without_a_value_is_refused() -> None:
    with pytest.raises(KeyError, match="centre"):
        RowLayout({"offset": (), "centre": (2,)}).encode({"offset": 1})
