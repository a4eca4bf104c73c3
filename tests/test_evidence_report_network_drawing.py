"""A network as a table and as a drawing."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest

from unet_pipeline.evidence.report.network_drawing import describe_network, draw_network, list_rows, summarize_network
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
            assert " > ".join(map(str, node.channels)) in texts


def test_draw_network_names_are_escaped(make_fingerprint: Callable) -> None:
    import dataclasses

    description = dataclasses.replace(describe_network(build_plan(make_fingerprint, "dynunet")), network="<a & b>")
    assert "&lt;a &amp; b&gt;" in draw_network(description)
