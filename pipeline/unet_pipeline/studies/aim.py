"""What an external validation is to show -> how many patients it needs, from the out-of-fold patients of the bundle or a given spread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder, open_any_bundle
from unet_pipeline.errors import EvaluationError, suggest
from unet_pipeline.evaluation.files import METRICS_FILE, read_rows, read_summary
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.studies.decision import ANALYSES, BOUNDED
from unet_pipeline.studies.external_validation import PatientValues, gather_patients
from unet_pipeline.studies.protocol import (
    HYPOTHESES,
    NONINFERIORITY,
    SUPERIORITY,
    Scale,
    compute_boundary,
    require_label,
    require_metric,
)
from unet_pipeline.studies.sample_size import LEAST_PATIENTS, Claim, SampleSize, find_sample_size, imagine_values

_NO_SPREAD = "Give --spread and --expected, or evaluate the bundle first with `unet-pipeline evaluate BUNDLE`."


@dataclass(frozen=True)
class ValidationAim:
    """What an external validation is to show.

    Attributes:
        metric: id, such as "dice".
        label: name; the mean of the labels, if empty.
        hypothesis: "noninferiority" or "superiority".
        margin: by which the bundle may be worse, or has to be better.
        against: a value of the metric, or another bundle; for non-inferiority the bundle's own out-of-fold mean, if None.
        power: probability of showing it, if the truth is as expected.
        alpha: probability of a wrong yes.
        analysis: "bounded" or "t"; "bounded" where the metric has two ends, if None.
        expected: mean on the new patients, or difference of the bundles; what was measured out of fold, if None.
        spread: standard deviation over patients; that of the out-of-fold patients, if None.
    """

    metric: str = "dice"
    label: str = ""
    hypothesis: str = NONINFERIORITY
    margin: float = 0.02
    against: float | Path | str | None = None
    power: float = 0.8
    alpha: float = 0.05
    analysis: str | None = None
    expected: float | None = None
    spread: float | None = None


@dataclass(frozen=True)
class PlannedAim:
    """An aim with its sample.

    Attributes:
        size: how many patients.
        against: the value, or the bundle, that the bundle is compared with.
        label: its full name.
        expected: mean, or difference of means, that was planned with.
        source: of the spread, in words.
    """

    size: SampleSize
    against: float | BundleFolder
    label: str
    expected: float
    source: str


def plan_sample(folder: BundleFolder | None, aim: ValidationAim) -> PlannedAim:
    """How many patients an aim needs.

    Args:
        folder: of the bundle; None where the aim has spread and expected value.

    Raises:
        EvaluationError: values that make no sense, no spread, or nothing can be shown.
        BundleError: the other bundle is none.
    """
    _require_sensible(aim)
    other = _read_against(aim.against)
    known, label = _read_known(folder, other, aim)
    expected = _recall_mean(known) if aim.expected is None else aim.expected
    against = other if other is not None else round(expected if known is None else _recall_mean(known), 6)
    scale = Scale(aim.metric, isinstance(against, BundleFolder), 0.0 if isinstance(against, BundleFolder) else against)
    analysis = aim.analysis or scale.analysis
    if analysis == BOUNDED and scale.analysis != BOUNDED:
        raise EvaluationError(
            f"--analysis is bounded, which needs a metric with two ends; {aim.metric} has none. Choose --analysis t."
        )
    effect = scale.gain(expected) - compute_boundary(aim.hypothesis, aim.margin)
    claim = Claim(effect, analysis, aim.alpha, scale.least, scale.most)
    if known is not None and aim.spread is None:
        values, num_known = (
            scale.sign * (known.values - (scale.reference if known.others is None else known.others)),
            len(known.values),
        )
        source = f"out-of-fold patients of {folder.name if folder else ''}"
    else:
        values, num_known = imagine_values(scale.gain(expected), aim.spread or 0.0, scale.least, scale.most), 0
        source = "given"
    return PlannedAim(find_sample_size(values, claim, aim.power, num_known), against, label, expected, source)


def _require_sensible(aim: ValidationAim) -> None:
    require_metric(aim.metric)
    if aim.hypothesis not in HYPOTHESES:
        raise EvaluationError(f"--type is {aim.hypothesis!r}; {suggest(aim.hypothesis, HYPOTHESES)}.")
    if aim.analysis not in (None, *ANALYSES):
        raise EvaluationError(f"--analysis is {aim.analysis!r}; {suggest(str(aim.analysis), ANALYSES)}.")
    for name, value, low, high in (("power", aim.power, 0.5, 1), ("alpha", aim.alpha, 0, 0.5)):
        if not low < value < high:
            raise EvaluationError(f"--{name} is {value:g}; expected a number above {low:g} and below {high:g}.")
    if not 0 <= aim.margin < float("inf") or (aim.margin == 0 and aim.hypothesis == NONINFERIORITY):
        raise EvaluationError(
            f"--margin is {aim.margin:g}; expected a positive number in the unit of {aim.metric}, such as 0.02; 0 for superiority too."
        )
    if aim.spread is not None and not 0 < aim.spread < float("inf"):
        raise EvaluationError(f"--spread is {aim.spread:g}; expected a positive standard deviation over patients.")
    if aim.hypothesis == SUPERIORITY and aim.against is None:
        raise EvaluationError("--type superiority needs --against: a value of the metric, or another bundle.")


def _read_against(against: float | Path | str | None) -> float | BundleFolder | None:
    """A value, or the folder of a bundle."""
    if against is None or isinstance(against, int | float):
        return against
    try:
        return float(str(against))
    except ValueError:
        return open_any_bundle(against)


def _read_known(
    folder: BundleFolder | None, other: float | BundleFolder | None, aim: ValidationAim
) -> tuple[PatientValues | None, str]:
    """Out-of-fold values of the patients, None where they are not there and not needed, and the label's full name.

    Raises:
        EvaluationError: they are needed.
    """
    places = [one.evaluations / "validation" for one in (folder, other) if isinstance(one, BundleFolder)]
    missing = [place for place in places if not (place / METRICS_FILE).is_file()]
    if folder is None or missing:
        if aim.spread is None or aim.expected is None:
            name = missing[0].parents[2].resolve().name if missing else ""
            what = f"{name} has no evaluation of its validation cases" if missing else "There is no BUNDLE"
            raise EvaluationError(f"{what}, from which the spread over patients would come. {_NO_SPREAD}")
        labels = read_plan(folder.plan).label_table if folder is not None and folder.is_planned else [aim.label]
        return None, require_label(aim.label, list(labels))
    summary, rows = read_summary(places[0]), [read_rows(place) for place in places]
    label = require_label(aim.label, list(rows[0]["label"].drop_duplicates()))
    known = gather_patients(rows[0], summary.scored_labels, aim.metric, label, *rows[1:])
    if aim.spread is None and len(known.values) < LEAST_PATIENTS:
        raise EvaluationError(
            f"The evaluation of {folder.name} has {len(known.values)} patient(s); expected {LEAST_PATIENTS} or more, from which a sample can "
            "be planned. Give --spread and --expected, or evaluate more folds."
        )
    return known, label


def _recall_mean(known: PatientValues | None) -> float:
    """Mean over the out-of-fold patients, or of the differences of two bundles."""
    if known is None:
        raise EvaluationError(f"--expected is missing, and no evaluation tells it. {_NO_SPREAD}")
    return float((known.values if known.others is None else known.values - known.others).mean())
