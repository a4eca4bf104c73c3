"""The report's charts, each from plain numbers: flow of cases, learning curves, distributions, volumes, calibration, risk and coverage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from unet_pipeline.bundle.records import CalibrationRecord
from unet_pipeline.evaluation.metric_table import title_metric
from unet_pipeline.evaluation.summary import SummaryRow
from unet_pipeline.evidence.report.answers import build_environment
from unet_pipeline.evidence.report.charts import WIDTH, Axis, Chart, fit_axis, format_number
from unet_pipeline.evidence.report.history import History
from unet_pipeline.messages import name_elements
from unet_pipeline.quality.claim import QualityRow

_MOST_POINTS = 400  # a curve with more is thinned, a strip keeps them all


@dataclass(frozen=True)
class Figure:
    """A chart, and what to see in it."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Curve:
    """One scalar of one run over its steps."""

    run: str
    tag: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


def draw_flow(history: History) -> Figure | None:
    """Cases from what was found to training and validation of every fold; None without lists."""
    folds, trained, test = history.folds, history.trained_folds, len(history.test_cases)
    if not folds or not history.manifest:
        return None
    rest = history.manifest.num_cases - history.num_used - test
    svg = build_environment("unet_pipeline.evidence.report").get_template("flow.svg")
    texts = {
        "found": f"{history.manifest.num_cases:,} cases found",
        "used": f"{history.num_used:,} in the cross-validation",
        "aside": f"{test:,} held out as test" if test else "none held out as test",
        "rest": f"{rest:,} not in any fold" if rest else "none left out",
    }
    most = max(len(fold.training) + len(fold.validation) for fold in folds)
    drawn = svg.render(width=WIDTH, folds=folds, trained=trained, most=most, **texts)
    caption = "Where the cases went." + ("" if len(trained) == len(folds) else " * not trained.")
    return Figure(Markup(drawn), caption)  # escaped by the template


def draw_curves(curves: Sequence[Curve], tag: str, title: str, y_label: str, x_label: str) -> Figure | None:
    """One scalar of all runs; None where no run has it."""
    chosen = [curve for curve in curves if curve.tag == tag and curve.steps]
    if not chosen:
        return None
    values = [value for curve in chosen for value in curve.values]
    logarithmic = "loss" in tag and min(values) > 0
    shown = [_smooth(curve) if len(curve.steps) > _MOST_POINTS else curve for curve in chosen]
    steps = [float(step) for curve in shown for step in curve.steps]
    y = fit_axis([value for curve in shown for value in curve.values], y_label, logarithmic)
    ends = "; ".join(f"{curve.run} ends at {format_number(curve.values[-1])}" for curve in shown)
    chart = Chart(title, f"{ends}.", fit_axis(steps, x_label), y)
    for series, curve in enumerate(shown):
        chart.line(curve.steps, curve.values, series, curve.run)
        if len(curve.steps) <= 60:
            chart.points(curve.steps, curve.values, series)
    smoothed = any(len(curve.steps) > _MOST_POINTS for curve in chosen)
    return Figure(chart.render(), title + (", mean over neighbouring steps." if smoothed else "."))


