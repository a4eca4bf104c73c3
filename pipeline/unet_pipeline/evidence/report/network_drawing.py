"""The planned network for people: a table of its levels, and a drawing as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.sax.saxutils import escape

from unet_pipeline.networks.counting import Convolution, compute_receptive_field, count_parameters, list_convolutions
from unet_pipeline.planning.plan import Plan

# Okabe and Ito's colours, told apart by colour-blind readers
COLOURS = {"encoder": "#0072B2", "decoder": "#D55E00", "nested": "#009E73", "gate": "#CC79A7", "head": "#666666"}
MEANINGS = {
    "encoder": "convolutions on the way down",
    "decoder": "up-convolution and convolutions",
    "nested": "nested node: up-convolution and convolutions",
    "gate": "attention gate of the skip",
    "head": "1x1 convolution to the classes",
}
_ROW, _COLUMN, _LEFT, _TOP = 86, 104, 150, 84


@dataclass(frozen=True)
class Node:
    """Convolutions that follow one another on one level; `column` counts the nodes of the level from the left."""

    part: str
    level: int
    column: int
    convolutions: tuple[Convolution, ...]

    @property
    def size(self) -> tuple[int, ...]:
        """Voxels per axis of its output."""
        return self.convolutions[-1].size

    @property
    def channels(self) -> tuple[int, ...]:
        """Of its input and after each convolution along its way."""
        way = [self.convolutions[0]]
        for convolution in self.convolutions[1:]:
            follows = convolution.in_channels == way[-1].out_channels or way[-1].transposed
            if follows and not (convolution.kernel_size == way[-1].stride and self.part == "encoder"):
                way.append(convolution)
        return (way[0].in_channels, *(convolution.out_channels for convolution in way))

    @property
    def num_parameters(self) -> int:
        """Of all its convolutions."""
        return sum(convolution.num_parameters for convolution in self.convolutions)


@dataclass(frozen=True)
class Description:
    """A network in numbers.

    Attributes:
        network: its name in the plan.
        reference: the reason that the plan gives for it.
        nodes: in the order of the data.
        num_parameters: trainable.
        receptive_field: input voxels per axis that one output voxel can depend on.
        forward_flop: operations for one patch.
        patch_size: voxels per axis.
        output_size: of the logits for one patch.
    """

    network: str
    nodes: tuple[Node, ...]
    num_parameters: int
    receptive_field: tuple[int, ...]
    forward_flop: int
    patch_size: tuple[int, ...]
    output_size: tuple[int, ...]


def describe_network(plan: Plan) -> Description:
    """The network of a plan, on one training patch."""
    convolutions = list_convolutions(plan.shape, plan.patch_size)
    columns: dict[int, int] = {}
    nodes = []
    for (part, level), group in groupby(convolutions, key=lambda convolution: (convolution.part, convolution.level)):
        columns[level] = columns.get(level, -1) + 1
        nodes.append(Node(part, level, columns[level], tuple(group)))
    return Description(
        network=plan.network_name,
        nodes=tuple(nodes),
        num_parameters=count_parameters(plan.shape),
        receptive_field=compute_receptive_field(plan.shape),
        forward_flop=sum(convolution.flop for convolution in convolutions),
        patch_size=plan.patch_size,
        output_size=convolutions[-1].size,
    )


def list_rows(description: Description) -> list[tuple[str, str, str, str, str, str]]:
    """Level, part, channels, kernels, size of the output, parameters: one row per node."""
    return [
        (
            str(node.level),
            node.part,
            " > ".join(map(str, node.channels)),
            ", ".join(dict.fromkeys(_show(convolution.kernel_size) for convolution in node.convolutions)),
            _show(node.size),
            f"{node.num_parameters:,}",
        )
        for node in description.nodes
    ]


def draw_network(description: Description) -> str:
    """The network as SVG: a row per level, the way down on the left and up on the right, sizes and channels at each node."""
    bodies = [node for node in description.nodes if node.part != "head"]
    levels = 1 + max(node.level for node in bodies)
    places = {id(node): _place(node, bodies, levels) for node in bodies}
    width = max(900, _LEFT + (2 * levels + 1) * _COLUMN)
    height = _TOP + levels * _ROW + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path d="M0,1 L7,4 L0,7" fill="none" stroke="#444444"/></marker></defs>',
        f"<title>{escape(description.network)}</title>",
        _text(20, 28, f"{description.network}: {summarize_network(description)[0]}", size=15),
        _text(20, 48, "; ".join(summarize_network(description)[1:])),
    ]
    sizes = {node.level: node.size for node in reversed(bodies)}  # of the encoder
    for level, size in sorted(sizes.items()):
        parts.append(_text(20, _TOP + level * _ROW + 26, f"level {level}: {_show(size)}"))
    parts += _draw_arrows(bodies, places)
    parts += [_draw_node(node, *places[id(node)], sizes[node.level]) for node in bodies]
    heads = [node for node in description.nodes if node.part == "head"]
    parts += _draw_heads(heads, bodies, places)
    parts += _draw_legend({node.part for node in description.nodes}, height - 40)
    return "\n".join([*parts, "</svg>"]) + "\n"


def summarize_network(description: Description) -> tuple[str, ...]:
    """Parameters, operations, receptive field and sizes, each in words."""
    return (
        f"{description.num_parameters:,} parameters",
        f"{description.forward_flop / 1e9:.3g} GFLOP for a patch of {_show(description.patch_size)}",
        f"output of {_show(description.output_size)}",
        f"an output voxel sees up to {_show(description.receptive_field)} voxels",
    )


def _place(node: Node, bodies: Sequence[Node], levels: int) -> tuple[float, float]:
    """Left upper corner of a node: the encoder leans to the right, the decoder back to the left, the others between."""
    row = [other for other in bodies if other.level == node.level]
    left, right = node.level, 2 * levels - 1 - node.level
    share = row.index(node) / max(1, len(row) - 1)
    return _LEFT + (left + (right - left) * share) * _COLUMN, _TOP + node.level * _ROW


def _draw_node(node: Node, x: float, y: float, size_of_level: Sequence[int]) -> str:
    """A box with its channels above it, and below it the size where that is another than its level's."""
    width, height = 20 + 6 * math.log2(max(node.channels)), 44
    label = " > ".join(map(str, node.channels))
    return (
        f'<g><rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height}" rx="3" fill="{COLOURS[node.part]}"/>'
        + _text(x + 2, y - 5, label, size=11)
        + (_text(x + 2, y + height + 13, _show(node.size), 10, "#666666") if node.size != size_of_level else "")
        + f"<title>{node.part}, level {node.level}: {node.num_parameters:,} parameters</title></g>"
    )


