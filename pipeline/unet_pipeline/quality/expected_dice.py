"""Expected Dice of each label of an image with an interval: fitted on out-of-fold predictions, sealed into the bundle as numbers.

`evaluate` fits, evidence/expected_dice.json holds (schema: docs/expected_dice.schema.json), `predict` applies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict

from unet_pipeline.prediction.confidence import LabelConfidence
from unet_pipeline.prediction.shape_facts import ShapeFacts
from unet_pipeline.quality.dice_features import NAMES, build_features, from_logit, to_logit
from unet_pipeline.quality.regression import Line, Regression, fit_regression, least_cases

EXPECTED_DICE_FILE = "expected_dice.json"
VERSION = 1
CONFIDENCE = 0.9
LEAST_CASES = 12  # of a label, with so many features
NOTHING = "nothing was predicted as this label"
TOO_FEW = "too few validation cases had it"


class LineRecord(BaseModel):
    """A line on standardised features; see `regression.Line`."""

    model_config = ConfigDict(frozen=True)

    centre: list[float]
    spread: list[float]
    weights: list[float]
    intercept: float

    @classmethod
    def of(cls, line: Line) -> LineRecord:
        """The same as plain numbers."""
        return cls(
            centre=line.centre.tolist(),
            spread=line.spread.tolist(),
            weights=line.weights.tolist(),
            intercept=line.intercept,
        )

    def as_line(self) -> Line:
        """The same as arrays."""
        return Line(np.array(self.centre), np.array(self.spread), np.array(self.weights), self.intercept)


class LabelRecord(BaseModel):
    """How Dice of one label is expected.

    `num_cases` of `num_patients` were fitted on; `usual_size` is their median predicted size in `size_unit`. `line` gives the logit of
    Dice; `left_out` are the lines without one group of patients each, `residuals` and `group_of` each case's distance from the line that
    had not seen it. Where nothing can be said, `reason` says why and the rest is empty.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    num_cases: int
    num_patients: int
    usual_size: float | None = None
    size_unit: str = ""
    reason: str = ""
    line: LineRecord | None = None
    left_out: list[LineRecord] = []
    residuals: list[float] = []
    group_of: list[int] = []

    @cached_property
    def regression(self) -> Regression | None:
        """The same as arrays; None where nothing can be said."""
        if self.line is None:
            return None
        lines = tuple(one.as_line() for one in self.left_out)
        return Regression(self.line.as_line(), lines, np.array(self.residuals), np.array(self.group_of))


class ExpectedDiceRecord(BaseModel):
    """evidence/expected_dice.json. `features` are the names of the numbers of each line, `source` says what was fitted on,
    `weights_sha256` which networks the claim is about, `is_mirrored` whether their outputs were means over mirrored copies."""

    model_config = ConfigDict(frozen=True)

    version: int = VERSION
    confidence: float = CONFIDENCE
    features: list[str]
    source: str
    weights_sha256: list[str] = []
    is_mirrored: bool = False
    labels: list[LabelRecord]
    notes: list[str]


@dataclass(frozen=True)
class ExpectedDice:
    """Of one label of one image, 0 to 1; NaN with a reason where it cannot be said."""

    label: str
    mean: float
    low: float
    high: float
    reason: str = ""


@dataclass(frozen=True)
class LabelCase:
    """One label of one prediction: what was measured without a reference, and Dice with it.

    Attributes:
        case, patient: names.
        confidence, shape: of the label.
        voxel_size: of the label map, in ml, mm^2 or pixels.
        mean_entropy: of the image.
        dice: NaN where the label is in neither map, or no reference is known.
    """

    case: str
    patient: str
    confidence: LabelConfidence
    shape: ShapeFacts
    voxel_size: float
    mean_entropy: float
    dice: float = float("nan")


def fit_label(label: str, cases: Sequence[LabelCase], size_unit: str) -> LabelRecord:
    """Fit one label on the cases where something was predicted as it."""
    usable = [
        case for case in cases if case.shape.num_voxels and case.confidence.predicted_voxels and not np.isnan(case.dice)
    ]
    patients = [case.patient for case in usable]
    num_patients, needed = len(set(patients)), max(LEAST_CASES, least_cases(CONFIDENCE))
    if len(usable) < needed or num_patients < 3:
        return LabelRecord(
            label=label,
            num_cases=len(usable),
            num_patients=num_patients,
            size_unit=size_unit,
            reason=f"{TOO_FEW}: {len(usable)} of {num_patients} patients; {needed} of 3 are needed",
        )
    usual_size = float(np.median([case.shape.num_voxels * case.voxel_size for case in usable]))
    features = np.stack([_describe(case, usual_size) for case in usable])
    target = np.asarray(to_logit(np.array([case.dice for case in usable])))
    fitted = fit_regression(features, target, patients)
    return LabelRecord(
        label=label,
        num_cases=len(usable),
        num_patients=num_patients,
        size_unit=size_unit,
        usual_size=usual_size,
        line=LineRecord.of(fitted.line),
        left_out=[LineRecord.of(line) for line in fitted.left_out],
        residuals=fitted.residuals.tolist(),
        group_of=fitted.group_of.tolist(),
    )


def expect_dice(record: LabelRecord, case: LabelCase, level: float = CONFIDENCE) -> ExpectedDice:
    """Expected Dice of one label of a new image; the case's own Dice is not looked at."""
    regression = record.regression
    if regression is None or record.usual_size is None:
        return _leave_unsaid(record, record.reason)
    features = _describe(case, record.usual_size)
    if np.isnan(features).any():
        return _leave_unsaid(record, NOTHING)
    low, high = regression.find_interval(features[None], level)
    mean = float(from_logit(regression.predict(features[None])[0]))
    return ExpectedDice(record.label, mean, float(from_logit(low[0])), float(from_logit(high[0])))


def _leave_unsaid(record: LabelRecord, reason: str) -> ExpectedDice:
    return ExpectedDice(record.label, math.nan, math.nan, math.nan, reason)


def _describe(case: LabelCase, usual_size: float) -> np.ndarray:
    return build_features(case.confidence, case.shape, case.mean_entropy, usual_size, case.voxel_size)


def fit_labels(
    by_label: Mapping[str, Sequence[LabelCase]], size_unit: str, source: str, notes: Sequence[str] = ()
) -> ExpectedDiceRecord:
    """Fit all labels of a bundle.

    Args:
        by_label: the out-of-fold cases of each label but the background.
        size_unit: of `voxel_size`.
        source: what they are, for the reader.
        notes: what limits the claim.
    """
    labels = [fit_label(label, cases, size_unit) for label, cases in by_label.items()]
    return ExpectedDiceRecord(features=list(NAMES), source=source, labels=labels, notes=list(notes))
