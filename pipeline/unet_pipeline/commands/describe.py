"""`describe` on the command line, and the table of a network's levels."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.commands.options import Bundle, Json, write_json_option
from unet_pipeline.commands.output import say, say_plan_notes
from unet_pipeline.commands.tables import print_table

if TYPE_CHECKING:
    from unet_pipeline.evidence.report.network_drawing import Description


def describe(
    bundle: Bundle,
    svg: Annotated[
        Path | None,
        typer.Option(
            "--svg",
            "--drawing",
            metavar="FILE",
            help="Draw the network into this file: .svg, .pdf, .png, or .tex for LaTeX.",
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Show the network of a bundle: levels, channels, sizes, parameters, receptive field."""
    import unet_pipeline
    from unet_pipeline.lean_imports import arrange_lean_import

    arrange_lean_import(with_label_maps=False)
    description = unet_pipeline.describe(bundle, svg)
    say_plan_notes(bundle)
    print_network(description)
    if svg is not None:
        say(f"drawn    {svg}")
    write_json_option(json_file, network_as_data(description))


def print_network(description: Description) -> None:
    """A network's levels as a table."""
    from unet_pipeline.evidence.report.network_drawing import list_rows, summarize_network

    headings = ("level", "part", "channels", "kernels", "output", "parameters")
    print_table(description.network, headings, list_rows(description), num_texts=5)
    for line in summarize_network(description):
        say(f"  {line}")


def network_as_data(description: Description) -> dict[str, object]:
    """What `describe` prints, as plain values."""
    return asdict(description)
