"""Draws docs/drawings/metric_NAME.svg, small masks with what the metrics say of them: `.venv/bin/python docs/build_drawings.py`.

The numbers in the drawings are computed by the package from the masks that are drawn. A test compares the drawings with what is made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from scipy import ndimage

from unet_pipeline.evaluation.mask_pair import MaskPair, Request
from unet_pipeline.evaluation.metric_table import METRICS, title_metric
from unet_pipeline.evaluation.surface import find_border

FOLDER = Path(__file__).parent / "drawings"
CELL = 14  # pixels of a drawing to a pixel of a mask
_LINE = 19
# both, missed and false alarm differ for people with any colour vision; every drawing brings its paper, so that it can be read on any page
STYLE = """<style>
svg { font: 13px sans-serif } text { fill: #1b1f24 } .paper { fill: #fff } .grid { stroke: #d5dae1; fill: none }
.both { fill: #8fc7ee }
.missed { fill: #d55e00 }
.alarm { fill: #f0e442 }
.mark { stroke: #1b1f24; stroke-width: 2; fill: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6e9ee }
.paper { fill: #14171c }
.grid { stroke: #3a424e }
.both { fill: #2f7fb0 }
.missed { fill: #f08a3c }
.mark { stroke: #fff } }
</style>"""


@dataclass(frozen=True)
class Scene:
    """Masks of one label, row by row: `b` in both, `m` missed, `a` false alarm, `.` in neither.

    Attributes:
        rows: of the masks.
        sentence: what is to be seen.
        metrics: ids of what is told below the masks.
        instances: the reference's objects, each a connected part, are measured; or, with rows of digits, those.
        marks: border pixels that lie within the tolerance, or the pair of pixels that is furthest apart.
    """

    rows: str
    sentence: str
    metrics: tuple[str, ...]
    instances: str = ""
    marks: str = ""
    request: Request = field(default_factory=Request)

    def pair(self) -> MaskPair:
        """The masks, with pixels of size 1."""
        cells = np.array([list(row) for row in self.rows.split()])
        reference, prediction = np.isin(cells, ("b", "m")), np.isin(cells, ("b", "a"))
        objects = None
        if self.instances:
            digits = np.array([list(row) for row in self.instances.split()])
            objects = np.where(digits == ".", "0", digits).astype(np.int32)
        return MaskPair(reference, prediction, (1.0, 1.0), 1.0, self.request, objects)


SCENES = {
    "overlap": Scene(
        """..............
        ..mmmmmm......
        ..mbbbbbaa....
        ..mbbbbbaa....
        ..mbbbbbaa....
        ..mbbbbbaa....
        ...aaaaaaa....
        ..............""",
        "Overlap counts pixels, wherever they lie.",
        ("dice", "iou", "sensitivity", "precision"),
    ),
    "surface": Scene(
        """................
        ..bbbbbb........
        ..bbbbbb........
        ..bbbbbbaaaaaa..
        ..bbbbbb........
        ..bbbbbb........
        ................""",
        "A thin spike is little overlap and a long way (line).",
        ("dice", "hd95", "assd"),
        marks="furthest",
    ),
    "tolerance": Scene(
        """..............
        ...mmmmmm.....
        ..abbbbbbbaaa.
        ..abbbbbbbaaa.
        ..abbbbbbbaaa.
        ..abbbbbbbaaa.
        ..............""",
        "NSD: framed border pixels lie within 1 of the other's.",
        ("nsd", "dice"),
        marks="near",
    ),
    "volume": Scene(
        """..............
        ..mmmmbbaaaa..
        ..mmmmbbaaaa..
        ..mmmmbbaaaa..
        ..mmmmbbaaaa..
        ..............""",
        "Sizes can agree where the places do not.",
        ("volume_error", "relative_volume_error", "dice"),
    ),
    "lesions": Scene(
        """................
        .bbbm...mm...aa.
        .bbbb...mm...aa.
        .bbbb...........
        .abbb.....bbbb..
        ..........mbbb..
        ................""",
        "Of three lesions two are found; one finding is none.",
        ("lesion_sensitivity", "lesion_precision", "dice"),
        request=Request(lesions=True),
    ),
    "centreline": Scene(
        """................
        .bbbbbmmbbbbbbb.
        .bbbbbmmbbbbbbb.
        .bbbbbmmbbbbbbb.
        ......bbb.......
        ......bbb.......
        ......bbb.......
        ................""",
        "clDice: how much of each centre line lies in the other mask.",
        ("cldice", "dice"),
        request=Request(thin=True),
    ),
    "instances": Scene(
        """................
        .bbbb...bbbb....
        .bbbb...bbbbaa..
        .bbbb...bbbbbbb.
        .bbbb......bbbb.
        ...........bbbb.
        ................""",
        "Two nuclei that touch are predicted as one.",
        ("ap_50", "mean_ap", "panoptic_quality", "dice"),
        """................
        .1111...2222....
        .1111...2222....
        .1111...2223333.
        .1111......3333.
        ...........3333.
        ................""",
    ),
}


def build_drawing(scene: Scene) -> str:
    """The masks, their legend, and what the metrics say."""
    pair = scene.pair()
    rows, columns = pair.reference.shape
    width, bottom = max(columns * CELL, 380), rows * CELL
    left = (width - columns * CELL) // 2
    lines = [scene.sentence, tell_metrics(scene)]
    texts = [
        f'<text x="8" y="{bottom + _LINE * (number + 2)}">{escape(line)}</text>' for number, line in enumerate(lines)
    ]
    height = bottom + _LINE * (len(lines) + 2) - 6
    parts = [*_draw_cells(pair), *_draw_marks(scene.marks, pair)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">{STYLE}\n'
        f'<rect class="paper" width="{width}" height="{height}"/>\n<g transform="translate({left} 0)">\n'
        + "\n".join(parts)
        + "\n</g>\n"
        + "\n".join([_draw_legend(bottom + _LINE), *texts])
        + "\n</svg>\n"
    )


def tell_metrics(scene: Scene) -> str:
    """What the metrics of a scene are, in words."""
    pair = scene.pair()
    values = {name: METRICS[name].compute(pair) for name in scene.metrics}
    return ", ".join(
        f"{title_metric(name, is_flat=True)} {METRICS[name].format(value)}" for name, value in values.items()
    )


def _draw_cells(pair: MaskPair) -> Iterator[str]:
    """A rectangle for each run of pixels of one kind, and the lines between objects."""
    kinds = np.where(pair.reference & pair.prediction, 1, np.where(pair.reference, 2, np.where(pair.prediction, 3, 0)))
    rows, columns = kinds.shape
    for row in range(rows):
        starts = np.flatnonzero(np.diff(kinds[row], prepend=-1))
        for start, stop in zip(starts, [*starts[1:], columns], strict=True):
            if kinds[row, start]:
                name = ("", "both", "missed", "alarm")[kinds[row, start]]
                x, y, run = start * CELL, row * CELL, (stop - start) * CELL
                yield f'<rect class="{name}" x="{x}" y="{y}" width="{run}" height="{CELL}"/>'
    lines = [f"M0 {row * CELL}H{columns * CELL}" for row in range(rows + 1)]
    lines += [f"M{column * CELL} 0V{rows * CELL}" for column in range(columns + 1)]
    yield f'<path class="grid" d="{"".join(lines)}"/>'
    if pair.instances is not None:
        yield from _draw_frames(pair.instances)


def _draw_frames(objects: np.ndarray) -> Iterator[str]:
    """Where one object ends and another, or none, begins."""
    padded, lines = np.pad(objects, 1), []
    for row, column in np.argwhere(padded[:, :-1] != padded[:, 1:]):
        lines.append(f"M{column * CELL} {(row - 1) * CELL}v{CELL}")
    for row, column in np.argwhere(padded[:-1] != padded[1:]):
        lines.append(f"M{(column - 1) * CELL} {row * CELL}h{CELL}")
    yield f'<path class="mark" d="{"".join(lines)}"/>'


def _draw_marks(marks: str, pair: MaskPair) -> Iterator[str]:
    """Frames around border pixels within the tolerance, or a line along the largest distance."""
    borders = [find_border(mask) for mask in (pair.reference, pair.prediction)]
    for own, other in (borders, borders[::-1]) if marks == "near" else ():
        near = own & (ndimage.distance_transform_edt(~other) <= pair.request.tolerance)
        for row, column in np.argwhere(near):
            yield f'<rect class="mark" x="{column * CELL + 3}" y="{row * CELL + 3}" width="{CELL - 6}" height="{CELL - 6}"/>'
    if marks == "furthest":
        far, nearest = ndimage.distance_transform_edt(~borders[0], return_indices=True)
        start = np.unravel_index(np.argmax(np.where(borders[1], far, -1)), far.shape)
        ends = [
            [CELL * place + CELL // 2 for place in reversed(point)] for point in (start, nearest[(slice(None), *start)])
        ]
        yield f'<path class="mark" d="M{ends[0][0]} {ends[0][1]}L{ends[1][0]} {ends[1][1]}"/>'


def _draw_legend(y: int) -> str:
    places = {"both": ("both", 8), "missed": ("only the reference", 66), "alarm": ("only the prediction", 208)}
    return "".join(
        f'<rect class="{name}" x="{x}" y="{y - 11}" width="12" height="12"/><text x="{x + 17}" y="{y}">{words}</text>'
        for name, (words, x) in places.items()
    )


def main() -> None:
    """Write every drawing."""
    FOLDER.mkdir(exist_ok=True)
    for name, scene in SCENES.items():
        (FOLDER / f"metric_{name}.svg").write_text(build_drawing(scene), encoding="utf-8")


if __name__ == "__main__":
    main()
