"""One HTML file that tells what a bundle was trained on, how, with which result, and how to get it again.

It opens without a network and without a script: style, charts and pictures are in it. Every number comes from the bundle's evidence, and
the same evidence gives the same file, so that a report does not break a seal.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from pipeline.bundle import answers
from pipeline.bundle.checklists import write_checklists
from pipeline.bundle.drafts import TO_FILL
from pipeline.bundle.history import History, read_history
from pipeline.bundle.model_card import write_model_card
from pipeline.bundle_folder import BundleFolder
from pipeline.evaluation.metric_table import METRICS
from pipeline.evaluation.summary import ALL_LABELS
from pipeline.evidence import report_content as content
from pipeline.evidence.report_figures import draw_calibration, draw_flow
from pipeline.files import write_text

REPORT = "report.html"


@dataclass(frozen=True)
class Report:
    """What `report` wrote.

    Attributes:
        path: of the HTML file.
        num_bytes: its size.
        missing: what the report could not show, each a sentence that is in it too.
        documents: model card and checklists, none of a sealed bundle; one that its authors edited is kept, and the path is that of the
            new draft beside it.
    """

    path: Path
    num_bytes: int
    missing: tuple[str, ...]
    documents: tuple[Path, ...]


def write_report(folder: BundleFolder, out: Path | None = None) -> Report:
    """Write the report, the model card and the checklists.

    Args:
        folder: the bundle; trained and evaluated, or not.
        out: the HTML file; evidence/report.html of the bundle if None.

    Raises:
        PlanError: the plan cannot be read.
    """
    history = read_history(folder)
    path = out or folder.evidence / REPORT
    html, missing = build_report(history)
    write_text(path, html)
    # the documents of a sealed bundle are those that `package` wrote
    documents = () if folder.seal.is_file() else (write_model_card(history), *write_checklists(history))
    return Report(path, path.stat().st_size, missing, documents)


def build_report(history: History) -> tuple[str, tuple[str, ...]]:
    """The HTML, and what it could not show."""
    from jinja2 import Environment, StrictUndefined

    values = collect_values(history)
    package = resources.files("pipeline.evidence")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = mark_code
    template = environment.from_string(package.joinpath("report.html").read_text(encoding="utf-8"))
    style = Markup(package.joinpath("report.css").read_text(encoding="utf-8"))
    missing = (*values["notes"], *(note for part in values["evaluations"] for note in part.notes))
    return template.render(style=style, **values), missing


def mark_code(text: str) -> Markup:
    """Escaped text with what stands between backticks as code."""
    parts = str(escape(text)).split("`")
    if len(parts) % 2 == 0:  # a lone backtick is one
        return Markup(escape(text))
    return Markup("".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts)))


def collect_values(history: History) -> dict[str, Any]:
    """Everything that the template asks for."""
    curves, curve_notes = content.draw_learning(history)
    calibration = (history.tuning or {}).get("calibration")
    notes = [*history.notes, *curve_notes]
    figure = draw_calibration(calibration) if calibration else None
    if figure is None:
        notes.append(
            "No calibration curve: `unet-pipeline tune BUNDLE` has not been run on this bundle, or by a version that kept no bins."
        )
    return {
        "name": history.folder.name,
        "all_labels": ALL_LABELS,
        "headline_metrics": [name for name, metric in METRICS.items() if metric.shown],
        "plan": history.plan,
        "technology": answers.tell_technology(history),
        "intended_use": answers.tell_intended_use(history),
        "data": answers.tell_data(history) or TO_FILL.strip("*"),
        "characteristics": answers.tell_characteristics(history),
        "split": answers.tell_split(history),
        "disjoint": answers.tell_disjoint_level(history),
        "selection": answers.tell_selection(history),
        "model": answers.tell_model(history),
        "training": answers.tell_training(history),
        "limits": answers.tell_limits(history),
        "software": answers.tell_software(history),
        "flow": draw_flow(history),
        "plan_table": content.describe_plan(history),
        "runs": content.describe_runs(history),
        "curves": curves,
        "evaluations": [content.describe_evaluation(history, record) for record in history.evaluations],
        "labels": list(history.plan.label_table)[1:],
        "calibration": calibration,
        "calibration_figure": figure,
        "calibration_text": answers.tell_calibration(history),
        "tuning": history.tuning,
        "commands": content.list_commands(history),
        "hashes": history.hashes,
        "notes": notes,
    }
