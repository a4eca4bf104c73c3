"""`import-nnunet` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unet_pipeline.commands.options import Json, write_json_option
from unet_pipeline.commands.output import say, tell_next


def import_nnunet(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS",
            help="Trained results of nnU-Net v2: a folder such as nnUNetTrainer__nnUNetPlans__3d_fullres.",
        ),
    ],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle; it must not exist yet.")],
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET", help="What it was trained on, for `evaluate` and the evidence; not needed to predict."
        ),
    ] = None,
    splits: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="splits_final.json, where it lies neither with the dataset nor with the results."
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(metavar="NAME", help="File in each fold.")] = "checkpoint_final.pth",
    json_file: Json = None,
) -> None:
    """Make a bundle of a trained nnU-Net v2, with equal networks and without nnU-Net."""
    import unet_pipeline

    result = unet_pipeline.import_nnunet(results, bundle, dataset, splits, checkpoint)
    folds = ", ".join(f"{'all' if fold < 0 else fold} ({epochs} epochs)" for fold, epochs in result.epochs.items())
    say(
        f"imported {bundle}\n  network   {result.plan.network_name}, {len(result.plan.filters)} levels\n  folds     {folds}"
    )
    for line in result.describe_differences():
        say(f"  differs   {line}")
    tell_next("predict", bundle, "IMAGES", "OUT", *(["--ensemble"] if len(result.epochs) > 1 else []))
    write_json_option(json_file, {"folds": dict(result.epochs), "plan": result.plan.model_dump(mode="json")})
