"""Writes docs/metrics.md from the table of metrics: `.venv/bin/python docs/build_metrics.py`.

A test compares the file with what is made here, so that no metric goes without its line.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from unet_pipeline.evaluation.metric_table import METRICS, Metric

sys.path.insert(0, str(Path(__file__).parent))
from build_drawings import SCENES, tell_metrics

TARGET = Path(__file__).with_name("metrics.md")

_HEAD = """\
# Metrics of `evaluate`

<!-- Made by docs/build_metrics.py from METRICS in pipeline/unet_pipeline/evaluation/metric_table.py; change it there and run it again. -->

Computed on every image's own grid, from the label map files. metrics.csv has a row per case and label with a column per metric. Lengths
are in mm; volumes in ml, areas of pictures in mm^2. Pictures are measured in pixels, and areas in numbers of pixels, unless the
spacing of all of them is known; the columns `length_unit` and `size_unit` say which.

The surface of a mask is its border voxels: those with a face neighbour outside of it; beyond the edge of the image is outside. All count
the same, whatever their area. Google's surface-distance weighs them by area and gives similar, not equal values.

Voxels without annotation count for nothing, whatever was predicted there.

"""
_FAMILIES = {
    "masks": "## Every label",
    "lesions": "## Lesions: labels in the plan's `lesion_labels`",
    "thin": "## Thin structures: labels in the plan's `thin_labels`",
    "separated": "## Parts behind borders: labels in the plan's `separated_labels`",
    "instances": "## Instances: images with an instance map in `instances/` beside `labels/`",
}
_DRAWINGS = {
    "masks": ("overlap", "surface", "tolerance", "volume"),
    "lesions": ("lesions",),
    "thin": ("centreline",),
    "separated": (),
    "instances": ("instances",),
}
_COLUMNS = "| column | what | unit | range | better | on the terminal |\n|---|---|---|---|---|---|\n"
_EMPTY = """\
## What an empty mask gives

Undefined values are counted as such and enter no mean. A structure that was missed is never undefined: it would leave the mean, and a
network that finds nothing would seem better than one that finds little. Its distance is the diagonal of the image's field of view, longer
than any distance that can be measured in the image; the BraTS challenges do the same with 373.1 mm, the diagonal of their images.
The columns `missed` and `false_alarm` mark these cases.

| column | both empty | missed: only the reference has it | false alarm: only the prediction has it |
|---|---|---|---|
"""


def build_metrics_text() -> str:
    """Contents of docs/metrics.md."""
    parts = [_HEAD]
    for family, title in _FAMILIES.items():
        rows = "\n".join(_describe(name, metric) for name, metric in METRICS.items() if metric.family == family)
        drawings = "".join(f"{_show_drawing(name)}\n" for name in _DRAWINGS[family])
        parts.append(f"{title}\n\n{drawings}" + ("\n" if drawings else "") + f"{_COLUMNS}{rows}\n\n")
    empty = (
        f"| `{name}` | {_show(metric.both_empty)} | {_show(metric.missed)} | {_show(metric.false_alarm)} |"
        for name, metric in METRICS.items()
    )
    return "".join(parts) + _EMPTY + "\n".join(empty) + "\n"


def _show_drawing(name: str) -> str:
    scene = SCENES[name]
    told = f"{scene.sentence} {tell_metrics(scene)}".replace("_", " ")
    return f"![{told}](drawings/metric_{name}.svg)"


def _describe(name: str, metric: Metric) -> str:
    better = {True: "higher", False: "lower", None: "near 0"}[metric.higher_is_better]
    extent = f"{_show(metric.least)} to {_show(metric.most)}"
    shown = "yes" if metric.shown else ""
    unit = {"share": "", "percent": "%", "length": "mm or pixel", "size": "ml, mm^2 or pixel"}[metric.kind]
    return f"| `{name}` | {metric.title}: {metric.definition} | {unit} | {extent} | {better} | {shown} |"


def _show(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if math.isinf(value):
        return "infinity" if value > 0 else "minus infinity"
    return "undefined" if math.isnan(value) else f"{value:g}"


if __name__ == "__main__":
    TARGET.write_text(build_metrics_text(), encoding="utf-8")
