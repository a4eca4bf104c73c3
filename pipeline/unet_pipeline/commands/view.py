"""`view` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.commands.options import Json, write_json_option
from unet_pipeline.commands.output import say, show_path, tell_next

if TYPE_CHECKING:
    from unet_pipeline.viewer.server import ViewerServer


def view(
    target: Annotated[
        Path,
        typer.Argument(metavar="BUNDLE|OUT", help="Evaluated bundle, or a folder that `evaluate` or `predict` wrote."),
    ],
    other: Annotated[Path | None, typer.Argument(metavar="OTHER", help="A second one, shown beside the first.")] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the images, if not where the evaluation or the plan says."),
    ] = None,
    cases: Annotated[
        str | None,
        typer.Option(
            metavar="WHICH", help="worst:20, median:3, best:5, failed, names, or several with commas; all if not given."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The HTML file; TARGET_view.html beside the bundle if not given."),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show whole images on 127.0.0.1, with a secret address, until Ctrl-C.")
    ] = False,
    port: Annotated[int, typer.Option(help="With --serve: the port; a free one if 0.")] = 0,
    predictions: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the label maps, if they are not below the target.")
    ] = None,
    slides: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write worst, median and best case into a .pptx file.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Images, references, predictions and their errors in the browser; decisions and corrections come out as files."""
    import unet_pipeline
    from unet_pipeline.bundle.folder import BundleFolder

    if serve and out is not None:
        raise typer.BadParameter("--out and --serve exclude each other; leave one out")
    result = unet_pipeline.view(target, other, dataset, cases, out, serve, predictions, slides, port)
    say(f"cases    {len(result.cases)}")
    if result.slides is not None:
        say(f"slides   {show_path(result.slides)}")
    if result.path is not None:
        rounded = "" if result.is_exact else ", values rounded to 256 steps"
        say(f"viewer   {show_path(result.path)}  ({result.num_bytes / 1e6:.1f} MB{rounded})")
        say("Open it in a browser. It holds the images: hand it on as you would hand on these.")
    write_json_option(
        json_file,
        {
            "cases": list(result.cases),
            "viewer": None if result.path is None else str(result.path),
            "num_bytes": result.num_bytes,
            "is_exact": result.is_exact,
            "slides": None if result.slides is None else str(result.slides),
        },
    )
    if result.server is not None:
        _serve(result.server)
    if BundleFolder(target).is_planned:
        tell_next("report", target)


def _serve(server: ViewerServer) -> None:
    """Tell the address and answer until the user ends it."""
    say(f"viewer   {server.url}")
    say("Open this address; whoever has it can see the images. Ctrl-C ends the server.")
    try:
        server.wait()
    except KeyboardInterrupt:
        server.close()
        say("ended")
