"""The command line: parse, call a verb, print. torch and monai are imported by the verbs, not here."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli_options import (
    Bundle,
    CopyHeader,
    Dataset,
    Device,
    Ensemble,
    Json,
    Labels,
    Layout,
    Mirror,
    PagesAsSlices,
    Patient,
    ResampleLabels,
    parse_labels,
    read_options,
)
from pipeline.errors import DatasetError, PipelineError, PlanError, suggest
from pipeline.printing import (
    evaluation_as_data,
    list_problems,
    network_as_data,
    print_evaluation,
    print_network,
    print_plan,
    print_report,
    print_tuning,
    say,
    show_path,
    tuning_as_data,
)

EXIT_PROBLEM, EXIT_INTERRUPTED = 1, 130

app = typer.Typer(
    name="unet-pipeline",
    help="A labelled folder of medical images goes in, a MONAI bundle comes out, with the evidence for every number.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    context.obj = {"debug": debug}


@app.command("demo")
def _demo(
    out: Annotated[Path, typer.Option(help="Folder for the cohort, the bundle and the picture.")] = Path("demo"),
    json_file: Json = None,
) -> None:
    """Run the main job end to end on the embedded cohort."""
    from pipeline.demonstration import demo

    result = demo(out, announce=lambda step: say(f"== {step}"))
    say()
    print_evaluation(result.evaluation)
    say()
    say("The test case is the real MNI152 head, the training heads are simulated from it: this shows that the")
    say("pipeline works, and says nothing about generalisation.")
    say(f"bundle   {result.bundle.root}  (sealed: {show_path(result.package.zip_file)})")
    say(f"picture  {result.overlay}")
    say()
    say("Next, on your own data:")
    say("  unet-pipeline check DATASET")
    say("  unet-pipeline plan DATASET BUNDLE --preset quick")
    say("  unet-pipeline train BUNDLE")
    _write_json(json_file, evaluation_as_data(result.evaluation))


@app.command("check")
def _check(
    dataset: Dataset,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for problems.json, contact_sheet.png, fingerprint.json, dataset_manifest.json."),
    ] = None,
    label: Labels = None,
    layout: Layout = None,
    patient: Patient = None,
    copy_header: CopyHeader = False,
    resample_labels: ResampleLabels = False,
    pages_as_slices: PagesAsSlices = False,
    json_file: Json = None,
) -> None:
    """Read every file of a dataset; list problems and what to do about each."""
    from pipeline import verbs

    options = read_options(layout, patient, copy_header, resample_labels, pages_as_slices)
    report = verbs.check(dataset, out, parse_labels(label), options)
    print_report(report)
    if out is not None:
        say(f"  written to {out}")
    if json_file is not None:
        from pipeline.dataset.report import describe_report

        _write_json(json_file, describe_report(report).model_dump(mode="json"))
    if report.errors:
        first = report.errors[0]
        raise DatasetError(
            f"{len(report.errors)} error(s) in {report.dataset.name}; the list above says what to do about each. "
            f"The first: {first.file} {first.cause}."
        )


@app.command("plan")
def _plan(
    dataset: Annotated[Path | None, typer.Argument(metavar="DATASET", help="Labelled folder.")] = None,
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="Folder of the bundle; it must not exist yet.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="quick (minutes on a CPU), standard, or full (nnU-Net's length).")
    ] = "standard",
    network: Annotated[
        str,
        typer.Option(metavar="NAME", help="dynunet, resenc, unet2015, unet3d2016, unetplusplus or attention_unet."),
    ] = "dynunet",
    padded: Annotated[
        bool,
        typer.Option("--padded", help="A paper's network with padding and instance normalisation; it trains better."),
    ] = False,
    memory: Annotated[
        float | None,
        typer.Option(min=1, metavar="GIB", help="Memory that the training may take; the preset's if not given."),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the weights and the augmentation.")] = 0,
    label: Labels = None,
    layout: Layout = None,
    patient: Patient = None,
    copy_header: CopyHeader = False,
    resample_labels: ResampleLabels = False,
    pages_as_slices: PagesAsSlices = False,
    refresh: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Write the JSON of this bundle again from its plan.yaml.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --refresh: overwrite configs that were edited by hand.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Write a complete bundle for a dataset, or with --refresh its configs again."""
    from pipeline.planning.architecture import NETWORKS
    from pipeline.planning.presets import PRESETS

    if preset not in PRESETS:
        raise typer.BadParameter(f"--preset is {preset!r}; {suggest(preset, PRESETS)}")
    if network not in NETWORKS:
        raise typer.BadParameter(f"--network is {network!r}; {suggest(network, NETWORKS)}")
    from pipeline import verbs

    if refresh is not None:
        settled = verbs.refresh(refresh, force)
        say(f"Configs of {refresh} written again from its plan.yaml.")
    else:
        if dataset is None or bundle is None:
            raise typer.BadParameter("expected DATASET and BUNDLE, or --refresh BUNDLE")
        options = read_options(layout, patient, copy_header, resample_labels, pages_as_slices)
        planned = verbs.plan(
            dataset, bundle, preset, folds, seed, parse_labels(label), options, network, padded, memory
        )
        settled = planned.plan
        print_report(planned.report)
        print_plan(settled, bundle)
    _write_json(json_file, settled.model_dump(mode="json"))