def _smooth(curve: Curve) -> Curve:
    """Means of about `_MOST_POINTS` / 2 stretches of equal length."""
    parts = np.array_split(np.arange(len(curve.steps)), _MOST_POINTS // 2)
    steps, values = np.array(curve.steps), np.array(curve.values)
    means = [(int(np.median(steps[part])), float(values[part].mean())) for part in parts if len(part)]
    return Curve(curve.run, curve.tag, tuple(step for step, _ in means), tuple(value for _, value in means))


def draw_distribution(
    metric: str, groups: Mapping[str, np.ndarray], intervals: Mapping[str, SummaryRow], is_flat: bool = False
) -> Figure | None:
    """A strip of the cases and a box per label, with the interval of the mean beside it.

    Args:
        metric: id in `METRICS`, or another name.
        groups: values of every label, NaN left out here.
        intervals: row of the summary of a label.
        is_flat: the images are pictures, so that sizes are areas.
    """
    groups = {label: values[np.isfinite(values)] for label, values in groups.items()}
    groups = {label: values for label, values in groups.items() if len(values)}
    if not groups:
        return None
    unit = next((row.unit for row in intervals.values() if row.unit), "")
    title = title_metric(metric, is_flat, unit)
    ticks = tuple((float(place), _shorten(label, len(groups))) for place, label in enumerate(groups))
    y = fit_axis(np.concatenate(list(groups.values())).tolist(), f"{title} ({unit})" if unit else title)
    told = "; ".join(
        f"{label}: median {format_number(np.median(values))}, lowest {format_number(values.min())}, n = {len(values):,}"
        for label, values in groups.items()
    )
    chart = Chart(f"{title} of every case", told, Axis(-0.5, len(groups) - 0.5, "label", ticks), y)
    for series, (label, values) in enumerate(groups.items()):
        chart.box(series, np.quantile(values, [0.25, 0.5, 0.75]).tolist(), 0.36, series)
        # the same places in every report: spread by the position in the sorted list
        spread = np.random.default_rng(0).uniform(-0.14, 0.14, len(values))
        chart.points((series + spread).tolist(), values.tolist(), series)
        row = intervals.get(label)
        if row is not None and not math.isnan(row.low + row.mean):
            chart.whisker(series + 0.32, row.low, row.high, row.mean)
    return Figure(
        chart.render(), f"{title} of every case; box: quartiles and median; diamond: mean with its 95 % interval."
    )


def _shorten(label: str, count: int) -> str:
    most = max(6, 52 // max(count, 1))
    return label if len(label) <= most else f"{label[: most - 1]}…"


def tabulate_volumes(rows: pd.DataFrame, labels: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """Size of every label in reference and prediction, and the unit: ml, mm² or pixels."""
    units = set(rows["size_unit"]) if "size_unit" in rows else set()
    unit = str(units.pop()) if len(units) == 1 else "voxels"
    scale = rows["voxel_volume"] / (1000 if unit == "ml" else 1) if unit in ("ml", "mm^2") else 1.0
    table = pd.DataFrame(
        {
            "label": rows["label"],
            "reference": rows["num_voxels_reference"] * scale,
            "prediction": rows["num_voxels_prediction"] * scale,
        }
    )
    shown = {"mm^2": "mm²", "pixel": "pixels"}.get(unit, unit)
    return table[table["label"].isin(labels)], shown


def name_size(unit: str) -> str:
    """What a size is called: "area" in mm² or pixels, "volume" else."""
    return "area" if unit in ("mm²", "pixels") else "volume"


def draw_agreement(volumes: pd.DataFrame, unit: str) -> Figure | None:
    """Predicted size against the reference's, with the line of equality."""
    if volumes.empty:
        return None
    size = name_size(unit).capitalize()
    everything = [*volumes["reference"], *volumes["prediction"]]
    x, y = fit_axis(everything, f"reference ({unit})"), fit_axis(everything, f"prediction ({unit})")
    chart = Chart(f"{size} in prediction and reference", f"{len(volumes):,} pairs; the grey line is equality.", x, y)
    chart.line([x.low, x.high], [y.low, y.high], style="guide")
    for series, (label, table) in enumerate(volumes.groupby("label", sort=False)):
        chart.points(table["reference"].tolist(), table["prediction"].tolist(), series, str(label))
    return Figure(chart.render(), f"{size} of every label in prediction and reference; the grey line is equality.")


@dataclass(frozen=True)
class Agreement:
    """Bland-Altman numbers of one label: prediction minus reference; `low` and `high` are the limits of agreement (1.96 SD)."""

    label: str
    n: int
    bias: float
    low: float
    high: float


def compute_agreement(volumes: pd.DataFrame) -> tuple[Agreement, ...]:
    """Bias and limits of agreement per label; NaN limits for one case (Bland and Altman 1986, Lancet 327:307-310)."""
    agreements = []
    for label, table in volumes.groupby("label", sort=False):
        difference = (table["prediction"] - table["reference"]).to_numpy()
        bias, sd = float(difference.mean()), float(difference.std(ddof=1)) if len(difference) > 1 else math.nan
        agreements.append(Agreement(str(label), len(difference), bias, bias - 1.96 * sd, bias + 1.96 * sd))
    return tuple(agreements)


def draw_bland_altman(volumes: pd.DataFrame, unit: str, agreement: Agreement, series: int = 0) -> Figure:
    """Difference of prediction and reference over their mean, for one label."""
    table = volumes[volumes["label"] == agreement.label]
    means = ((table["prediction"] + table["reference"]) / 2).tolist()
    differences = (table["prediction"] - table["reference"]).tolist()
    x = fit_axis(means, f"mean of both ({unit})")
    y = fit_axis([*differences, agreement.low, agreement.high, 0.0], f"difference ({unit})")
    told = (
        f"Bias {format_number(agreement.bias)} {unit}, limits of agreement {format_number(agreement.low)} to "
        f"{format_number(agreement.high)}, n = {agreement.n:,}."
    )
    chart = Chart(f"Bland-Altman of {agreement.label}", told, x, y)
    chart.points(means, differences, series)
    for value, name in ((agreement.bias, "bias"), (agreement.low, "-1.96 SD"), (agreement.high, "+1.96 SD")):
        if math.isfinite(value):
            chart.line([x.low, x.high], [value, value], style="guide")
            chart.text(x.high, value, f"{name} {format_number(value, 3)}")
    return Figure(
        chart.render(),
        f"{agreement.label}: prediction minus reference over their mean, with bias and limits of agreement.",
    )


def draw_calibration(calibration: CalibrationRecord, is_flat: bool = False) -> Figure | None:
    """Share of right voxels over the confidence, before and after the temperature; None for an old record without bins."""
    curves = [
        (name, [one for one in bins if one.num_voxels])
        for name, bins in (("before", calibration.bins_before), ("after", calibration.bins_after))
    ]
    curves = [(name, bins) for name, bins in curves if bins]
    if not curves:
        return None
    right_share = name_elements("share of right voxels", is_flat)
    told = f"Expected calibration error {calibration.error_before:.4f} before, {calibration.error_after:.4f} after."
    chart = Chart("Calibration", told, Axis(0, 1, "confidence"), Axis(0, 1, right_share))
    chart.line([0, 1], [0, 1], style="guide")
    for series, (name, bins) in enumerate(curves):
        confidence, right = [one.confidence for one in bins], [one.right_share for one in bins]
        chart.line(confidence, right, series, f"{name} the temperature")
        chart.points(confidence, right, series)
    return Figure(
        chart.render(), f"{right_share.capitalize()} over the network's confidence; on the grey line they agree."
    )


def draw_risk_coverage(row: QualityRow) -> Figure:
    """Mean of 1 - Dice over the share of cases that are kept, in four orders; lower is better."""
    curve, orders = row.curve, ("expected", "entropy", "best")
    names = {"expected": "expected Dice", "entropy": "mean entropy", "best": "Dice itself, the best order"}
    areas = {"expected": row.aurc, "entropy": row.aurc_entropy, "best": row.aurc_best}
    told = ", ".join(f"{names[order]} {format_number(areas[order], 3)}" for order in orders)
    told = f"Areas: {told}, random order {format_number(row.aurc_random, 3)}; n = {row.n:,}."
    risks = [risk for order in orders for risk in getattr(curve, order)]
    y = fit_axis([*risks, row.aurc_random], "mean of 1 - Dice")
    chart = Chart(f"Risk and coverage of {row.label}", told, Axis(0, 1, "share of the cases that are kept"), y)
    chart.line([0, 1], [row.aurc_random] * 2, style="guide")
    for series, order in enumerate(orders):
        chart.line(curve.coverage, getattr(curve, order), series, names[order])
    return Figure(
        chart.render(),
        f"{row.label}: the least trusted cases are left out first; the grey line is random order. {told}",
    )
