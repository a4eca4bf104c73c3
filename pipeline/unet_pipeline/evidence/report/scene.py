"""A drawing of boxes, arrows and texts, once as SVG, as TikZ for LaTeX, and as a figure of matplotlib, which writes PDF.

Coordinates are pixels, x to the right and y downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from unet_pipeline.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 96
_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "×": r"$\times$",
}
_SVG_STYLE = """
.unet-ground{fill:#ffffff}.unet-text{fill:#16181c}.unet-muted{fill:#555555}.unet-inside{fill:#ffffff}
.unet-arrow{stroke:#444444;fill:none;stroke-width:1.3}.unet-tip{fill:#444444}
@media (prefers-color-scheme:dark){.unet-ground{fill:#16181c}.unet-text{fill:#ececec}.unet-muted{fill:#b5b5b5}
.unet-arrow{stroke:#b5b5b5}.unet-tip{fill:#b5b5b5}}
"""


@dataclass(frozen=True)
class Box:
    """A filled box with up to two lines in it; `title` is read out, and shown when pointed at."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    lines: tuple[str, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class Arrow:
    """A line along points, with a tip at its end."""

    points: tuple[tuple[float, float], ...]
    dashed: bool = False


@dataclass(frozen=True)
class Text:
    """A line of text; `y` is its base line."""

    x: float
    y: float
    text: str
    size: float = 12
    muted: bool = False


@dataclass(frozen=True)
class Scene:
    """All parts of a drawing."""

    title: str
    width: float
    height: float
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]
    texts: Sequence[Text]


def write_svg(scene: Scene) -> str:
    """SVG that is as wide as its page at most, light or dark as the reader's other pages are."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {scene.width:g} {scene.height:g}" width="{scene.width:g}" '
        f'height="{scene.height:g}" style="max-width:100%;height:auto" font-family="system-ui, sans-serif" role="img" '
        f"aria-label={quoteattr(scene.title)}>",
        f"<title>{escape(scene.title)}</title><style>{_SVG_STYLE}</style>",
        f'<rect class="unet-ground" width="{scene.width:g}" height="{scene.height:g}"/>',
        '<defs><marker id="unet-tip" markerWidth="7" markerHeight="7" refX="6" refY="3.5" orient="auto">'
        '<path class="unet-tip" d="M0,0.5 L6.5,3.5 L0,6.5z"/></marker></defs>',
    ]
    for arrow in scene.arrows:
        points = " ".join(f"{x:g},{y:g}" for x, y in arrow.points)
        dashes = ' stroke-dasharray="5 4"' if arrow.dashed else ""
        parts.append(f'<polyline class="unet-arrow" points="{points}"{dashes} marker-end="url(#unet-tip)"/>')
    for box in scene.boxes:
        shape = f'x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}"'
        lines = "".join(
            f'<text class="unet-inside" x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="middle">{escape(line)}</text>'
            for x, y, size, line in place_lines(box)
        )
        title = f"<title>{escape(box.title)}</title>" if box.title else ""
        parts.append(f'<g>{title}<rect {shape} rx="4" fill="{box.colour}"/>{lines}</g>')
    for text in scene.texts:
        kind = "muted" if text.muted else "text"
        place = f'x="{text.x:g}" y="{text.y:g}" font-size="{text.size:g}"'
        parts.append(f'<text class="unet-{kind}" {place}>{escape(text.text)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def place_lines(box: Box) -> list[tuple[float, float, float, str]]:
    """Middle, base line and size of the lines in a box; the second is smaller."""
    x, middle = box.x + box.width / 2, box.y + box.height / 2
    if len(box.lines) == 1:
        return [(x, middle + 4, 11, box.lines[0])]
    return [
        (x, middle - 3 + 15 * place, size, line)
        for place, (size, line) in enumerate(zip((11, 10), box.lines, strict=False))
    ]


def write_tikz(scene: Scene) -> str:
    """A LaTeX document of its own, as wide as a column of text needs it; its `tikzpicture` can be copied into another."""
    colours = {
        colour: f"unet{chr(65 + place)}" for place, colour in enumerate(dict.fromkeys(b.colour for b in scene.boxes))
    }
    lines = [
        f"% {' '.join(scene.title.split())}",
        r"\documentclass[tikz,border=4pt]{standalone}",
        r"\usetikzlibrary{arrows.meta}",
        *(rf"\definecolor{{{name}}}{{HTML}}{{{colour.lstrip('#').upper()}}}" for colour, name in colours.items()),
        r"\begin{document}",
        r"\begin{tikzpicture}[x=0.75pt,y=-0.75pt,font=\sffamily\scriptsize,>={Stealth[length=4pt]}]",
    ]
    for arrow in scene.arrows:
        points = " -- ".join(f"({x:g},{y:g})" for x, y in arrow.points)
        lines.append(rf"\draw[->{',dashed' if arrow.dashed else ''},black!70] {points};")
    for box in scene.boxes:
        corner = f"({box.x:g},{box.y:g}) rectangle ({box.x + box.width:g},{box.y + box.height:g})"
        lines.append(rf"\fill[{colours[box.colour]},rounded corners=2pt] {corner};")
        lines += [
            rf"\node[white,anchor=base,font=\sffamily\fontsize{{{0.75 * size:g}}}{{{size:g}}}\selectfont] at ({x:g},{y:g}) "
            f"{{{_escape_latex(line)}}};"
            for x, y, size, line in place_lines(box)
        ]
    for text in scene.texts:
        look = (
            rf"anchor=base west,inner sep=0,font=\sffamily\fontsize{{{0.75 * text.size:g}}}{{{text.size:g}}}\selectfont"
        )
        colour = ",black!65" if text.muted else ""
        lines.append(rf"\node[{look}{colour}] at ({text.x:g},{text.y:g}) {{{_escape_latex(text.text)}}};")
    return "\n".join([*lines, r"\end{tikzpicture}", r"\end{document}"]) + "\n"


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def plot_scene(scene: Scene) -> Figure:
    """The drawing as a figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import BoxStyle, FancyBboxPatch

    points = 72 / PIXELS_PER_INCH
    figure = Figure(figsize=(scene.width / PIXELS_PER_INCH, scene.height / PIXELS_PER_INCH))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, scene.width), ylim=(scene.height, 0))
    axes.set_axis_off()
    for arrow in scene.arrows:
        xs, ys = zip(*arrow.points, strict=True)
        style = "--" if arrow.dashed else "-"
        axes.plot(xs, ys, style, color="#444444", linewidth=1)
        tip = {"arrowstyle": "-|>", "color": "#444444", "lw": 0, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 10}
        axes.annotate("", arrow.points[-1], arrow.points[-2], arrowprops=tip)
    for box in scene.boxes:
        corners = BoxStyle("round", pad=0, rounding_size=4)
        shape = FancyBboxPatch(
            (box.x, box.y), box.width, box.height, boxstyle=corners, facecolor=box.colour, edgecolor="none"
        )
        axes.add_patch(shape)
        for x, y, size, line in place_lines(box):
            axes.text(x, y, line, fontsize=size * points * 0.94, color="white", ha="center", parse_math=False)
    for text in scene.texts:
        colour = "#555555" if text.muted else "#16181c"
        axes.text(text.x, text.y, text.text, fontsize=text.size * points * 0.94, color=colour, parse_math=False)
    return figure


def save_scene(path: Path, scene: Scene) -> None:
    """Write the drawing as PDF, whose letters stay letters, or as PNG."""
    import matplotlib as mpl

    figure = plot_scene(scene)
    with mpl.rc_context({"pdf.fonttype": 42}), write_atomically(path) as partial:
        # the same drawing gives the same file
        figure.savefig(partial, metadata={"CreationDate": None} if path.suffix.lower() == ".pdf" else None)
