"""`reproduce` on the command line, and its verdict."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.commands.options import Bundle, Device, Json, Trust, require_fold, write_json_option
from unet_pipeline.commands.output import say, tell

if TYPE_CHECKING:
    from unet_pipeline.evidence.reproduce.reproduction import Reproduction


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
    import unet_pipeline

    require_fold(fold)
    result = unet_pipeline.reproduce(
        bundle, fold, evaluation_only, dataset, out, anyway, device, announce=tell, trust=trust
    )
    print_reproduction(result)
    write_json_option(json_file, asdict(result))
    if not result.holds:
        raise typer.Exit(1)


def print_reproduction(result: Reproduction) -> None:
    """What was compared, then the verdict and the likely cause of a difference."""
    for comparison in result.comparisons:
        equal = comparison.num_compared - comparison.num_different
        say(f"compared {comparison.what}: {equal} of {comparison.num_compared} equal")
        for example in comparison.examples:
            say(f"           {example}")
    for mean in result.outside:
        say(f"outside  {mean}")
    if not result.comparisons:
        say("Nothing was run: it would not be the recorded run. Undo the changes, or give --anyway.")
    say(f"verdict  {result.verdict}" + (f" (likely cause: {result.cause})" if result.cause else ""))
