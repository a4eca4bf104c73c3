"""Where the nodes of a network lie in its drawing, and the ways of the data between them.

A row per level. Of a plain U the way down is on the left, the way up on the right, gates and the bottleneck between; the nodes of U-Net++
have a column each. Arrows run between the boxes: none crosses a box, a text or another arrow.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from unet_pipeline.evidence.report.scene import Arrow, Box, Scene, Text

if TYPE_CHECKING:
    from unet_pipeline.evidence.report.network_drawing import Description, Node

# Okabe and Ito's colours, dark enough for white letters (contrast of 4.5 at least)
COLOURS = {"encoder": "#0072B2", "decoder": "#B34700", "nested": "#00785A", "gate": "#A23B72", "head": "#5A5A5A"}
MEANINGS = {
    "encoder": "convolutions on the way down",
    "decoder": "up-convolution and convolutions",
    "nested": "nested node; it and the decoder take all outputs to their left",
    "gate": "attention gate of the skip",
    "head": "1x1 convolution to the classes",
}
_LEFT, _WIDTH, _HEIGHT = 74, 152, 40
_ACROSS, _DOWN = 48, 40  # free space between boxes
_HEAD_WIDTH, _HEAD_TEXT = 14, 130
_LETTER = 6.6  # width of a letter of 12 pixels
_MOST_CHANNELS = 24  # letters in a box


def lay_out(description: Description, summary: Sequence[str]) -> Scene:
    """The drawing of a network; `summary` are its numbers in words."""
    bodies = [node for node in description.nodes if node.part != "head"]
    columns = _choose_columns(bodies)
    levels, num_columns = 1 + max(node.level for node in bodies), 1 + max(columns.values())
    width = _LEFT + num_columns * (_WIDTH + _ACROSS) - _ACROSS + 48 + _HEAD_TEXT
    letters = int((width - 40) / _LETTER)
    words = [(description.network + ": " + summary[0], 15.0)]
    words += [(line, 12.0) for line in textwrap.wrap("; ".join(summary[1:]), letters)]
    texts = [Text(20, 30 + 19 * place, line, size) for place, (line, size) in enumerate(words)]
    top = 30 + 19 * len(words) + 12
    places = {
        id(node): (_LEFT + columns[id(node)] * (_WIDTH + _ACROSS), top + node.level * (_HEIGHT + _DOWN))
        for node in bodies
    }
    texts += [Text(20, top + level * (_HEIGHT + _DOWN) + 24, f"level {level}", 11, True) for level in range(levels)]
    deepest = next(node for node in bodies if node.level == levels - 1)
    x, y = places[id(deepest)]
    texts.append(Text(x + (_WIDTH - 60) / 2, y + _HEIGHT + 16, "bottleneck", 11))
    boxes = [_box(node, *places[id(node)]) for node in bodies]
    for head in (node for node in description.nodes if node.part == "head"):
        x, y = places[id(_last_of_level(bodies, head.level))]
        boxes.append(Box(x + _WIDTH + 28, y + 6, _HEAD_WIDTH, 28, COLOURS["head"], title=_say_part(head)))
        count = f"{head.channels[-1]} classes" + (
            f", {len(head.convolutions)} heads" if len(head.convolutions) > 1 else ""
        )
        texts.append(Text(x + _WIDTH + 48, y + 24, count, 11))
    arrows = [*_connect(bodies, places), *_connect_heads(description.nodes, bodies, places)]
    below = top + levels * (_HEIGHT + _DOWN) + 6
    for part in (part for part in COLOURS if any(node.part == part for node in description.nodes)):
        boxes.append(Box(20, below - 10, 12, 12, COLOURS[part]))
        texts.append(Text(38, below, f"{part}: {MEANINGS[part]}", 11))
        below += 18
    texts.append(
        Text(38, below, "in a box: channels along its convolutions, size of its output; dashed: skip", 11, True)
    )
    return Scene(f"The network {description.network}", width, below + 14, boxes, arrows, texts)


def _choose_columns(bodies: Sequence[Node]) -> dict[int, int]:
    """Column of each node, from the left."""
    if any(node.part == "nested" for node in bodies):
        return {id(node): node.column for node in bodies}
    deepest = max(node.level for node in bodies)
    plain = {"encoder": 0, "gate": 1, "decoder": 2}
    return {id(node): 1 if node.level == deepest else plain[node.part] for node in bodies}


def _last_of_level(bodies: Sequence[Node], level: int) -> Node:
    return [node for node in bodies if node.level == level][-1]


def _say_part(node: Node) -> str:
    return f"{node.part}, level {node.level}: {node.num_parameters:,} parameters"


def _box(node: Node, x: float, y: float) -> Box:
    lines = (say_channels(node.channels), "x".join(map(str, node.size)))
    return Box(x, y, _WIDTH, _HEIGHT, COLOURS[node.part], lines, _say_part(node))


def say_channels(channels: Sequence[int]) -> str:
    """Such as "1 > 64 > 64", and "256 > 320 x 12" for many."""
    plain = " > ".join(map(str, channels))
    if len(plain) <= _MOST_CHANNELS:
        return plain
    runs = [(value, len(list(group))) for value, group in groupby(channels)]
    return " > ".join(f"{value} x {times}" if times > 1 else str(value) for value, times in runs)


def _connect(bodies: Sequence[Node], places: Mapping[int, tuple[float, float]]) -> list[Arrow]:
    """The way of the data: to the next level down, along the level, and up from the node below."""
    arrows = []
    for index, node in enumerate(bodies):
        x, y = places[id(node)]
        earlier = [other for other in bodies[:index] if other.level == node.level]
        if node.part == "encoder" and node.level:
            above = places[id(next(other for other in bodies if other.level == node.level - 1))]
            arrows.append(_lead_down(above, (x, y)))
        if earlier:
            arrows.append(
                Arrow(((places[id(earlier[-1])][0] + _WIDTH, y + _HEIGHT / 2), (x, y + _HEIGHT / 2)), dashed=True)
            )
        if node.part != "encoder":
            below = [other for other in bodies[:index] if other.level == node.level + 1]
            is_alone = sum(other.level == node.level + 1 for other in bodies) == 1
            arrows.append(_lead_up(places[id(below[-1])], (x, y), is_alone))
    return arrows


def _lead_down(start: tuple[float, float], end: tuple[float, float]) -> Arrow:
    """Straight down, or down and then across to a box further right."""
    x, y = start[0] + _WIDTH / 2, start[1] + _HEIGHT
    if end[0] == start[0]:
        return Arrow(((x, y), (x, end[1])))
    return Arrow(((x, y), (x, end[1] + _HEIGHT / 2), (end[0], end[1] + _HEIGHT / 2)))


def _lead_up(start: tuple[float, float], end: tuple[float, float], is_alone: bool) -> Arrow:
    """From a box to the bottom of the one above, or of one further to the left or right.

    From a box that is alone on its level the arrow leaves at the right; of others the skip does, and the arrow turns between the levels.
    """
    x, bottom = start[0] + _WIDTH / 2, end[1] + _HEIGHT
    if start[0] == end[0]:
        return Arrow(((x, start[1]), (x, bottom)))
    if is_alone:
        row, middle = start[1] + _HEIGHT / 2, end[0] + _WIDTH / 2
        return Arrow(((start[0] + _WIDTH, row), (middle, row), (middle, bottom)))
    side = _WIDTH / 4 if end[0] > start[0] else -_WIDTH / 4
    target, turn = end[0] + _WIDTH / 2 - max(side, 0), (start[1] + bottom) / 2
    return Arrow(((x + side, start[1]), (x + side, turn), (target, turn), (target, bottom)))


def _connect_heads(
    nodes: Sequence[Node], bodies: Sequence[Node], places: Mapping[int, tuple[float, float]]
) -> list[Arrow]:
    arrows = []
    for head in (node for node in nodes if node.part == "head"):
        x, y = places[id(_last_of_level(bodies, head.level))]
        arrows.append(Arrow(((x + _WIDTH, y + _HEIGHT / 2), (x + _WIDTH + 28, y + _HEIGHT / 2))))
    return arrows
