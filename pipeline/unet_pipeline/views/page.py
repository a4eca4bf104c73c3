"""Summary -> line of text, fragment of a notebook, HTML file."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from unet_pipeline.boundary import explain
from unet_pipeline.files import write_text
from unet_pipeline.results import Result
from unet_pipeline.views.summary import Picture, Summary, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# class -> the module of this folder that has its function; by name, since to import all classes would load PyTorch
_MODULES = {
    "CheckReport": "data",
    "FixedDataset": "data",
    "MedicalImage": "data",
    "PlannedFolder": "planned",
    "ImportedFolder": "planned",
    "Plan": "planned",
    "Description": "planned",
    "TrainingForecast": "runs",
    "TrainingRun": "runs",
    "Forecast": "runs",
    "Predictions": "runs",
    "Demo": "runs",
    "Jobs": "runs",
    "Evaluation": "numbers",
    "ComparisonRecord": "numbers",
    "Tuning": "numbers",
    "LearningCurve": "studies",
    "PoolTrial": "studies",
    "SampleSize": "studies",
    "ValidationProtocol": "studies",
    "ValidationResult": "studies",
    "Report": "handover",
    "Package": "handover",
    "Audit": "handover",
    "Reproduction": "handover",
}
_DPI = 96
# the notebook's colours, light or dark, go on; only pictures, which are drawn dark on white, bring a ground of their own
_STYLE = """
.unet-pipeline{font-family:system-ui,sans-serif;font-size:14px;line-height:1.45;max-width:60rem;overflow-wrap:anywhere}
.unet-pipeline h4{margin:.2rem 0 .5rem;font-size:1.05em}
.unet-pipeline dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:.4rem 0}
.unet-pipeline dt{opacity:.75}.unet-pipeline dd{margin:0}
.unet-pipeline div.wide{overflow-x:auto}
.unet-pipeline table{border-collapse:collapse;margin:.4rem 0;background:none;overflow-wrap:normal}
.unet-pipeline caption{text-align:left;opacity:.75}
.unet-pipeline th,.unet-pipeline td{padding:.15rem .6rem;text-align:right;border-bottom:1px solid rgba(128,128,128,.35)}
.unet-pipeline td:not(.text){white-space:nowrap}
.unet-pipeline .text{text-align:left}
.unet-pipeline img,.unet-pipeline svg{max-width:100%;height:auto;margin:.4rem 0}
.unet-pipeline img{background:#fff;border-radius:4px}
"""
_PAGE_STYLE = """
:root{color-scheme:light dark}body{margin:1.5rem;background:#fff;color:#1a1a1a}
@media (prefers-color-scheme:dark){body{background:#16181c;color:#e6e6e6}}
"""


def summarize(result: Result) -> Summary:
    """What a result shows; of a class that is derived from one in the table, what that one shows."""
    for kind in type(result).__mro__:
        if kind.__name__ in _MODULES:
            module = import_module(f"unet_pipeline.views.{_MODULES[kind.__name__]}")
            function: Callable[[Any], Summary] = module.SUMMARIES[kind.__name__]
            return function(result)
    return Summary(object.__repr__(result))


def describe_in_a_line(result: Result) -> str:
    """Such as "CheckReport(demo_heads: 8 cases, 3D, no problem)"."""
    return f"{type(result).__name__}({summarize(result).line})"


def draw_figures(result: Result) -> Iterator[Figure]:
    """The pictures of a result, as figures."""
    return (picture.draw() for picture in summarize(result).pictures)


def build_fragment(result: Result) -> str:
    """A page without its frame, for a notebook; nothing in it needs a network."""
    summary = summarize(result)
    parts = [
        Markup("<h4>{}</h4>").format(_title(result, summary)),
        *_list_facts(summary),
        *(_write_table(table) for table in summary.tables),
        *(_show_picture(picture) for picture in summary.pictures),
        *(Markup("<p>{}</p>").format(note) for note in summary.notes),
    ]
    return f'<style>{_STYLE}</style><div class="unet-pipeline">{"".join(parts)}</div>'


def write_page(result: Result, path: Path) -> Path:
    """Write the page of a result; that of a report is the report itself.

    Raises:
        FileError: it cannot be written.
    """
    if type(result).__name__ == "Report":
        text = Path(vars(result)["path"]).read_text(encoding="utf-8")
    else:
        title = escape(_title(result, summarize(result)))
        text = (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{_PAGE_STYLE}</style></head><body>{build_fragment(result)}</body></html>\n"
        )
    write_text(path, text)
    return path


def _title(result: Result, summary: Summary) -> str:
    """Such as "Check report: demo_heads, 8 cases"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(result).__name__).capitalize()
    return f"{words}: {summary.line}"


def _list_facts(summary: Summary) -> list[Markup]:
    if not summary.facts:
        return []
    rows = [Markup("<dt>{}</dt><dd>{}</dd>").format(name, value) for name, value in summary.facts.items()]
    return [Markup("<dl>{}</dl>").format(Markup("").join(rows))]


def _write_table(table: Table) -> Markup:
    def cells(tag: str, row: Any) -> Markup:
        return Markup("").join(
            Markup('<{0} class="{1}">{2}</{0}>').format(Markup(tag), "text" if place < table.num_texts else "", cell)
            for place, cell in enumerate(row)
        )

    rows = Markup("").join(Markup("<tr>{}</tr>").format(cells("td", row)) for row in table.rows)
    rest = Markup("<p>and {} more</p>").format(f"{table.num_left_out:,}") if table.num_left_out else ""
    return Markup(
        '<div class="wide"><table><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>{}'
    ).format(table.title, cells("th", table.headings), rows, rest)


def _show_picture(picture: Picture) -> Markup:
    """The picture, or why it cannot be drawn: a notebook that shows a result must not end in a traceback."""
    if picture.svg:
        return Markup(picture.svg)  # made here, with every text of others escaped
    try:
        content = _encode(picture.draw())
    except Exception as error:
        if (explained := explain(error)) is None:
            raise
        return Markup("<p>{}: {}</p>").format(picture.alt, explained)
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(picture.alt, content)


def _encode(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
