"""What the record says, in sentences: the model card, the reporting checklists and the report are filled from these.

The sentences are macros of templates/answers.jinja. One that gives nothing stands for a silent record and is never replaced by a guess:
the document then asks its authors.
"""

from __future__ import annotations

import statistics
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from unet_pipeline.bundle.metadata import INTENDED_USE
from unet_pipeline.bundle.run_record import CodeVersion, TrainingRecord
from unet_pipeline.evaluation.summary import ALL_LABELS
from unet_pipeline.evidence.records.shortfall import describe_shortfall
from unet_pipeline.evidence.report import history as records
from unet_pipeline.evidence.report.drafts import TO_FILL
from unet_pipeline.evidence.report.environment import create_environment
from unet_pipeline.evidence.report.history import History
from unet_pipeline.messages import name_elements
from unet_pipeline.networks.table import NETWORKS

if TYPE_CHECKING:
    from jinja2 import Environment

_SET_BY_TRAIN = ("bundle_root", "fold", "output_dir", "weights_path", "resume")


def tell(name: str, history: History) -> str | None:
    """The answer of that name as Markdown on one line; None where the record says nothing.

    Raises:
        AttributeError: there is no such answer.
    """
    values = _collect(history)
    macro = getattr(
        build_environment("unet_pipeline.evidence.report").get_template("answers.jinja").make_module(values), name
    )
    return " ".join(macro().split()) or None


def render_document(template: str, history: History, **values: Any) -> str:
    """A document of the bundle; its template asks for answers with `tell(name)`, which gives `to_fill` where the record is silent."""
    ask = partial(_ask, history)
    rendered = build_environment("unet_pipeline.evidence.report").get_template(template)
    return rendered.render(**_collect(history), tell=ask, to_fill=TO_FILL, **values)


def _ask(history: History, name: str, otherwise: str = TO_FILL) -> str:
    return tell(name, history) or otherwise


def list_overrides(run: TrainingRecord) -> list[str]:
    """What a run set otherwise than the plan, as KEY=VALUE."""
    return [f"{key}={value}" for key, value in run.settings.items() if key not in _SET_BY_TRAIN]


@cache
def build_environment(package: str) -> Environment:
    """Jinja's environment for the `templates/` of a package, with the filters of the records."""
    environment = create_environment(package)
    environment.filters |= {
        "describe_claim": records.describe_claim,
        "format_interval": records.format_interval,
        "format_support": records.format_support,
        "format_value": records.format_value,
        "medians": lambda rows: map(statistics.median, zip(*rows, strict=True)),
        "number": "{:g}".format,
        "overrides": list_overrides,
        "shortfall": describe_shortfall,
        "title_metric": records.title_metric,
    }
    return environment


def _collect(history: History) -> dict[str, object]:
    runs, plan = history.runs, history.plan
    return {
        **vars(history),
        "history": history,
        "labels": list(plan.label_table)[1:],
        "is_flat": plan.spatial_dims == 2,
        "voxel": name_elements("voxel", plan.spatial_dims == 2),
        "seeds": sorted({str(run.settings.get("seed", plan.seed)) for run in runs}),
        "versions": next((run.versions for run in reversed(runs) if run.versions), None),
        "latest_code": next((run.code for run in reversed(runs) if run.code.commit), CodeVersion()),
        "all_labels": ALL_LABELS,
        "intended_use_of_all": INTENDED_USE,
        "network_reference": NETWORKS[plan.network_name].paper,
    }
