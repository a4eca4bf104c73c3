"""Summaries of external validations, learning curves and pools of unlabelled images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unet_pipeline.evaluation.metric_table import METRICS, title_metric, title_with_unit
from unet_pipeline.studies.curve_figure import draw_curve
from unet_pipeline.views.summary import Picture, Summary, Table, count

if TYPE_CHECKING:
    from unet_pipeline.studies.external_validation import ValidationResult
    from unet_pipeline.studies.learning_curve import LearningCurve
    from unet_pipeline.studies.protocol import ValidationProtocol
    from unet_pipeline.studies.sample_size import SampleSize
    from unet_pipeline.verbs.unlabelled import PoolTrial


def _summarize_size(size: SampleSize) -> Summary:
    rows = [(str(num), f"{power:.3f}") for num, power in {**size.others, size.num_patients: size.power}.items()]
    facts = {
        "effect": f"{size.effect:.4g}",
        "spread": f"{size.spread:.4g}",
        "analysis": size.analysis,
        "alpha": size.alpha,
    }
    table = Table("power of a sample", ("patients", "power"), sorted(rows, key=lambda row: int(row[0])), 0)
    return Summary(f"{count(size.num_patients, 'patient')}, power {size.power:.2f}", facts, (table,))


def _summarize_protocol(protocol: ValidationProtocol) -> Summary:
    other = protocol.against if isinstance(protocol.against, float) else protocol.against.name
    facts = {
        "metric": f"{title_metric(protocol.metric)}, {protocol.label}",
        "margin": protocol.margin,
        "alpha": protocol.alpha,
        "patients": f"{protocol.sample.num_patients}, power {protocol.sample.power:.2f}",
        "SHA-256": protocol.sha256,
    }
    line = f"{protocol.bundle.name}: {protocol.hypothesis} against {other}"
    exclusions = [f"Not of the study: {rule}" for rule in protocol.exclusions]
    return Summary(line, facts, (), (), (*protocol.rules, *exclusions))


def _summarize_validation(result: ValidationResult) -> Summary:
    facts = {
        "data": result.dataset,
        "patients": f"{result.num_patients}, {result.num_planned} were planned",
        "look": result.look,
    }
    return Summary(f"{result.verdict}", facts, (), (), (result.sentence, *result.breaches, *result.notes))


def _summarize_curve(curve: LearningCurve) -> Summary:
    rows = [
        (str(point.num_cases), str(point.repeat), METRICS[curve.metric].format(point.score)) for point in curve.points
    ]
    table = Table("trainings", ("cases", "repeat", title_with_unit(curve.metric, curve.unit)), rows, 0)
    picture = Picture(
        f"{title_metric(curve.metric, unit=curve.unit)} over the number of training cases", lambda: draw_curve(curve)
    )
    return Summary(curve.sentence, {"steps of each": curve.num_steps}, (table,), (picture,), curve.notes)


def _summarize_pool(trial: PoolTrial) -> Summary:
    record = trial.record
    if record is None:
        return Summary(f"pool of unlabelled images: stopped by {trial.stopped_by}, nothing is decided")
    facts: dict[str, object] = {"images": f"{record.num_kept} of {len(record.images)} kept", "reason": record.reason}
    rows = [(image.name, image.left_out) for image in record.images if image.left_out]
    tables = (Table("left out", ("image", "why"), rows),) if rows else ()
    return Summary(f"pool {record.pool}: {'accepted' if record.accepted else 'rejected'}", facts, tables)


SUMMARIES: dict[str, Callable[[Any], Summary]] = {
    "LearningCurve": _summarize_curve,
    "PoolTrial": _summarize_pool,
    "SampleSize": _summarize_size,
    "ValidationProtocol": _summarize_protocol,
    "ValidationResult": _summarize_validation,
}
