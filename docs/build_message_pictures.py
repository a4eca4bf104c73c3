"""Draws docs/drawings/message_NAME.svg and writes docs/howto/messages_in_pictures.md: `.venv/bin/python docs/build_message_pictures.py`.

Each drawing shows a mistake beside what was expected; what the messages say comes from the code. A test compares the files with what is
made here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from build_drawings import FOLDER
from build_messages import collect_messages

PAGE = Path(__file__).parent / "howto" / "messages_in_pictures.md"
WIDTH, HEIGHT, GAP, FOOT = 150, 112, 30, 24  # pixels of a panel, between two, and below them
STYLE = """<style>
svg { font: 12px sans-serif }
text { fill: #1b1f24 }
.paper { fill: #fff }
.air { fill: #16191e }
.body { fill: #767d86 }
.organ { fill: #c3c9d1 }
.label { fill: #d55e00; fill-opacity: .45; stroke: #ff8a33; stroke-width: 2 }
.right { fill: #0072b2; fill-opacity: .45; stroke: #56b4e9; stroke-width: 2 }
.other { fill: #f0e442 }
.on { fill: #fff }
.line { stroke: #9aa3ad; fill: none }
.cut { stroke: #ff8a33; stroke-width: 2; fill: none; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) { text { fill: #e6e9ee } .paper { fill: #14171c } .on { fill: #fff } }
</style>"""
AIR = f'<rect class="air" width="{WIDTH}" height="{HEIGHT}"/>'
BODY = '<ellipse class="body" cx="75" cy="58" rx="58" ry="44"/><ellipse class="organ" cx="54" cy="52" rx="20" ry="15"/>'
IMAGE = AIR + BODY
NONE = ""


def draw_label(x: float = 54, y: float = 52, kind: str = "label", rx: float = 20, ry: float = 15) -> str:
    """A label map's outline; it belongs on the light organ at (54, 52)."""
    return f'<ellipse class="{kind}" cx="{x}" cy="{y}" rx="{rx}" ry="{ry}"/>'


RIGHT = IMAGE + draw_label(kind="right")


def draw_words(*lines: str) -> str:
    """Text on an image, centred."""
    start = HEIGHT // 2 + 4 - 8 * (len(lines) - 1)
    return "".join(
        f'<text class="on" x="{WIDTH // 2}" y="{start + 16 * number}" text-anchor="middle">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )


def draw_slices(places: list[int]) -> str:
    """The slices of a series, seen from the side."""
    lines = "".join(f'<path class="line" d="M30 {y}H120" stroke-width="4"/>' for y in places)
    return AIR + lines


def draw_grid(width: int, height: int, columns: int, rows: int) -> str:
    """The voxels of an image of some size."""
    lines = [f"M{15 + column * width} 12v{rows * height}" for column in range(columns + 1)]
    lines += [f"M15 {12 + row * height}h{columns * width}" for row in range(rows + 1)]
    return f'{AIR}<path class="line" d="{"".join(lines)}"/>'


def draw_pages(*names: str) -> str:
    """Channels of a case, one behind the other."""
    parts = []
    for number, name in enumerate(names):
        x, y = 14 + 26 * number, 12 + 16 * number
        parts.append(f'<rect class="body" x="{x}" y="{y}" width="66" height="50" stroke="#c3c9d1"/>')
        parts.append(f'<text class="on" x="{x + 5}" y="{y + 14}">{name}</text>')
    return AIR + "".join(parts)


@dataclass(frozen=True)
class Scene:
    """A mistake and what was expected.

    Attributes:
        title: of the section.
        codes: of the messages that say it.
        wrong: the mistake, drawn.
        right: what was expected.
        words: below the two.
    """

    title: str
    codes: tuple[str, ...]
    wrong: str
    right: str
    words: tuple[str, str] = ("refused", "expected")


STAIRS = "M57 22h36v8h14v10h12v32h-12v10h-14v8h-36v-8h-14v-10h-12v-32h12v-10h14z"
SCENES = {
    "shifted": Scene("The label lies beside the structure", ("header-differs",), IMAGE + draw_label(92, 74), RIGHT),
    "turned": Scene(
        "The label is mirrored or turned",
        ("label-without-geometry", "header-differs"),
        IMAGE + draw_label(96, 52),
        RIGHT,
    ),
    "shape": Scene(
        "The label has another number of voxels",
        ("shape-differs", "label-between-voxels"),
        IMAGE + '<g transform="scale(.6)">' + draw_label() + '<rect class="cut" width="150" height="112"/></g>',
        RIGHT + '<rect class="cut" style="stroke: #56b4e9" x="1" y="1" width="148" height="110"/>',
    ),
    "outside": Scene(
        "The label reaches out of the image",
        ("label-cut",),
        f'<g transform="translate(24 0)">{IMAGE}</g>' + draw_label(22, 52) + '<path class="cut" d="M24 0V112"/>',
        f'<g transform="translate(24 0)">{IMAGE}<path class="right" d="M34 52a20 15 0 0 1 40 0a20 15 0 0 1 -40 0"/></g>',
        ("warned of", "expected"),
    ),
    "empty": Scene("The label is empty", ("empty-label",), IMAGE, RIGHT, ("warned of", "expected")),
    "value": Scene(
        "The label has a value that nobody declared",
        ("undeclared-value",),
        RIGHT
        + '<rect class="other" x="88" y="58" width="20" height="16"/>'
        + '<text x="94" y="71" style="fill: #000">7</text>',
        RIGHT,
    ),
    "smoothed": Scene(
        "The mask was smoothed or saved as JPEG",
        ("label-smoothed", "label-lossy", "label-many-colours"),
        AIR
        + "".join(
            f'<ellipse fill="#fff" fill-opacity=".25" cx="75" cy="56" rx="{44 - 4 * n}" ry="{34 - 4 * n}"/>'
            for n in range(5)
        ),
        AIR + f'<path fill="#fff" d="{STAIRS}"/>',
    ),
    "overlap": Scene(
        "Two masks of a case overlap",
        ("masks-overlap",),
        IMAGE + draw_label(kind="right") + draw_label(74, 60),
        IMAGE + draw_label(kind="right") + draw_label(98, 64, "right"),
        ("warned of", "expected"),
    ),
    "spacing": Scene(
        "One image has another spacing",
        ("spacing-outlier", "nifti-odd-voxel-size"),
        draw_grid(40, 29, 3, 3),
        draw_grid(10, 10, 12, 8),
        ("warned of", "as the others"),
    ),
    "zero": Scene(
        "The header has a voxel size of 0",
        ("nifti-voxel-size", "nifti-affine"),
        AIR + '<path class="line" d="M15 20v72M15 20v72"/>' + draw_words("1 x 1 x 0 mm"),
        draw_grid(20, 20, 6, 4),
    ),
    "channels": Scene(
        "A channel is missing, or one too many",
        ("channel-missing", "channel-file-missing", "channel-names", "channel-extra"),
        draw_pages("T1", "T2"),
        draw_pages("T1", "T2", "FLAIR"),
    ),
    "dimensions": Scene(
        "A picture among volumes",
        ("other-dimensions",),
        IMAGE,
        "".join(f'<g transform="translate({8 * n} {6 * n}) scale(.85)">{IMAGE}</g>' for n in (0, 1, 2)),
        ("refused", "as the others"),
    ),
    "gap": Scene(
        "A slice of a series is missing",
        ("dicom-missing-slice",),
        draw_slices([20, 34, 48, 76, 90]) + '<path class="cut" d="M30 62H120"/>',
        draw_slices([20, 34, 48, 62, 76, 90]),
    ),
    "twice": Scene(
        "A slice is there twice",
        ("dicom-duplicated-slice",),
        draw_slices([20, 34, 48, 62, 76, 90]) + '<path class="cut" d="M36 52H126"/>',
        draw_slices([20, 34, 48, 62, 76, 90]),
    ),
    "tilt": Scene(
        "The gantry was tilted",
        ("dicom-gantry-tilt", "nifti-shear"),
        AIR + "".join(f'<path class="line" stroke-width="4" d="M{16 + 6 * n} {20 + 14 * n}h86"/>' for n in range(6)),
        draw_slices([20, 34, 48, 62, 76, 90]),
    ),
    "constant": Scene("The image has one value only", ("constant", "not-finite"), AIR, IMAGE),
}


def build_drawing(scene: Scene) -> str:
    """The mistake on the left, what was expected on the right."""
    width, height = 2 * WIDTH + GAP, HEIGHT + FOOT
    panels = "".join(
        f'<svg x="{x}" width="{WIDTH}" height="{HEIGHT}">{panel}</svg>'
        f'<text x="{x + WIDTH // 2}" y="{HEIGHT + 16}" text-anchor="middle">{words}</text>'
        for x, panel, words in zip((0, WIDTH + GAP), (scene.wrong, scene.right), scene.words, strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">{STYLE}\n'
        f'<rect class="paper" width="{width}" height="{height}"/>\n{panels}\n'
        f'<text x="{WIDTH + GAP // 2}" y="{HEIGHT // 2 + 5}" text-anchor="middle">→</text>\n</svg>\n'
    )


def build_page() -> str:
    """Contents of the page."""
    messages = {message.code: message for message in collect_messages()}
    sections = []
    for name, scene in SCENES.items():
        alternative = f"Left, {scene.words[0]}: {scene.title[0].lower()}{scene.title[1:]}. Right: what was expected."
        told = "\n".join(
            f"- `{code}`: FILE {messages[code].cause}. {messages[code].remedy}".replace("<", "&lt;")
            for code in scene.codes
        )
        sections.append(f"## {scene.title}\n\n![{alternative}](../drawings/message_{name}.svg)\n\n{told}\n")
    return _HEAD + "\n".join(sections)


_HEAD = """\
# Messages about images, in pictures

<!-- Made by docs/build_message_pictures.py, which takes the words from the messages themselves. -->

Grey is the image, its light part the structure; orange is a label that is wrong, blue one that is right. `check` draws the labels of your own
images the same way: `unet-pipeline check DATASET --out REPORT` writes check.html. [All messages](../messages.md); `check --fix` corrects what
can be [corrected](../messages.md#changes-of-check---fix).

"""


def main() -> None:
    """Write page and drawings."""
    PAGE.write_text(build_page(), encoding="utf-8")
    for name, scene in SCENES.items():
        (FOLDER / f"message_{name}.svg").write_text(build_drawing(scene), encoding="utf-8")


if __name__ == "__main__":
    main()
