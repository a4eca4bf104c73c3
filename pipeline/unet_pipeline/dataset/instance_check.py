"""Instance maps in `check`: whether label maps number objects, and how large the objects are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from unet_pipeline.dataset.case_check import CaseFindings
from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.structure_masks import has_masks
from unet_pipeline.messages import NOTE, Message, Problem
from unet_pipeline.types import BACKGROUND

_LEAST_OBJECTS = 20  # of the image with the most; as many labels are seldom without names
OBJECTS = {BACKGROUND: 0, "object": 1}  # of instance maps whose label nobody has named

SEEN_INSTANCES = Message(
    "labels-are-instances",
    NOTE,
    "is not given, and the label maps number their objects from 1 on (up to {most}); they are taken for instance maps of one label",
    "Nothing has to be done; give --no-labels-are-instances if the values are labels.",
)


def sees_instances(
    dataset: Dataset, labels: dict[str, int] | None, options: ReadOptions, findings: Sequence[CaseFindings]
) -> bool:
    """Whether the label maps number objects: 1 to n in each, which in most of them is another n, and nobody has named the values."""
    unnamed = labels is None and dataset.labels is None and not has_masks(dataset) and dataset.ignore_value is None
    if options.labels_are_instances is not None or not unnamed:
        return False
    labelled = [finding for finding in findings if finding.shape or finding.num_objects]
    numbers = [finding.num_objects for finding in labelled]
    if any(finding.instance_sizes is not None for finding in findings) or 0 in numbers:
        return False
    return max(numbers, default=0) >= _LEAST_OBJECTS and 2 * len(set(numbers)) > len(numbers)


def note_instances(findings: Sequence[CaseFindings], shown: str) -> Problem:
    """That label maps are taken for instance maps, about the label table that is `shown`."""
    return SEEN_INSTANCES.about(shown, most=max(finding.num_objects for finding in findings))


def measure_instances(findings: Sequence[CaseFindings]) -> tuple[float, ...]:
    """Quantiles, 0 to 100 %, of the sizes of all objects, in mm^3, or pixels of pictures; empty without instance maps."""
    sizes = [
        finding.instance_sizes * math.prod(finding.spacing_mm)
        for finding in findings
        if finding.instance_sizes is not None
    ]
    every = np.concatenate(sizes) if sizes else np.empty(0)
    return tuple(float(f"{size:.4g}") for size in np.quantile(every, np.linspace(0, 1, 101))) if every.size else ()
