"""`package`, `audit` and `import-nnunet` on the command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Bundle, Json, Trust, write_json_option
from pipeline.printing import say, show_path


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
    from pipeline import verbs

    result = verbs.package(bundle, zip_file, key, trust, export, note, weights, say)
    for verification in result.verifications:
        say(f"passed   {verification.check}: {verification.detail}")
    for exported in result.exports:
        say(f"exported {exported.describe()}")
    say(f"version  {result.version}")
    say(f"sealed   {show_path(result.zip_file)}  (SHA-256 {result.sha256})")
    write_json_option(json_file, {"zip": str(result.zip_file), "sha256": result.sha256, "version": result.version})


def audit(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="Any MONAI bundle: a folder, a zip or tar, or its file:// address.")
    ],
    key: Annotated[
        Path | None,
        typer.Option("--verify-key", metavar="KEY", help="Public SSH key that must have signed the bundle."),
    ] = None,
    json_file: Json = None,
) -> None:
    """Show what a bundle would do, without running any of it."""
    from pipeline import verbs
    from pipeline.errors import BundleError
    from pipeline.printing_audit import audit_as_data, describe_verdict, print_audit

    result = verbs.audit(bundle, key)
    print_audit(result)
    write_json_option(json_file, audit_as_data(result))
    if not result.passed:
        first = result.dangers[0]
        raise BundleError(f"{describe_verdict(result)} The first: {first.where} {first.what}. {first.remedy}")


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
    from pipeline import verbs

    result = verbs.import_nnunet(results, bundle, dataset, splits, checkpoint)
    folds = ", ".join(f"{'all' if fold < 0 else fold} ({epochs} epochs)" for fold, epochs in result.epochs.items())
    say(
        f"imported {bundle}\n  network   {result.plan.network_name}, {len(result.plan.filters)} levels\n  folds     {folds}"
    )
    for line in result.describe_differences():
        say(f"  differs   {line}")
    say(
        f"Next: unet-pipeline predict {shlex.quote(str(bundle))} IMAGES OUT"
        + (" --ensemble" if len(result.epochs) > 1 else "")
    )
    write_json_option(json_file, {"folds": dict(result.epochs), "plan": result.plan.model_dump(mode="json")})
