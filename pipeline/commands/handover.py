"""`package` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Bundle, Json, write_json_option
from pipeline.printing import say, show_path


def package(
    bundle: Bundle,
    zip_file: Annotated[Path | None, typer.Option("--zip", help="The archive; beside the bundle if not given.")] = None,
    json_file: Json = None,
) -> None:
    """Verify, document, seal and zip a bundle."""
    from pipeline import verbs

    result = verbs.package(bundle, zip_file)
    for verification in result.verifications:
        say(f"passed   {verification.check}: {verification.detail}")
    say(f"sealed   {show_path(result.zip_file)}  (SHA-256 {result.sha256})")
    write_json_option(json_file, {"zip": str(result.zip_file), "sha256": result.sha256})
