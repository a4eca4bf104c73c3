"""`package` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unet_pipeline.commands.options import Bundle, Json, Trust, write_json_option
from unet_pipeline.commands.output import say, say_plan_notes, show_path, tell_next


def package(
    bundle: Bundle,
    zip_file: Annotated[Path | None, typer.Option("--zip", help="The archive; beside the bundle if not given.")] = None,
    export: Annotated[
        str | None,
        typer.Option(
            metavar="FORMATS",
            help="torchscript, onnx, both joined by a comma, or none; all that the installed packages can write, if not given.",
        ),
    ] = None,
    note: Annotated[
        str | None, typer.Option(help="Line of this version in the changelog; the changed files if not given.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY", help="Sign the manifest with this private SSH key.")
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="float16 or float32; in float16 they are half as large, and the validation cases are measured again with them.",
        ),
    ] = "float16",
    trust: Trust = False,
    json_file: Json = None,
) -> None:
    """Verify, export, document, seal and zip a bundle."""
    import unet_pipeline

    say_plan_notes(bundle)
    result = unet_pipeline.package(bundle, zip_file, key, trust, export, note, weights, say)
    for verification in result.verifications:
        say(f"passed   {verification.check}: {verification.detail}")
    say(f"engines  {result.parity.describe()}")
    for exported in result.exports:
        say(f"exported {exported.describe()}")
    say(f"version  {result.version}")
    say(f"sealed   {show_path(result.zip_file)}  (SHA-256 {result.sha256})")
    tell_next("predict", bundle, "IMAGES", "OUT")
    write_json_option(json_file, {"zip": str(result.zip_file), "sha256": result.sha256, "version": result.version})
