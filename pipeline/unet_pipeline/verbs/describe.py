"""`describe`: the network of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.planning.plan import read_plan

if TYPE_CHECKING:
    from unet_pipeline.evidence.report.network_drawing import Description


def describe(bundle: Path | str, svg: Path | str | None = None) -> Description:
    """The network of a bundle: levels, channels, sizes, parameters, receptive field.

    Args:
        bundle: from `plan`; weights are not needed.
        svg: gets a drawing, in the format of its suffix: .svg, .pdf, .png, or .tex (TikZ, for LaTeX).

    Raises:
        BundleError: no bundle, or another suffix.
        PlanError: its plan cannot be read.
    """
    from unet_pipeline.evidence.report.network_drawing import describe_network, write_network

    description = describe_network(read_plan(open_bundle(bundle).plan))
    if svg is not None:
        write_network(Path(svg), description)
    return description
