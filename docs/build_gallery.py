"""Draws docs/gallery/NAME.svg, the Dice of every validation case of a ready bundle: `.venv/bin/python docs/build_gallery.py`.

A test compares the drawings with what is made here.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from html import escape
from pathlib import Path

BUNDLES = Path(__file__).parents[1] / "bundles"
FOLDER = Path(__file__).parent / "gallery"
_WIDTH, _ROW, _LEFT, _RIGHT, _FOOT = 320, 30, 96, 14, 34  # pixels
_DOT, _MEAN = "#0072b2", "#d55e00"  # a pair that people with any colour vision tell apart


def build_drawing(bundle: Path) -> str:
    """A row of dots for each label, with a bar at their mean."""
    dice = read_dice(bundle / "evidence" / "evaluations" / "validation" / "metrics.csv")
    lowest = math.floor(10 * min(min(values) for values in dice.values())) / 10
    span, height = _WIDTH - _LEFT - _RIGHT, _ROW * len(dice) + _FOOT
    rows = [_draw_row(number, label, dice[label], lowest, span) for number, label in enumerate(dice)]
    base = _ROW * len(dice) + 6
    count = max(len(values) for values in dice.values())
    axis = (
        f'<line x1="{_LEFT}" y1="{base}" x2="{_LEFT + span}" y2="{base}" stroke="#666"/>'
        f'<text x="{_LEFT}" y="{base + 16}" text-anchor="middle">{lowest:g}</text>'
        f'<text x="{_LEFT + span}" y="{base + 16}" text-anchor="middle">1</text>'
        f'<text x="{_LEFT + span / 2:g}" y="{base + 16}" text-anchor="middle">Dice, n = {count}; bar: mean</text>'
    )
    style = 'font-family="sans-serif" font-size="12" fill="#222"'
    frame = f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {style}>\n'
        + "\n".join([frame, *rows, axis])
        + "\n</svg>\n"
    )


def read_dice(path: Path) -> dict[str, list[float]]:
    """Dice of the cases by label, without background."""
    found = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["label"] != "background" and row["dice"]:
                found[row["label"]].append(float(row["dice"]))
    return dict(found)


def _draw_row(number: int, label: str, values: list[float], lowest: float, span: int) -> str:
    middle = _ROW * number + _ROW // 2 + 2

    def place(value: float) -> str:
        return f"{_LEFT + span * (value - lowest) / (1 - lowest):.1f}"

    dots = "".join(f'<circle cx="{place(value)}" cy="{middle}" r="4"/>' for value in values)
    mean = place(sum(values) / len(values))
    bar = f'<line x1="{mean}" y1="{middle - 10}" x2="{mean}" y2="{middle + 10}" stroke="{_MEAN}" stroke-width="2.5"/>'
    name = escape(label.replace("_", " "))
    return f'<text x="6" y="{middle + 4}">{name}</text><g fill="{_DOT}" fill-opacity="0.4">{dots}</g>{bar}'


def list_bundles() -> list[Path]:
    """Ready bundles, by name."""
    return sorted(path.parent.parent for path in BUNDLES.glob("*/configs/plan.yaml"))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for one in list_bundles():
        (FOLDER / f"{one.name}.svg").write_text(build_drawing(one), encoding="utf-8")
