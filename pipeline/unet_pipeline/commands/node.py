"""`node` on the command line: a receiver and sender of a DICOM network around a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unet_pipeline.commands.options import Bundle, Device, Precision, Trust
from unet_pipeline.commands.output import flush_output, say
from unet_pipeline.commands.stopping import preemptible


def node(
    bundle: Bundle,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0 takes a free one.")],
    to: Annotated[str, typer.Option(metavar="AET@HOST:PORT", help="Where the results go, by C-STORE.")],
    aet: Annotated[str, typer.Option(metavar="AET", help="Application entity title of the node.")] = "UNET_PIPELINE",
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AET[@ADDRESS]",
            help="Who may send; repeat for each. Without an address from this machine only, and so may everyone if none is given.",
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For what was received and the record; BUNDLE_node.")
    ] = None,
    wait_s: Annotated[
        float,
        typer.Option(
            "--wait", min=0, metavar="SECONDS", help="A series without another instance for so long is complete."
        ),
    ] = 30.0,
    instances: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="A series with so many instances is complete at once.")
    ] = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Leave series and results in FOLDER/sent; they are deleted after sending otherwise."
        ),
    ] = False,
    max_instance_mib: Annotated[float, typer.Option(min=0.001, help="Largest instance that is taken.")] = 1024.0,
    max_instances: Annotated[int, typer.Option(min=1, help="Most instances of a series.")] = 5000,
    max_series: Annotated[
        int, typer.Option(min=1, help="Most series that wait for the network or the destination.")
    ] = 1000,
    max_quarantine_gib: Annotated[
        float, typer.Option(min=0.001, help="Size of FOLDER/quarantine at which nothing more is taken.")
    ] = 20.0,
    format: Annotated[
        str,
        typer.Option(metavar="NAME", help="dicomseg, dicomseg-labelmap, or dicomseg-sr with a volume report for each."),
    ] = "dicomseg",
    device: Device = None,
    precision: Precision = "float32",
    trust: Trust = False,
) -> None:
    """Receive DICOM series, predict them, and send DICOM SEG on; until a signal ends it, and the same command goes on."""
    import unet_pipeline
    from unet_pipeline.clinical.node.spool import Limits

    limits = Limits(max_instance_mib, max_instances, max_series, max_quarantine_gib)
    with preemptible():
        receiving = (bundle, port, to, aet, allow or (), folder, wait_s, instances, keep, limits)
        unet_pipeline.node(*receiving, device, precision, trust, _tell, format)


def _tell(line: str) -> None:
    say(line)
    flush_output()
