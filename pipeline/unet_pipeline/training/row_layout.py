"""The numbers of one sample as a row, and of a batch as one small tensor: all that travels to the device for a step."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import torch

Shape = tuple[int, ...]
Values = Mapping[str, torch.Tensor]


class RowLayout:
    """Where each value stands in a row.

    Rows are float64: places in memory and seeds of 32 bits are whole numbers that it holds exactly.

    Args:
        shapes: name -> shape of the value; () for a single number.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.shapes = dict(shapes)
        self.starts: dict[str, int] = {}
        self.width = 0
        for name, shape in self.shapes.items():
            self.starts[name] = self.width
            self.width += prod(shape)

    def encode(self, values: Mapping[str, np.ndarray | float]) -> np.ndarray:
        """One row; every name of the layout must be there."""
        row = np.empty(self.width)
        for name, shape in self.shapes.items():
            start = self.starts[name]
            row[start : start + prod(shape)] = np.asarray(values[name], dtype=np.float64).reshape(-1)
        return row

    def decode(self, table: torch.Tensor) -> dict[str, torch.Tensor]:
        """Views into a table of shape (batch, width): name -> (batch, *shape)."""
        tensors = {}
        for name, shape in self.shapes.items():
            start = self.starts[name]
            tensors[name] = table[:, start : start + prod(shape)].unflatten(1, shape or (1,))
            if not shape:
                tensors[name] = tensors[name][:, 0]
        return tensors
