"""The planned network for people: a table of its levels, and a drawing as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.errors import BundleError
from unet_pipeline.evidence.report.network_scene import lay_out
from unet_pipeline.evidence.report.scene import plot_scene, save_scene, write_svg, write_tikz
from unet_pipeline.files import write_text
from unet_pipeline.networks.counting import Convolution, compute_receptive_field, count_parameters, list_convolutions
from unet_pipeline.planning.plan import Plan
from unet_pipeline.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


@dataclass(frozen=True, repr=False)
class Description(Result):
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
    """The network as SVG: a row per level, the way down on the left and up on the right, channels and size in each box."""
    return write_svg(lay_out(description, summarize_network(description)))


def plot_network(description: Description) -> Figure:
    """The same drawing as a figure of matplotlib."""
    return plot_scene(lay_out(description, summarize_network(description)))


def write_network(path: Path, description: Description) -> None:
    """Write the drawing in the format of the file's suffix: .svg, .pdf, .png, or .tex, which is TikZ.

    Raises:
        BundleError: another suffix.
        FileError: it cannot be written.
    """
    scene = lay_out(description, summarize_network(description))
    suffix = path.suffix.lower()
    if suffix == ".svg":
        write_text(path, write_svg(scene))
    elif suffix == ".tex":
        write_text(path, write_tikz(scene))
    elif suffix in (".pdf", ".png"):
        save_scene(path, scene)
    else:
        raise BundleError(
            f"{path.name} has no suffix of a drawing; expected .svg, .pdf, .png, or .tex for LaTeX. Give it one of them."
        )


def summarize_network(description: Description) -> tuple[str, ...]:
    """Parameters, operations, receptive field and sizes, each in words."""
    voxel = "pixel" if len(description.patch_size) == 2 else "voxel"
    return (
        f"{description.num_parameters:,} parameters",
        f"{description.forward_flop / 1e9:.3g} GFLOP for a patch of {_show(description.patch_size)}",
        f"output of {_show(description.output_size)}",
        f"an output {voxel} sees up to {_show(description.receptive_field)} {voxel}s",
    )


def _show(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
