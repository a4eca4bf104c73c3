"""`demo`, `check`, `plan` and `describe` on the command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import (
    Bundle,
    CopyHeader,
    Dataset,
    Json,
    Labels,
    Layout,
    PagesAsSlices,
    Patient,
    ResampleLabels,
    Trust,
    parse_labels,
    parse_memory,
    read_options,
    write_json_option,
)
from pipeline.errors import DatasetError, PlanError, suggest
from pipeline.printing import (
    network_as_data,
    print_network,
    print_plan,
    print_report,
    say,
    show_path,
)
from pipeline.printing_forecast import print_training_forecast
from pipeline.printing_results import evaluation_as_data, print_evaluation

Network = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="dynunet (if not given), resenc, unet2015, unet3d2016, unetplusplus or attention_unet."
    ),
]
Padded = Annotated[
    bool,
    typer.Option("--padded", help="A paper's network with padding and instance normalisation; it trains better."),
]
MemoryGib = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="GIB|free",
        callback=parse_memory,
        help="Memory that the training may take, or what is free now; the preset's if not given.",
    ),
]
Initial = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="OTHER",
        help="Fine-tune this trained bundle: its network, spacing, normalisation, patch and weights are taken.",
    ),
]


def demo(
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
    write_json_option(json_file, evaluation_as_data(result.evaluation))


def check(
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

        write_json_option(json_file, describe_report(report).model_dump(mode="json"))
    if report.errors:
        first = report.errors[0]
        raise DatasetError(
            f"{len(report.errors)} error(s) in {report.dataset.name}; the list above says what to do about each. "
            f"The first: {first.file} {first.cause}."
        )


def plan(
    dataset: Annotated[Path | None, typer.Argument(metavar="DATASET", help="Labelled folder.")] = None,
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="Folder of the bundle; it must not exist yet.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="quick (minutes on a CPU), standard, or full (nnU-Net's length).")
    ] = "standard",
    network: Network = None,
    padded: Padded = False,
    memory: MemoryGib = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the weights and the augmentation.")] = 0,
    initial: Initial = None,
    trust: Trust = False,
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
    no_forecast: Annotated[
        bool, typer.Option("--no-forecast", help="Do not time a step to tell how long the training will take.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Write a complete bundle for a dataset, or with --refresh its configs again."""
    _check_names(preset, network)
    from pipeline import verbs

    if refresh is not None:
        settled = verbs.refresh(refresh, force)
        say(f"Configs of {refresh} written again from its plan.yaml.")
        _say_time(refresh, 0.0, no_forecast)
    else:
        if dataset is None or bundle is None:
            raise typer.BadParameter("expected DATASET and BUNDLE, or --refresh BUNDLE")
        options = read_options(layout, patient, copy_header, resample_labels, pages_as_slices)
        planned = verbs.plan(
            dataset, bundle, preset, folds, seed, parse_labels(label), options, network, padded, memory, initial, trust
        )
        settled = planned.plan
        print_report(planned.report)
        print_plan(settled, bundle)
        _say_time(bundle, planned.read_case_s, no_forecast)
        say(f"Every number and its reason: {bundle / 'configs' / 'plan.yaml'}")
        say(f"Next: unet-pipeline train {shlex.quote(str(bundle))}")
    write_json_option(json_file, settled.model_dump(mode="json"))


def _say_time(bundle: Path, read_case_s: float, skipped: bool) -> None:
    """How long the training will take; a bundle whose step cannot be timed is as good as any other."""
    if skipped:
        return
    from pipeline import verbs

    try:
        forecast = verbs.forecast_training(bundle, read_case_s)
    except PlanError as error:
        say(f"  time      not known. {error}")
        return
    print_training_forecast(forecast, bundle)


def _check_names(preset: str, network: str | None) -> None:
    from pipeline.planning.architecture import NETWORKS
    from pipeline.planning.presets import PRESETS

    if preset not in PRESETS:
        raise typer.BadParameter(f"--preset is {preset!r}; {suggest(preset, PRESETS)}")
    if network is not None and network not in NETWORKS:
        raise typer.BadParameter(f"--network is {network!r}; {suggest(network, NETWORKS)}")


def describe(
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
    write_json_option(json_file, network_as_data(description))
