"""The table of all metrics: what each is called, its unit, its range, which way is better, and what an empty mask gives.

One place for every fact about a metric: the columns of metrics.csv, the lines of the summary, the terminal and
docs/metrics.md are made from `METRICS`, and a value is what a row's `compute` gives for a label of one case, on the image's own grid.

What an empty mask gives follows three rules. Neither mask has a voxel: undefined, because nothing was to be found and nothing was
said. The prediction is empty where the reference is not: the worst value, because were it undefined, it would leave the average, and
a network that finds nothing would be better than one that finds little. Only where the reference alone decides may a value be undefined, as
the sensitivity of a case without the structure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from unet_pipeline.evaluation import metrics
from unet_pipeline.evaluation.centreline import compute_cldice
from unet_pipeline.evaluation.instances import IOU_THRESHOLDS
from unet_pipeline.evaluation.lesions import LEAST_IOU
from unet_pipeline.evaluation.mask_pair import MaskPair
from unet_pipeline.evaluation.surface import compute_assd, compute_hd95, compute_nsd
from unet_pipeline.messages import name_elements

UNDEFINED = math.nan
DIAGONAL = "diagonal of the image"
REFERENCE_SIZE = "size of the reference"
MINUS_REFERENCE_SIZE = "minus the size of the reference"
PREDICTION_SIZE = "size of the prediction"
MINUS_REFERENCE_COUNT = "minus the instances of the reference"
PREDICTION_COUNT = "instances of the prediction"

AREA_UNITS = ("mm^2", "pixel")  # of sizes of pictures; `title_metric` calls them areas

Kind = Literal["share", "percent", "length", "size"]
Family = Literal["masks", "lesions", "thin", "separated", "instances"]
Compute = Callable[[MaskPair], float]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Facts about one metric.

    Attributes:
        title: for tables and charts.
        compute: the value, of a pair of masks.
        definition: what the number is, with its source.
        kind: of unit, see `unit`.
        family: "masks" is measured for every label; "lesions", "thin" and "separated" for the labels that the plan names, "instances" for
            images with an instance map. Rows of a table whose labels have none of a family lack its columns.
        least: the smallest value that it can have.
        most: the largest.
        higher_is_better: None where 0 is best and the sign says in which direction an error goes.
        decimals: to print.
        shown: on the terminal; all go to the files.
        both_empty: value where neither mask has a voxel; NaN is undefined, and is counted as such.
        missed: value where the reference has the structure and the prediction is empty; words where it depends on the image.
        false_alarm: value where the prediction has the structure and the reference is empty.
    """

    title: str
    compute: Compute
    definition: str
    kind: Kind = "share"
    family: Family = "masks"
    least: float = 0.0
    most: float = 1.0
    higher_is_better: bool | None = True
    decimals: int = 4
    shown: bool = False
    both_empty: float | str = UNDEFINED
    missed: float | str = 0.0
    false_alarm: float | str = 0.0

    def unit(self, length_unit: str = "mm", size_unit: str = "ml") -> str:
        """Unit of the values: "" for shares, "%", or the unit of lengths or sizes.

        Args:
            length_unit: column `length_unit` of the table of cases: "mm", or "pixel" for pictures without spacing.
            size_unit: column `size_unit`: "ml", for pictures "mm^2" or "pixel".
        """
        return {"share": "", "percent": "%", "length": length_unit, "size": size_unit}[self.kind]

    def format(self, value: float, sign: str = "") -> str:
        """A value with the metric's decimals, a large size with fewer; `sign` "+" shows that of a positive one too."""
        digits = math.floor(math.log10(abs(value))) if self.kind == "size" and abs(value) >= 1 else 0
        return f"{value:{sign}.{max(0, self.decimals - digits)}f}"


def title_metric(name: str, is_flat: bool = False, unit: str = "") -> str:
    """Title of a metric, or of a column that is none; of pictures the sizes are areas.

    Args:
        name: id in `METRICS`, or another name.
        is_flat: whether the images are pictures.
        unit: of the values, which tells that too.
    """
    return name_elements(METRICS[name].title, is_flat or unit in AREA_UNITS) if name in METRICS else name


