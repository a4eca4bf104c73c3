"""Summaries of a dataset and of its images."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from unet_pipeline.messages import name_elements
from unet_pipeline.types import BACKGROUND
from unet_pipeline.views.pictures import draw_sizes, draw_tiles
from unet_pipeline.views.summary import Picture, Summary, count, join_size, list_problems

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from unet_pipeline.dataset.check import CheckReport
    from unet_pipeline.dataset.fingerprint import CaseFingerprint, Fingerprint
    from unet_pipeline.dataset.fix import FixedDataset
    from unet_pipeline.dataset.medical_image import MedicalImage


def _summarize_check(report: CheckReport) -> Summary:
    fingerprint = report.fingerprint
    severities = Counter(problem.severity for problem in report.problems)
    found = ", ".join(count(number, severity) for severity, number in severities.items()) or "no problem"
    cases = count(len(report.dataset.cases), "case")
    dims = f", {fingerprint.spatial_dims}D" if fingerprint else ""
    facts: dict[str, object] = {"layout": report.dataset.layout, "cases": cases}
    pictures = []
    if report.tiles:
        pictures.append(Picture("cases with the outlines of their labels", lambda: draw_tiles(report.tiles)))
    if fingerprint is not None:
        facts |= {
            "channels": ", ".join(fingerprint.channels),
            "labels": ", ".join(f"{name} = {value}" for name, value in fingerprint.labels.items()),
            "median shape": join_size(fingerprint.median_shape()),
            "files": f"{len(report.manifest):,}, {sum(file.num_bytes for file in report.manifest) / 2**20:,.1f} MiB",
        }
        pictures.append(Picture("size of each label in each case", lambda: _draw_volumes(fingerprint)))
    return Summary(
        f"{report.dataset.name}: {cases}{dims}, {found}",
        facts,
        list_problems("what was found, worst first", report.problems),
        pictures,
        () if fingerprint else ("There are errors: the dataset cannot be planned for until they are mended.",),
    )


def _draw_volumes(fingerprint: Fingerprint) -> Figure:
    """Millilitres of volumes, square millimetres or pixels of pictures."""
    is_volume = fingerprint.spatial_dims == 3
    is_measured = all(case.pixel_spacing_mm for case in fingerprint.cases)
    values = {
        label: [case.num_voxels.get(label, 0) * _size(case, is_volume) for case in fingerprint.cases]
        for label in fingerprint.labels
        if label != BACKGROUND
    }
    return draw_sizes(values, "volume, ml" if is_volume else "area, mm²" if is_measured else "area, pixels")


def _size(case: CaseFingerprint, is_volume: bool) -> float:
    """Of one voxel."""
    return math.prod(case.pixel_spacing_mm or case.spacing_mm) / (1000 if is_volume else 1)


def _summarize_fix(fixed: FixedDataset) -> Summary:
    record = fixed.record
    left = count(len(fixed.copy.errors), "error")
    return Summary(
        f"{fixed.out.name}: {count(len(record.changes), 'change')}, {left} left",
        {"source": record.source, "copy": fixed.out.name, "cases": len(fixed.copy.dataset.cases)},
        list_problems("what is left, worst first", fixed.copy.problems),
    )


def _summarize_image(image: MedicalImage) -> Summary:
    shape, channels = join_size(image.spatial_shape), image.array.shape[0]
    spacing = (
        f", {join_size([round(size, 3) for size in image.spacing_mm])} mm" if len(image.spatial_shape) == 3 else ""
    )
    low, high = image.array.min(), image.array.max()
    voxels = name_elements("voxels", len(image.spatial_shape) == 2)
    return Summary(
        f"{shape} {voxels}, {count(channels, 'channel')}{spacing}, {image.array.dtype} from {low:g} to {high:g}",
        tables=list_problems("what the reader saw", image.notes),
        pictures=(Picture("the middle of the image", lambda: _draw_image(image)),),
    )


def _draw_image(image: MedicalImage) -> Figure:
    from unet_pipeline.evidence.report.overlay import draw_overlay

    return draw_overlay(image)


SUMMARIES = {"CheckReport": _summarize_check, "FixedDataset": _summarize_fix, "MedicalImage": _summarize_image}
