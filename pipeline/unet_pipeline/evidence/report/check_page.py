"""check.html: what `check` found, to be looked at: messages that lead to pictures, filters, histograms, every case enlargeable.

One file that opens from disk: pictures, style and script are in it, and its policy lets a browser load nothing else. Its size is bounded,
whatever the number of cases; what is left out is said in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_pipeline.dataset.check import CheckReport
from unet_pipeline.dataset.contact_sheet import COLOURS, number_values
from unet_pipeline.dataset.tiles import Tile, show_shape
from unet_pipeline.evidence.report.check_figures import draw_histograms
from unet_pipeline.evidence.report.check_outlines import draw_veil, trace_labels
from unet_pipeline.evidence.report.environment import create_environment, read_part
from unet_pipeline.evidence.report.pictures import embed
from unet_pipeline.files import write_text
from unet_pipeline.messages import SEVERITIES, Problem

CHECK_PAGE = "check.html"
MAX_PICTURE_BYTES = 30_000_000  # of all pictures and outlines together: what a browser opens in a few seconds
MAX_CASES = 3_000  # shown; the worst come first
_MAX_ALIKE = 200  # messages of one kind; problems.json has all
_MAX_LABELS = 8  # whose size stands below a picture
_NO_MESSAGE = "none"


@dataclass(frozen=True)
class CaseView:
    """A tile as the page shows it.

    Attributes:
        severity: of its worst message; "none" without any.
        labels: names of the labels that it has.
        facts: size, spacing, split and labels, in words.
        picture: address of the picture; empty where there is none, or where it was left out for its size.
        veil: address of a mask that is no label map.
        outlines: number of the colour and path of each label.
        is_left_out: it has a picture for which there was no room.
    """

    tile: Tile
    problems: tuple[Problem, ...]
    severity: str
    labels: tuple[str, ...]
    facts: str
    picture: str = ""
    veil: str = ""
    outlines: tuple[tuple[int, str], ...] = ()
    is_left_out: bool = False

    @property
    def description(self) -> str:
        """What the picture shows, for those who cannot see it."""
        if not self.tile.picture and not self.tile.mask:
            return f"{self.tile.title}: {', '.join(self.tile.marks)}"
        shown = f"with outlines of {', '.join(self.labels)}" if self.labels else "without outlines"
        return f"{self.tile.title}: {'slice of the image' if len(self.tile.shape) == 3 else 'the image'} {shown}"


def write_check_page(report: CheckReport, path: Path) -> Path:
    """Write the page of a report that has tiles; returns its path."""
    write_text(path, build_check_page(report))
    return path


def build_check_page(report: CheckReport, max_picture_bytes: int = MAX_PICTURE_BYTES) -> str:
    """The HTML.

    Args:
        report: of `check_dataset` with tiles.
        max_picture_bytes: of all pictures together; the worst cases get theirs first.
    """
    labels = {name: value for name, value in (report.dataset.labels or {}).items() if value}
    numbers = number_values(report.tiles, labels)
    cases = _build_cases(report, numbers, max_picture_bytes)
    figures, sentences = draw_histograms([case.tile for case in cases], labels)
    names = {value: name for name, value in labels.items()}
    values: dict[str, object] = {
        "report": report,
        "dataset": report.dataset,
        "cases": cases,
        "has_volumes": any(len(tile.shape) == 3 for tile in report.tiles),
        "num_tiles": len(report.tiles),
        "num_left_out": sum(case.is_left_out for case in cases),
        "max_megabytes": max_picture_bytes // 1_000_000,
        "facts": _describe_dataset(report),
        "counts": {severity: _count(report.problems, severity) for severity in SEVERITIES[1:]},
        "groups": _group(report.problems),
        "links": _link(report.problems, cases),
        "max_alike": _MAX_ALIKE,
        "kinds": sorted({problem.code for case in cases for problem in case.problems}),
        "splits": sorted({case.tile.split for case in cases if case.tile.split}),
        "legend": [(names.get(value, f"value {value}"), number % len(COLOURS)) for value, number in numbers.items()],
        "label_names": [names.get(value, f"value {value}") for value in numbers],
        "label_options": report.suggest_label_options(),
        "figures": figures,
        "sentences": sentences,
        "style": read_part("report.css") + read_part("check.css"),
        "script": read_part("check.js"),
    }
    return create_environment().get_template("check.html").render(values)


def _build_cases(report: CheckReport, numbers: Mapping[int, int], bytes_left: int) -> list[CaseView]:
    """The cases of the page, with pictures as long as there is room for them."""
    names = {value: name for name, value in (report.dataset.labels or {}).items()}
    by_name = _index(report.problems)
    cases = []
    for tile in report.tiles[:MAX_CASES]:
        named = [problem for name in (tile.title, *tile.files) for problem in by_name.get(name, ())]
        problems = tuple(problem for problem in dict.fromkeys(named) if tile.is_about(problem))
        severity = min((problem.severity for problem in problems), key=SEVERITIES.index, default=_NO_MESSAGE)
        present = sorted({value for value, count in tile.voxels_by_value.items() if value and count} | {*tile.values})
        shown = tuple(names.get(value, f"value {value}") for value in present)
        case = CaseView(tile, problems, severity, shown, _describe_case(tile, names))
        picture = embed(tile.picture, "jpeg") if tile.picture else ""
        veil, outlines = draw_veil(tile), tuple(trace_labels(tile, numbers))
        num_bytes = len(picture) + len(veil) + sum(len(path) for _, path in outlines)
        if num_bytes > bytes_left:
            cases.append(_replace(case, is_left_out=True))
            continue
        bytes_left -= num_bytes
        cases.append(_replace(case, picture=picture, veil=veil, outlines=outlines))
    return cases


def _replace(case: CaseView, **parts: Any) -> CaseView:
    return CaseView(**{**vars(case), **parts})


def _index(problems: Sequence[Problem]) -> dict[str, list[Problem]]:
    """Problems by the file that they name and by the folders above it, so that each case finds its own at once."""
    by_name: dict[str, list[Problem]] = {}
    for problem in problems:
        place = Path(problem.file.partition("!")[0])
        for name in (place, *place.parents):
            by_name.setdefault(name.as_posix(), []).append(problem)
    return by_name


def _link(problems: Sequence[Problem], cases: Sequence[CaseView]) -> dict[Problem, int]:
    """Number of the case that each problem is about; those about the dataset as a whole have none."""
    return {problem: number for number, case in reversed([*enumerate(cases)]) for problem in case.problems}


def _group(problems: Sequence[Problem]) -> list[tuple[str, list[tuple[str, list[Problem]]]]]:
    """Problems by severity, worst first, then by code."""
    groups = []
    for severity in SEVERITIES:
        by_code: dict[str, list[Problem]] = {}
        for problem in problems:
            if problem.severity == severity:
                by_code.setdefault(problem.code, []).append(problem)
        if by_code:
            groups.append((severity, [*by_code.items()]))
    return groups


def _count(problems: Sequence[Problem], severity: str) -> int:
    return sum(problem.severity == severity for problem in problems)


def _describe_dataset(report: CheckReport) -> str:
    """Layout, channels and size in one line."""
    fingerprint = report.fingerprint
    if fingerprint is None:
        return report.dataset.layout
    unit = "pixels" if fingerprint.spatial_dims == 2 else "voxels"
    channels = ", ".join(fingerprint.channels)
    return f"{report.dataset.layout}; {fingerprint.spatial_dims}D, median {show_shape(fingerprint.median_shape())} {unit}; {channels}"


def _describe_case(tile: Tile, names: Mapping[int, str]) -> str:
    if not tile.shape:
        return tile.split
    is_volume = len(tile.shape) == 3
    unit = "voxels" if is_volume else "pixels"
    parts = [f"{show_shape(tile.shape)} {unit}"]
    if is_volume:
        parts.append("x".join(f"{size:.3g}" for size in tile.spacing_mm) + " mm")
    parts += [tile.split] * bool(tile.split)
    counts = {names.get(value, f"value {value}"): count for value, count in tile.voxels_by_value.items() if value}
    parts += [f"{name}: {count:,} {unit}" for name, count in [*counts.items()][:_MAX_LABELS]]
    return "; ".join([*parts, *[f"{len(counts) - _MAX_LABELS} more labels"] * (len(counts) > _MAX_LABELS)])