def title_with_unit(name: str, unit: str, is_flat: bool = False) -> str:
    """Title of a metric and its unit, where it has one; of pictures (`is_flat`, or told by the unit) the sizes are areas."""
    title = title_metric(name, is_flat, unit)
    return f"{title}, {unit}" if unit else title


def name_value(name: str, shown: str, unit: str = "") -> str:
    """A formatted value in a sentence, such as "+0.0123 Dice" or "-0.50 mm HD95"."""
    return " ".join(filter(None, (shown, unit, title_metric(name, unit=unit))))


def _build_distance(title: str, compute: Compute, definition: str, shown: bool) -> Metric:
    return Metric(
        title=title,
        compute=compute,
        definition=definition,
        kind="length",
        most=math.inf,
        higher_is_better=False,
        decimals=2,
        shown=shown,
        missed=DIAGONAL,
        false_alarm=DIAGONAL,
    )


_OVERLAP_AND_SURFACE = {
    "dice": Metric(
        title="Dice",
        compute=lambda pair: metrics.compute_dice(pair.reference, pair.prediction),
        definition="twice the shared voxels by the voxels of both masks (Dice 1945)",
        shown=True,
    ),
    "iou": Metric(
        title="IoU",
        compute=lambda pair: metrics.compute_iou(pair.reference, pair.prediction),
        definition="shared voxels by the voxels of either mask (Jaccard 1901)",
    ),
    "hd95": _build_distance(
        "HD95",
        lambda pair: compute_hd95(pair.distances),
        "95th percentile of the distances from border voxels of one mask to the other's, the larger of both directions "
        "(Maier-Hein 2024)",
        shown=True,
    ),
    "assd": _build_distance(
        "ASSD",
        lambda pair: compute_assd(pair.distances),
        "average symmetric surface distance: mean distance of all border voxels of both masks to the other's (Heimann 2009)",
        shown=False,
    ),
    "nsd": Metric(
        title="NSD",
        compute=lambda pair: compute_nsd(pair.distances, pair.request.tolerance),
        definition="normalised surface dice: share of the border voxels of both masks that lie within the plan's `tolerance_mm` of "
        "the other's (Nikolov 2018)",
        shown=True,
    ),
}
_VOLUME = {
    "volume_error": Metric(
        title="Volume error",
        compute=lambda pair: pair.volume_error,
        definition="size of the prediction less that of the reference; its mean is the bias, in which errors of opposite sign cancel",
        kind="size",
        least=-math.inf,
        most=math.inf,
        higher_is_better=None,
        shown=True,
        decimals=3,
        missed=MINUS_REFERENCE_SIZE,
        false_alarm=PREDICTION_SIZE,
    ),
    "absolute_volume_error": Metric(
        title="Absolute volume error",
        compute=lambda pair: abs(pair.volume_error),
        definition="the volume error without its sign, so that nothing cancels",
        kind="size",
        most=math.inf,
        higher_is_better=False,
        decimals=3,
        missed=REFERENCE_SIZE,
        false_alarm=PREDICTION_SIZE,
    ),
    "relative_volume_error": Metric(
        title="Relative volume error",
        compute=lambda pair: metrics.compute_relative_volume_error(pair.reference, pair.prediction),
        definition="the volume error in percent of the mean of both sizes, finite for a false alarm too (Bland and Altman 1999)",
        kind="percent",
        least=-200.0,
        most=200.0,
        higher_is_better=None,
        decimals=1,
        missed=-200.0,
        false_alarm=200.0,
    ),
    "sensitivity": Metric(
        title="Sensitivity",
        compute=lambda pair: metrics.compute_sensitivity(pair.reference, pair.prediction),
        definition="share of the reference's voxels that were found (recall)",
        false_alarm=UNDEFINED,
    ),
    "precision": Metric(
        title="Precision",
        compute=lambda pair: metrics.compute_precision(pair.reference, pair.prediction),
        definition="share of the predicted voxels that are right",
    ),
}
_LESIONS = {
    "lesion_sensitivity": Metric(
        title="Lesion sensitivity",
        compute=lambda pair: pair.lesions.sensitivity,
        definition="share of the reference's lesions that were found: connected parts (corners too), matched one to one with an IoU of "
        f"at least {LEAST_IOU} (Saha 2024)",
        family="lesions",
        shown=True,
        false_alarm=UNDEFINED,
    ),
    "lesion_precision": Metric(
        title="Lesion precision",
        compute=lambda pair: pair.lesions.precision,
        definition="share of the predicted lesions that are one of the reference's",
        family="lesions",
        shown=True,
    ),
    "lesion_f1": Metric(
        title="Lesion F1",
        compute=lambda pair: pair.lesions.f1,
        definition="twice the matched lesions by the lesions of both masks",
        family="lesions",
    ),
}
_THIN = {
    "cldice": Metric(
        title="clDice",
        compute=lambda pair: compute_cldice(pair.reference, pair.prediction),
        definition="harmonic mean of the shares of each mask's centre line that lie in the other mask (Shit 2021)",
        family="thin",
        shown=True,
    )
}
_SEPARATED = {
    "v_rand": Metric(
        title="V_rand",
        compute=lambda pair: pair.separation.v_rand,
        definition="F score of the pairs of voxels that lie in one connected part (faces) of both masks, over the voxels of the reference; a "
        "voxel between predicted parts belongs to the nearest (Arganda-Carreras 2015)",
        family="separated",
        shown=True,
    ),
    "v_info": Metric(
        title="V_info",
        compute=lambda pair: pair.separation.v_info,
        definition="mutual information of the connected parts of both masks, by the mean of their entropies (Arganda-Carreras 2015)",
        family="separated",
        shown=True,
    ),
}
_INSTANCES = {
    "mean_ap": Metric(
        title="Mean AP",
        compute=lambda pair: pair.instance_scores.mean_average_precision,
        definition="mean of the average precision over the IoU thresholds 0.5 to 0.95",
        family="instances",
        shown=True,
    ),
    "panoptic_quality": Metric(
        title="PQ",
        compute=lambda pair: pair.instance_scores.panoptic_quality,
        definition="panoptic quality: sum of the IoU of the pairs of IoU over 0.5, by the mean number of instances of both sides "
        "(Kirillov 2019)",
        family="instances",
        shown=True,
    ),
    "instance_count_error": Metric(
        title="Count error",
        compute=lambda pair: pair.instance_scores.count_error,
        definition="predicted instances less those of the reference; its mean is the bias, in which errors of opposite sign cancel",
        family="instances",
        least=-math.inf,
        most=math.inf,
        higher_is_better=None,
        decimals=1,
        shown=True,
        missed=MINUS_REFERENCE_COUNT,
        false_alarm=PREDICTION_COUNT,
    ),
    **{
        f"ap_{round(100 * threshold)}": Metric(
            title=f"AP {threshold:.2f}",
            compute=lambda pair, number=number: pair.instance_scores.average_precisions[number],  # type: ignore[misc]
            definition=f"average precision: pairs of an IoU over {threshold:.2f}, by pairs and unmatched instances of both sides (Data "
            "Science Bowl 2018); without a predicted instance map, the connected parts (faces) of the predicted mask are its instances",
            family="instances",
            shown=threshold == 0.5,
        )
        for number, threshold in enumerate(IOU_THRESHOLDS)
    },
}

METRICS: Mapping[str, Metric] = MappingProxyType(
    {**_OVERLAP_AND_SURFACE, **_VOLUME, **_LESIONS, **_THIN, **_SEPARATED, **_INSTANCES}
)


def measure(pair: MaskPair) -> dict[str, float]:
    """Every metric that is asked for, by its id, and the numbers of lesions and instances where those are.

    Args:
        pair: of one label; instances are measured where it has an instance map.

    Raises:
        ValueError: shapes differ, a mask is not bool, or the spacing or tolerance is not positive.
    """
    has_instances = pair.instances is not None
    request = pair.request
    asked = {"masks": True, "lesions": request.lesions, "thin": request.thin, "separated": request.separated}
    asked["instances"] = has_instances
    values = {name: metric.compute(pair) for name, metric in METRICS.items() if asked[metric.family]}
    if asked["lesions"]:
        values["num_lesions_reference"] = pair.lesions.num_reference
        values["num_lesions_prediction"] = pair.lesions.num_prediction
    if asked["instances"]:
        values["num_instances_reference"] = pair.instance_scores.num_reference
        values["num_instances_prediction"] = pair.instance_scores.num_prediction
    return values
