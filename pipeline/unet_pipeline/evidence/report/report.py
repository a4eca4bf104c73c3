"""One HTML file that tells what a bundle was trained on, how, with which result, and how to get it again.

It opens without a network and without a script: style, charts and pictures are in it. Every number comes from the bundle's evidence, and
the same evidence gives the same file, so that a report does not break a seal.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.evaluation.metric_table import METRICS, title_metric
from unet_pipeline.evaluation.summary import ALL_LABELS
from unet_pipeline.evidence.records.case_files import name_page
from unet_pipeline.evidence.report import report_content as content
from unet_pipeline.evidence.report.answers import build_environment, tell
from unet_pipeline.evidence.report.charts import format_number
from unet_pipeline.evidence.report.checklists import write_checklists
from unet_pipeline.evidence.report.environment import read_part
from unet_pipeline.evidence.report.history import History, format_value, read_history
from unet_pipeline.evidence.report.model_card import CASE_SHEET, write_model_card
from unet_pipeline.evidence.report.pictures import ERRORS, PREDICTION_COLOURS, REFERENCE_COLOURS
from unet_pipeline.evidence.report.report_figures import draw_calibration, draw_flow
from unet_pipeline.evidence.report.report_overlays import draw_case_sheet
from unet_pipeline.files import find_relative, write_text
from unet_pipeline.messages import name_elements
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.results import Result

REPORT = "report.html"


@dataclass(frozen=True, repr=False)
class Report(Result):
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


def write_report(
    folder: BundleFolder, out: Path | None = None, dataset: Path | None = None, card_pictures: bool = False
) -> Report:
    """Write the report, the model card and the checklists.

    Args:
        folder: the bundle; trained and evaluated, or not.
        out: the HTML file; evidence/report.html of the bundle if None.
        dataset: folder of the images, if it is not where the records say.
        card_pictures: write docs/cases.svg, which the model card then shows; not in a sealed bundle.

    Raises:
        PlanError: the plan cannot be read.
    """
    history = read_history(folder)
    path = out or folder.evidence / REPORT
    parts = [content.describe_evaluation(history, record, dataset) for record in history.evaluations]
    html, missing = build_report(history, parts, path)
    write_text(path, html)
    if card_pictures and not folder.seal.is_file() and (pictures := [one for part in parts for one in part.pictures]):
        write_text(folder.docs / CASE_SHEET, draw_case_sheet(pictures, history.credit))
    # the documents of a sealed bundle are those that `package` wrote
    documents = () if folder.seal.is_file() else (write_model_card(history), *write_checklists(history))
    return Report(path, path.stat().st_size, missing, documents)


def build_report(history: History, parts: Sequence[content.EvaluationPart], path: Path) -> tuple[str, tuple[str, ...]]:
    """The HTML that will lie at `path`, and what it could not show."""
    values, notes = collect_values(history)
    environment = build_environment("unet_pipeline.evidence.report")
    environment.filters |= {"shell": shlex.quote, "show": show_number, "grouped": "{:,}".format}
    environment.filters |= {"show_value": show_value, "significant": format_number}
    environment.filters["name_elements"] = name_elements
    link = partial(link_case, history.folder, path)
    html = environment.get_template("report.html").render(
        style=read_part("report.css"), evaluations=parts, notes=notes, link=link, **values
    )
    return html, (*notes, *(note for part in parts for note in part.notes))


def link_case(folder: BundleFolder, path: Path, evaluation: Path, case: str) -> str | None:
    """Address of a case in the viewer's page, from the report at `path`; None where no relative path leads there."""
    page = find_relative(name_page(folder, evaluation), path.parent)
    return None if page is None else f"{quote(page)}#case={quote(case, safe='')}"


def show_value(metric: str, value: float | None) -> str:
    """As `format_value`, with separators between thousands."""
    text = format_value(metric, value)
    whole, point, rest = text.partition(".")
    return f"{int(whole):,}{point}{rest}" if whole.lstrip("-").isdecimal() and abs(int(whole)) >= 1000 else text


def show_number(value: object) -> str:
    """A field of the plan as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={part}" for key, part in value.items()) or "none"
    if isinstance(value, list):
        if value and isinstance(value[0], list):
            return " | ".join("x".join(map(str, part)) for part in value)
        return ", ".join(map(str, value)) or "none"
    if value is None:
        return "none"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def collect_values(history: History) -> tuple[dict[str, object], list[str]]:
    """What the template asks for beside the evaluations, and what is missing."""
    curves, curve_notes = content.draw_learning(history)
    calibration = history.tuning.calibration if history.tuning else None
    notes = [*history.notes, *curve_notes]
    figure = draw_calibration(calibration, history.plan.spatial_dims == 2) if calibration else None
    if figure is None:
        notes.append(
            "No calibration curve: `unet-pipeline tune BUNDLE` has not been run on this bundle, or by a version that kept no bins."
        )
    plan, row = history.plan, NETWORKS[history.plan.network_name]
    labels = list(plan.label_table)[1:]
    return {
        "history": history,
        "plan": plan,
        "tell": partial(tell, history=history),
        "all_labels": ALL_LABELS,
        "is_flat": plan.spatial_dims == 2,
        "title": partial(title_metric, is_flat=plan.spatial_dims == 2),
        "errors": ERRORS,
        "line_colours": list(zip(labels, cycle(zip(REFERENCE_COLOURS, PREDICTION_COLOURS, strict=True)), strict=False)),
        "headline_metrics": [name for name, metric in METRICS.items() if metric.shown],
        "flow": draw_flow(history),
        "curves": curves,
        "labels": labels,
        "calibration_figure": figure,
        "is_padded_form": (plan.padded, plan.normalisation) != (row.padded, row.normalisation),
    }, notes
