"""The viewer's page: one HTML file with script, style and cases in it, or the same page that asks a server for each case."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

import pandas as pd

from unet_pipeline.errors import EvaluationError, PipelineError
from unet_pipeline.evaluation.case_values import read_units
from unet_pipeline.evaluation.metric_table import METRICS, title_with_unit
from unet_pipeline.evaluation.summary import ALL_LABELS
from unet_pipeline.messages import show_cases
from unet_pipeline.progress import progress_bar
from unet_pipeline.viewer.layers import Layers, build_layers, find_probabilities
from unet_pipeline.viewer.results import Result

LIMIT_BYTES = 50_000_000  # a browser opens a file of this size from disk in seconds
NIIVUE_VERSION = "0.69.0"
# of dist/niivue.umd.js in the npm package @niivue/niivue of that version
NIIVUE_SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
_SCRIPTS = ("files.js", "masks.js", "pictures.js", "volumes.js", "decisions.js", "list.js", "app.js")


@dataclass(frozen=True)
class Looks:
    """What one page shows.

    Attributes:
        results: one, or two side by side.
        cases: names, in the order of the list.
    """

    results: tuple[Result, ...]
    cases: tuple[str, ...]

    def build(self, case: str, crop: bool, exact: bool) -> Layers:
        """The layers of one case.

        Raises:
            PipelineError: a file of it cannot be read.
        """
        found = [result.predictions.get(case) for result in self.results]
        return build_layers(self.results[0].sources[case], found, self.results[0].labels, crop, exact)


def require_alike(results: Sequence[Result]) -> None:
    """Whether two results can be looked at side by side.

    Raises:
        EvaluationError: their labels differ, or they have no case in common.
    """
    first, *others = results
    for other in others:
        if other.labels.table != first.labels.table or other.labels.regions != first.labels.regions:
            raise EvaluationError(
                f"{first.name} has the labels {_list(first.labels.table)}, {other.name} {_list(other.labels.table)}; expected the same. "
                "Look at each alone."
            )
        if not set(first.sources) & set(other.sources):
            raise EvaluationError(
                f"{first.name} and {other.name} have no case in common; expected results on the same images. Look at each alone."
            )


def _list(table: dict[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in table.items())


def build_file(looks: Looks, limit_bytes: int = LIMIT_BYTES) -> tuple[str, bool]:
    """The page with all its cases.

    Returns:
        The HTML, and whether the values are the images' own, not rounded to 256 steps.

    Raises:
        EvaluationError: it would be larger than `limit_bytes`.
    """
    for exact in (True, False):
        parts, num_bytes = _encode_cases(looks, exact, limit_bytes)
        if parts is not None:
            return build_page(looks, parts, exact=exact), exact
    fitting = max(1, int(len(looks.cases) * 0.9 * limit_bytes / num_bytes))
    raise EvaluationError(
        f"The page would have about {num_bytes / 1e6:.0f} MB for {show_cases(len(looks.cases))}; expected at most "
        f"{limit_bytes / 1e6:.0f} MB, which a browser opens from disk. Choose fewer, such as --cases worst:{fitting}, or look at all of them "
        "with --serve."
    )


def _encode_cases(looks: Looks, exact: bool, limit_bytes: int) -> tuple[list[str] | None, float]:
    """Each case as JSON; None as soon as they are too large, with the size that all of them would have."""
    parts, num_bytes = [], 0
    with progress_bar("view", len(looks.cases)) as bar:
        for number, case in enumerate(looks.cases, 1):
            parts.append(encode_case(looks, case, True, exact))
            num_bytes += len(parts[-1])
            if num_bytes > limit_bytes:
                return None, num_bytes / number * len(looks.cases)
            bar.advance(note=case)
    return parts, num_bytes


def encode_case(looks: Looks, case: str, crop: bool, exact: bool) -> str:
    """The layers of a case as JSON; of one that cannot be read, why."""
    try:
        layers = looks.build(case, crop, exact)
    except PipelineError as error:
        return json.dumps({"error": str(error)})
    return json.dumps(
        {
            "images": [_to_text(image) for image in layers.images],
            "reference": _to_text(layers.reference),
            "predictions": [_to_text(prediction) for prediction in layers.predictions],
            "probabilities": _to_text(layers.probabilities),
            "instances": [_to_text(one) for one in layers.instances],
            "facts": layers.facts,
        }
    )


def _to_text(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def build_page(looks: Looks, parts: Sequence[str] = (), exact: bool = True, token: str | None = None) -> str:
    """The HTML.

    Args:
        looks: what is shown.
        parts: the cases as JSON, in their order; none for a page that asks the server for them.
        exact: whether the values are the images' own.
        token: of the server.
    """
    assets = resources.files("unet_pipeline.viewer") / "assets"
    overview = describe(looks) | {"exact": exact, "token": token}
    blocks = [_block("overview", json.dumps(overview))]
    blocks += [_block(f"case-{number}", part) for number, part in enumerate(parts)]
    if overview["kind"] == "volume":
        blocks.append(f'<script type="text/plain" id="niivue-code">{_pack_niivue()}</script>')
    scripts = "\n".join(_read(assets / name) for name in _SCRIPTS)
    html = _read(assets / "viewer.html")
    filled = {
        "title": _escape(str(overview["title"])),
        "style": _read(assets / "viewer.css"),
        "data": "\n".join(blocks),
        "script": scripts,
    }
    for name, text in filled.items():
        html = html.replace(f"<!--{name}-->", text, 1)
    return html


def _read(path: Traversable) -> str:
    return path.read_text(encoding="utf-8")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _block(name: str, content: str) -> str:
    """Data in the page; `<` is written so that no text of a user can end the block."""
    return f'<script type="application/json" id="{name}">{content.replace("<", chr(92) + "u003c")}</script>'


@cache
def _pack_niivue() -> str:
    """NiiVue as base64 of its gzip file, once its hash is the recorded one.

    Raises:
        EvaluationError: the installed file is damaged.
    """
    path = resources.files("unet_pipeline.viewer") / "assets" / "niivue.umd.js.gz"
    packed = path.read_bytes()
    try:
        intact = hashlib.sha256(gzip.decompress(packed)).hexdigest() == NIIVUE_SHA256
    except (OSError, EOFError):
        intact = False
    if not intact:
        raise EvaluationError(
            f"The viewer's library {path.name} is not NiiVue {NIIVUE_VERSION} as it was published. Install unet-pipeline again."
        )
    return base64.b64encode(packed).decode()


def describe(looks: Looks) -> dict[str, object]:
    """Everything but the images: labels, and a line per case with its numbers, flags and groups."""
    first = looks.results[0]
    names = [*list(first.labels.table)[1:], *first.labels.regions]
    values = {name: [value] for name, value in first.labels.table.items()}
    values |= {name: list(region) for name, region in first.labels.regions.items()}
    tables = [_tabulate(result) for result in looks.results]
    kind = _find_kind(looks)
    units = () if first.rows is None else read_units(first.rows)
    return {
        "title": " and ".join(dict.fromkeys(result.name for result in looks.results)),
        "kind": kind,
        "labels": [
            {
                "name": name,
                "values": values[name],
                "scored": name in first.labels.scored,
                "region": name in first.labels.regions,
            }
            for name in names
        ],
        "background": next(iter(first.labels.table.values())),
        "ignore": first.labels.ignore_value,
        "channels": list(first.labels.channels),
        "all_labels": ALL_LABELS,
        "results": [result.name for result in looks.results],
        "metrics": {name: title_with_unit(name, METRICS[name].unit(*units), kind == "picture") for name in METRICS}
        | {f"num_instances_{side}": f"instances, {side}" for side in ("reference", "prediction")},
        "probabilities": any(find_probabilities(first.predictions.get(name)) for name in looks.cases),
        "unit": units[0] if units else "",
        "evaluated": first.rows is not None,
        "cases": [
            {
                "name": name,
                "numbers": [table.get(name, {}) for table in tables],
                "flags": list(
                    dict.fromkeys(flag for result in looks.results for flag in result.failures.get(name, ()))
                ),
                "groups": _list_groups(first, name),
            }
            for name in looks.cases
        ],
    }


def _find_kind(looks: Looks) -> str:
    """Whether the cases are pictures or volumes.

    Raises:
        PipelineError: the first case cannot be read.
    """
    first = looks.results[0]
    grid = first.sources[looks.cases[0]].image.read_grid(first.labels.spatial_dims)
    return "picture" if len(grid.spatial_shape) == 2 else "volume"


def _tabulate(result: Result) -> dict[str, dict[str, dict[str, float | None]]]:
    """Per case and label all numbers of metrics.csv; None where one is not defined."""
    if result.rows is None:
        return {}
    numbers = [
        column
        for column in result.rows.columns
        if column not in ("fold", "case", "missed", "false_alarm") and pd.api.types.is_float_dtype(result.rows[column])
    ]
    table: dict[str, dict[str, dict[str, float | None]]] = {}
    wanted = set(result.labels.scored) | set(list(result.labels.table)[1:])
    for row in result.rows.to_dict("records"):
        if row["label"] in wanted:
            values = {str(name): None if math.isnan(row[name]) else row[name] for name in numbers}
            table.setdefault(str(row["case"]), {})[str(row["label"])] = values
    return table


def _list_groups(result: Result, case: str) -> list[str]:
    """What the list can be filtered by: the fold, and the columns of the list of cases."""
    if result.rows is None:
        return []
    rows = result.rows[result.rows["case"] == case]
    if rows.empty:
        return []
    row, groups = rows.iloc[0], []
    if "fold" in rows and not pd.isna(row["fold"]):
        groups.append(f"fold {int(row['fold'])}")
    groups += [
        f"{str(name)[3:]} = {row[name]}" for name in rows.columns if str(name).startswith("by_") and str(row[name])
    ]
    return groups
