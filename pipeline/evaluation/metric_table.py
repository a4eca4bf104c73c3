"""The table of all metrics: what each is called, its unit, its range, which way is better, and what an empty mask gives.

One place for every fact about a metric: the columns of metrics.csv, the lines of the summary, the terminal and
docs/metrics.md are made from `METRICS`. All are computed on the image's own grid. `measurement.py` computes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

UNDEFINED = math.nan

Kind = Literal["share", "percent", "length", "size", "count"]


@dataclass(frozen=True)
class Metric:
    """Facts about one metric.

    Attributes:
        title: for tables and charts.
        definition: what the number is, with its source.
        kind: of unit, see `unit`.
        least: the smallest value that it can have.
        most: the largest.
        higher_is_better: None where 0 is best and the sign says in which direction an error goes.
        decimals: to print.
        shown: on the terminal; all go to the files.
        both_empty: value where neither mask has a voxel; NaN is undefined, and is counted as such.
        missed: value where the reference has the structure and the prediction is empty.
        false_alarm: value where the prediction has the structure and the reference is empty.
    """

    title: str
    definition: str
    kind: Kind
    least: float
    most: float
    higher_is_better: bool | None
    decimals: int
    shown: bool
    both_empty: float | str
    missed: float | str
    false_alarm: float | str

    def unit(self, length_unit: str = "mm", size_unit: str = "ml") -> str:
        """Unit of the values: "" for shares and counts, "%", or the unit of lengths or sizes.

        Args:
            length_unit: column `length_unit` of the table of cases: "mm", or "pixel" for pictures without spacing.
            size_unit: column `size_unit`: "ml", for pictures "mm^2" or "pixel".
        """
        return {"share": "", "count": "", "percent": "%", "length": length_unit, "size": size_unit}[self.kind]


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "dice": Metric(
            title="Dice",
            definition="twice the shared voxels by the voxels of both masks (Dice 1945)",
            kind="share",
            least=0.0,
            most=1.0,
            higher_is_better=True,
            decimals=4,
            shown=True,
            both_empty=UNDEFINED,
            missed=0.0,
            false_alarm=0.0,
        ),
        "iou": Metric(
            title="IoU",
            definition="shared voxels by the voxels of either mask (Jaccard 1901)",
            kind="share",
            least=0.0,
            most=1.0,
            higher_is_better=True,
            decimals=4,
            shown=False,
            both_empty=UNDEFINED,
            missed=0.0,
            false_alarm=0.0,
        ),
    }
)