@app.command("describe")
def _describe(
    bundle: Bundle,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the network into this SVG file.")] = None,
    json_file: Json = None,
) -> None:
    """Show the network of a bundle: levels, channels, sizes, parameters, receptive field."""
    from pipeline import verbs

    description = verbs.describe(bundle, svg)
    print_network(description)
    if svg is not None:
        say(f"drawn    {svg}")
    _write_json(json_file, network_as_data(description))


@app.command("train")
def _train(
    bundle: Bundle,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Ids of train.json.")] = None,
    fold: Annotated[str | None, typer.Option(help="A number, or all; the plan's fold if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the latest interrupted training.")] = False,
    initial: Annotated[
        Path | None,
        typer.Option("--from", metavar="BUNDLE", help="Start from the weights of this trained bundle, or of a file."),
    ] = None,
    json_file: Json = None,
) -> None:
    """Train a bundle."""
    from pipeline import verbs
    from pipeline.progress import format_duration
    from pipeline.training.run import parse_override

    if fold is not None and fold != "all" and not fold.isdecimal():
        raise typer.BadParameter(f"--fold is {fold!r}; expected a number or all")
    try:
        settings = dict(parse_override(text) for text in overrides or [])
    except PlanError as error:
        raise typer.BadParameter(str(error)) from error
    runs = verbs.train(
        bundle,
        fold,
        resume,
        settings,
        announce=lambda command: say(f"The same with stock MONAI:\n  {command}"),
        initial=initial,
    )
    for run in runs:
        say(
            f"fold {run.fold}: {run.num_epochs} epochs in {format_duration(run.duration_s)}, best Dice {run.best_dice:.4f} in epoch "
            f"{run.best_epoch} (resampled grid; it picks the weights and is no result)"
        )
        say(f"weights  {run.weights}\nrecord   {run.run_dir / 'run.json'}")
    say(f"Next: unet-pipeline evaluate {bundle}")
    _write_json(
        json_file,
        [{key: str(value) if isinstance(value, Path) else value for key, value in vars(run).items()} for run in runs],
    )


@app.command("predict")
def _predict(
    bundle: Bundle,
    source: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help="An image, a folder of images, a DICOM series, or a folder of series."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the label maps; finished ones are kept.")],
    device: Device = None,
    mirror: Mirror = False,
    ensemble: Ensemble = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probabilities of every class too, as NAME_probabilities.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Write a label map for every image, on the image's own grid."""
    from pipeline import verbs

    result = verbs.predict(bundle, source, out, device, mirror, ensemble, probabilities)
    for line in list_problems(result.notes):
        say(line)
    for path in result.kept:
        say(f"kept     {path}  (finished before)")
    for path in result.written:
        say(f"written  {path}")
    _write_json(
        json_file,
        {
            "written": list(map(str, result.written)),
            "kept": list(map(str, result.kept)),
            "notes": [vars(note) for note in result.notes],
        },
    )


@app.command("evaluate")
def _evaluate(
    bundle: Bundle,
    dataset: Annotated[
        Path | None, typer.Argument(metavar="DATASET", help="Labelled folder; the validation cases if not given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for metrics.csv and summary.json.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Folder of label maps made before.")] = None,
    device: Device = None,
    mirror: Mirror = False,
    ensemble: Ensemble = False,
    json_file: Json = None,
) -> None:
    """Metrics per case from prediction files, with a summary and its intervals."""
    from pipeline import verbs

    if ensemble and dataset is None:
        raise typer.BadParameter(
            "--ensemble needs a DATASET: every validation case was in the training of the other folds"
        )
    result = verbs.evaluate(bundle, dataset, out, predictions, device, mirror, ensemble)
    print_evaluation(result)
    say(f"per case {result.folder / 'metrics.csv'}")
    _write_json(json_file, evaluation_as_data(result))


@app.command("tune")
def _tune(bundle: Bundle, device: Device = None, mirror: Mirror = False, json_file: Json = None) -> None:
    """Choose post-processing and temperature on out-of-fold predictions, into plan.yaml."""
    from pipeline import verbs

    result = verbs.tune(bundle, device, mirror)
    print_tuning(result)
    say(f"Written into {bundle / 'configs' / 'plan.yaml'}; everything tried: {bundle / 'evidence' / 'tuning.json'}")
    _write_json(json_file, tuning_as_data(result))


@app.command("package")
def _package(
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
    _write_json(json_file, {"zip": str(result.zip_file), "sha256": result.sha256})


def _write_json(path: Path | None, content: Any) -> None:
    if path is not None:
        from pipeline.files import write_text

        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    """Entry of `unet-pipeline`: runs a verb; a problem of the user's becomes one message and exit status 1."""
    if "--debug" not in sys.argv:
        # MONAI and PyTorch warn about their own code; what concerns the user is an error or a line of output here
        warnings.filterwarnings("ignore", module=r"(monai|torch|ignite)\b")
        warnings.filterwarnings("ignore", message="parsing config_file")
        # an optional decoder for DICOM on GPUs, which this package does not use
        logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    try:
        app()
    except PipelineError as error:
        if "--debug" in sys.argv:
            raise
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(EXIT_PROBLEM) from None
    except (KeyboardInterrupt, SystemExit) as end:  # typer makes an exit of an interrupt
        if isinstance(end, SystemExit) and end.code != EXIT_INTERRUPTED:
            raise
        print("Interrupted. `unet-pipeline train BUNDLE --resume` continues a training.", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:  # the reader of a pipe went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_PROBLEM) from None
