"""A network as a table and as a drawing."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from unet_pipeline.errors import BundleError
from unet_pipeline.evidence.report.network_drawing import (
    describe_network,
    draw_network,
    list_rows,
    summarize_network,
    write_network,
)
from unet_pipeline.evidence.report.network_scene import lay_out, say_channels
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.planning.plan import Plan
from unet_pipeline.planning.planner import plan_from_fingerprint

DIMENSIONS = {"unet2015": 2, "unet3d2016": 3}


def build_plan(make_fingerprint: Callable, network: str, preset: str = "quick") -> Plan:
    dims = DIMENSIONS.get(network, 2)
    fingerprint = make_fingerprint(shapes=[(388,) * dims] * 3) if dims == 2 else make_fingerprint()
    return plan_from_fingerprint(fingerprint, "data", preset, network=network).plan


@pytest.mark.parametrize("network", NETWORKS)
def test_describe_network_nodes_hold_all_parameters(make_fingerprint: Callable, network: str) -> None:
    description = describe_network(build_plan(make_fingerprint, network))
    assert sum(node.num_parameters for node in description.nodes) == description.num_parameters


def test_describe_network_unet2015_is_the_papers_figure(make_fingerprint: Callable) -> None:
    description = describe_network(build_plan(make_fingerprint, "unet2015", "full"))
    assert description.num_parameters == 31_030_658
    assert (description.patch_size, description.output_size) == ((572, 572), (388, 388))
    assert summarize_network(description)[0] == "31,030,658 parameters"
    rows = list_rows(description)
    assert rows[0] == ("0", "encoder", "1 > 64 > 64", "3x3", "568x568", "37,568")
    assert rows[4][:5] == ("4", "encoder", "512 > 1024 > 1024", "3x3", "28x28")
    assert rows[-1] == ("0", "head", "64 > 2", "1x1", "388x388", "130")


def test_describe_network_unetplusplus_has_a_triangle_of_nodes(make_fingerprint: Callable) -> None:
    description = describe_network(build_plan(make_fingerprint, "unetplusplus", "full"))
    counts = [sum(node.level == level and node.part != "head" for node in description.nodes) for level in range(5)]
    assert counts == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("network", NETWORKS)
def test_draw_network_every_node_is_inside_the_picture(make_fingerprint: Callable, network: str) -> None:
    description = describe_network(build_plan(make_fingerprint, network))
    root = ElementTree.fromstring(draw_network(description))
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = root.findall(".//{*}rect")
    assert len(boxes) > len(description.nodes)
    for box in boxes:
        assert float(box.get("x", 0)) + float(box.get("width")) <= width
        assert float(box.get("y", 0)) + float(box.get("height")) <= height
    texts = " ".join(text.text for text in root.findall(".//{*}text"))
    assert f"{description.num_parameters:,} parameters" in texts
    for node in description.nodes:
        if node.part != "head":
            assert say_channels(node.channels) in texts
            assert "x".join(map(str, node.size)) in texts
    assert texts.count("bottleneck") == 1


def test_draw_network_names_are_escaped(make_fingerprint: Callable) -> None:
    import dataclasses

    description = dataclasses.replace(describe_network(build_plan(make_fingerprint, "dynunet")), network="<a & b>")
    assert "&lt;a &amp; b&gt;" in draw_network(description)


def list_pieces(points: tuple[tuple[float, float], ...]) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each straight piece of an arrow, all of which are level or upright."""
    pieces = []
    for (x1, y1), (x2, y2) in pairwise(points):
        assert x1 == x2 or y1 == y2
        pieces.append((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
    return pieces


def touch(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize("network", NETWORKS)
def test_lay_out_arrows_cross_nothing(make_fingerprint: Callable, network: str) -> None:
    description = describe_network(build_plan(make_fingerprint, network, "full"))
    scene = lay_out(description, summarize_network(description))
    pieces = [(number, piece) for number, arrow in enumerate(scene.arrows) for piece in list_pieces(arrow.points)]
    # an arrow begins and ends on the edge of a box, which is not to be inside it
    boxes = [(box.x + 1, box.y + 1, box.x + box.width - 1, box.y + box.height - 1) for box in scene.boxes]
    texts = [(text.x, text.y - text.size, text.x + 6.6 * len(text.text), text.y + 3) for text in scene.texts]
    for _, (left, top, right, bottom) in pieces:
        wide = (left - 1, top - 1, right + 1, bottom + 1)
        assert not [text for text in texts if touch(wide, text)]
        assert not [box for box in boxes if touch((left, top, right, bottom), box)]
    for (first, one), (second, other) in combinations(pieces, 2):
        if first != second:
            assert not touch((one[0] - 0.5, one[1] - 0.5, one[2] + 0.5, one[3] + 0.5), other)
    assert all(right <= scene.width for _, _, right, _ in texts)
    assert not [pair for pair in combinations([*texts, *boxes], 2) if touch(*pair)]


@pytest.mark.parametrize("network", NETWORKS)
def test_lay_out_texts_fit_their_boxes(make_fingerprint: Callable, network: str) -> None:
    description = describe_network(build_plan(make_fingerprint, network, "full"))
    scene = lay_out(description, summarize_network(description))
    assert all(6.5 * len(line) <= box.width for box in scene.boxes for line in box.lines)


def test_draw_network_is_no_wider_than_its_page_and_has_a_dark_form(make_fingerprint: Callable) -> None:
    drawing = draw_network(describe_network(build_plan(make_fingerprint, "dynunet")))
    assert "max-width:100%" in ElementTree.fromstring(drawing).get("style", "")
    assert "prefers-color-scheme:dark" in drawing


def test_write_network_forms_for_papers(make_fingerprint: Callable, tmp_path: Path) -> None:
    description = describe_network(build_plan(make_fingerprint, "unet2015", "full"))
    for suffix in (".svg", ".pdf", ".png", ".tex"):
        write_network(tmp_path / f"network{suffix}", description)
    pdf = (tmp_path / "network.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/Subtype /Image" not in pdf  # lines and letters
    write_network(tmp_path / "again.pdf", description)
    assert (tmp_path / "again.pdf").read_bytes() == pdf
    tikz = (tmp_path / "network.tex").read_text(encoding="utf-8")
    assert tikz.count(r"\begin{") == tikz.count(r"\end{") == 2
    assert tikz.count("{") == tikz.count("}")
    assert r"1024 \textgreater{} 512" in tikz
    assert (tmp_path / "network.png").read_bytes().startswith(b"\x89PNG")


def test_write_network_another_suffix_is_refused(make_fingerprint: Callable, tmp_path: Path) -> None:
    description = describe_network(build_plan(make_fingerprint, "dynunet"))
    with pytest.raises(
        BundleError, match=r"network.jpg has no suffix of a drawing; expected .svg, .pdf, .png, or .tex"
    ):
        write_network(tmp_path / "network.jpg", description)
    assert not list(tmp_path.iterdir())
