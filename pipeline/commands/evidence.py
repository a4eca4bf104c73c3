"""`report` and `reproduce` on the command line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Bundle, Device, Json, Trust, write_json_option
from pipeline.printing import print_reproduction, say, show_path


def report(
    bundle: Bundle,
    out: Annotated[Path | None, typer.Option(help="The HTML file; BUNDLE/evidence/report.html if not given.")] = None,
    json_file: Json = None,
) -> None:
    """One HTML file, readable offline: data, plan, curves, results, pictures, how to get it again."""
    from pipeline import verbs

    result = verbs.report(bundle, out)
    for sentence in result.missing:
        say(f"missing  {sentence}")
    say(f"report   {show_path(result.path)}  ({result.num_bytes / 1e6:.1f} MB)")
    for path in result.documents:
        edited = "  (the document was edited and kept; this is the new draft)" if ".draft" in path.name else ""
        say(f"written  {show_path(path)}{edited}")
    write_json_option(
        json_file,
        {
            "report": str(result.path),
            "num_bytes": result.num_bytes,
            "missing": list(result.missing),
            "documents": list(map(str, result.documents)),
        },
    )


def reproduce(
    bundle: Bundle,
    fold: Annotated[
        str | None, typer.Option(help="A number, or all; the fold of models/model.pt if not given.")
    ] = None,
    evaluation_only: Annotated[
        bool, typer.Option("--evaluation-only", help="Predict with the bundle's weights instead of training again.")
    ] = False,
    dataset: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the data are; where the plan says if not given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the files of the run in this new folder.")] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Run in spite of differences to the record.")] = False,
    device: Device = None,
    trust: Trust = False,
    json_file: Json = None,
) -> None:
    """Run again from the record and compare: identical, within the interval, or different."""
    from pipeline import verbs

    if fold is not None and fold != "all" and not fold.isdecimal():
        raise typer.BadParameter(f"--fold is {fold!r}; expected a number or all")
    result = verbs.reproduce(bundle, fold, evaluation_only, dataset, out, anyway, device, announce=say, trust=trust)
    print_reproduction(result)
    write_json_option(json_file, asdict(result))
    if not result.holds:
        raise typer.Exit(1)