def _draw_arrows(bodies: Sequence[Node], places: dict[int, tuple[float, float]]) -> list[str]:
    """The way of the data: to the next level down, along the level, and up from the node below."""
    arrows = []
    for index, node in enumerate(bodies):
        x, y = places[id(node)]
        earlier = [other for other in bodies[:index] if other.level == node.level]
        if node.part == "encoder" and node.level:
            above = next(other for other in bodies if other.level == node.level - 1)
            arrows.append(_arrow(*_middle(places[id(above)], 22, 44), x + 10, y))
        if earlier:
            arrows.append(_arrow(places[id(earlier[-1])][0] + 60, y + 22, x, y + 22, dashed=True))
        if node.part != "encoder":
            below = [other for other in bodies[:index] if other.level == node.level + 1]
            arrows.append(_arrow(*_middle(places[id(below[-1])], 30, 0), x + 14, y + 44))
    return arrows


def _draw_heads(heads: Sequence[Node], bodies: Sequence[Node], places: dict[int, tuple[float, float]]) -> list[str]:
    """A small box with the number of classes beside each node that has a head."""
    drawn = []
    for head in heads:
        last = [node for node in bodies if node.level == head.level][-1]
        x, y = places[id(last)]
        count = len(head.convolutions)
        shown = f"{head.channels[-1]} classes" + (f", {count} heads" if count > 1 else "")
        drawn.append(f'<rect x="{x + 78:.0f}" y="{y + 8:.0f}" width="12" height="28" fill="{COLOURS["head"]}"/>')
        drawn.append(_text(x + 94, y + 26, shown, size=11))
    return drawn


def _draw_legend(parts: set[str], y: float) -> list[str]:
    """Colours and their meanings, three in a row."""
    drawn = []
    for number, part in enumerate(name for name in COLOURS if name in parts):
        x, below = 20 + number % 3 * 290, y + number // 3 * 20
        drawn.append(f'<rect x="{x}" y="{below - 10}" width="12" height="12" fill="{COLOURS[part]}"/>')
        drawn.append(_text(x + 17, below, f"{part}: {MEANINGS[part]}", size=11))
    return drawn


def _middle(place: tuple[float, float], right: float, down: float) -> tuple[float, float]:
    return place[0] + right, place[1] + down


def _arrow(x1: float, y1: float, x2: float, y2: float, dashed: bool = False) -> str:
    style = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="#444444"{style} marker-end="url(#tip)"/>'


def _text(x: float, y: float, text: str, size: int = 12, colour: str = "#111111") -> str:
    """Text with a white rim, so that an arrow below it does not cross it out."""
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}" stroke="white" stroke-width="3" '
        f'paint-order="stroke">{escape(text)}</text>'
    )


def _show(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
