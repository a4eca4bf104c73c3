"""`plan` on the command line, and what it prints about the plan and the time of its training."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.commands.check import print_report, say_unnamed
from unet_pipeline.commands.options import (
    Also,
    CopyHeader,
    DataRoot,
    Decisions,
    FollowLinks,
    Json,
    Labels,
    LabelsAreInstances,
    Layout,
    MissingChannels,
    Overlaps,
    PagesAsSlices,
    Patient,
    ResampleLabels,
    Site,
    Trust,
    completing,
    parse_labels,
    parse_memory,
    read_options,
    write_json_option,
)
from unet_pipeline.commands.output import say, tell, tell_next
from unet_pipeline.errors import PlanError, suggest
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.progress import describe_time

if TYPE_CHECKING:
    from unet_pipeline.planning.plan import Plan
    from unet_pipeline.training.forecast import TrainingForecast
    from unet_pipeline.verbs.plan import PlannedFolder


def _list_presets() -> Iterable[str]:
    from unet_pipeline.planning.presets import PRESETS

    return PRESETS


Preset = Annotated[
    str,
    typer.Option(
        help="quick (minutes on a CPU), standard, or full (nnU-Net's length).", autocompletion=completing(_list_presets)
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"{', '.join(NETWORKS)}; {next(iter(NETWORKS))} if not given.",
        autocompletion=completing(lambda: NETWORKS),
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
ForOtherSites = Annotated[
    bool,
    typer.Option(
        "--for-other-sites", help="Train for images of other hospitals: stain, contrast, scale and more vary."
    ),
]
_SHORTEST = ("quick", "demo")  # presets that none is shorter than


def plan(
    dataset: Annotated[Path | None, typer.Argument(metavar="DATASET", help="Labelled folder.")] = None,
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="Folder of the bundle; it must not exist yet.")
    ] = None,
    preset: Preset = "standard",
    network: Network = None,
    padded: Padded = False,
    for_other_sites: ForOtherSites = False,
    memory: MemoryGib = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the weights and the augmentation.")] = 0,
    initial: Initial = None,
    trust: Trust = False,
    label: Labels = None,
    layout: Layout = None,
    patient: Patient = None,
    site: Site = None,
    copy_header: CopyHeader = False,
    resample_labels: ResampleLabels = False,
    pages_as_slices: PagesAsSlices = False,
    labels_are_instances: LabelsAreInstances = None,
    overlaps: Overlaps = False,
    missing_channels: MissingChannels = None,
    follow_links: FollowLinks = False,
    data_root: DataRoot = None,
    decisions: Decisions = None,
    also: Also = None,
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
    import unet_pipeline
    from unet_pipeline.lean_imports import arrange_lean_import
    from unet_pipeline.planning.instance_rules import list_unused

    if refresh is not None:
        effective = _refresh(refresh, force, no_forecast)
    else:
        if dataset is None or bundle is None:
            raise typer.BadParameter("expected DATASET and BUNDLE, or --refresh BUNDLE")
        reading = (layout, patient, copy_header, resample_labels, pages_as_slices, follow_links, labels_are_instances)
        if no_forecast:  # then MONAI is there to count the network only
            arrange_lean_import(with_label_maps=False)
        choices = (network, padded, parse_memory(memory), initial, trust, data_root, decisions, for_other_sites)
        names, options = parse_labels(label, bool(also)), read_options(*reading, site, overlaps, missing_channels)
        further = (names, options, *choices, also or ())
        planned = unet_pipeline.plan(dataset, bundle, preset, folds, seed, *further, announce=tell)
        _say_planned(planned, bundle, no_forecast)
        effective = planned.plan
    write_json_option(json_file, effective.model_dump(mode="json", exclude=list_unused(effective)))


def _say_planned(planned: PlannedFolder, bundle: Path, no_forecast: bool) -> None:
    print_report(planned.report)
    if options_of_labels := planned.report.suggest_label_options():
        say_unnamed(planned.report, f"to name them, plan into another folder with {options_of_labels}")
    print_plan(planned.plan, bundle)
    _say_time(bundle, planned.read_case_s, no_forecast)
    say(f"Every number and its reason: {bundle / 'configs' / 'plan.yaml'}")
    tell_next("train", bundle)


def _refresh(bundle: Path, force: bool, no_forecast: bool) -> Plan:
    import unet_pipeline
    from unet_pipeline.bundle.folder import open_bundle
    from unet_pipeline.planning.plan import read_notes

    notes = read_notes(open_bundle(bundle).plan)
    effective = unet_pipeline.refresh(bundle, force)
    for note in notes:
        say(f"configs/plan.yaml: {note}.")
    say(f"Configs of {bundle} written again from its plan.yaml.")
    _say_time(bundle, 0.0, no_forecast)
    return effective


def _say_time(bundle: Path, read_case_s: float, skipped: bool) -> None:
    """How long the training will take; a bundle whose step cannot be timed is as good as any other."""
    if skipped:
        return
    import unet_pipeline

    try:
        forecast = unet_pipeline.forecast_training(bundle, read_case_s)
    except PlanError as error:
        say(f"  time      not known. {error}")
        return
    print_training_forecast(forecast, bundle)


def _check_names(preset: str, network: str | None) -> None:
    from unet_pipeline.planning.presets import PRESETS

    if preset not in PRESETS:
        raise typer.BadParameter(f"--preset is {preset!r}; {suggest(preset, PRESETS)}")
    if network is not None and network not in NETWORKS:
        raise typer.BadParameter(f"--network is {network!r}; {suggest(network, NETWORKS)}")


def print_plan(effective: Plan, bundle: Path) -> None:
    """A new plan in a few lines."""
    say(f"planned  {bundle}")
    say(
        f"  network   {effective.network_name}, {len(effective.filters)} levels, {'-'.join(map(str, effective.filters))} channels"
    )
    say(f"  patch     {'x'.join(map(str, effective.patch_size))}, batch {effective.batch_size}")
    say(f"  training  {effective.num_epochs} epochs of {effective.iterations_per_epoch} iterations")


def print_training_forecast(forecast: TrainingForecast, bundle: Path) -> None:
    """How long the training will take on this machine and, where that is more than the preset promises, what to do."""
    steps = f"{forecast.num_steps:,} steps of {_describe_step(forecast.step_s)} on {forecast.device}"
    say(f"  time      {describe_time(forecast.total_s)} for one fold on this machine ({steps})")
    if forecast.slowdown > 1:
        busy = describe_time(forecast.total_s * forecast.slowdown)
        say(f"            when nothing else runs; {busy} beside the other work that runs now")
    if forecast.peak_gib is not None:
        say(f"  memory    {forecast.peak_gib:.1f} GiB of {forecast.device} in a step, as measured")
    if forecast.reading_s > forecast.total_s / 2:
        say(
            f"            most of it is reading images: {forecast.cache_rate:.0%} of them stay in memory; a larger cache_rate in plan.yaml "
            "helps where there is memory for it"
        )
    if forecast.promised_s is None or forecast.keeps_promise:
        return
    promised = describe_time(forecast.promised_s).removeprefix("about ")
    changes = " ".join(f"{key}={value}" for key, value in forecast.shorten().items())
    say(
        f"            the preset {forecast.preset} promises {promised} at most, which this machine cannot keep. Train on a GPU,"
    )
    say(
        f"            or shorter and most likely less accurately: unet-pipeline train {shlex.quote(str(bundle))} {changes}"
    )
    if forecast.preset not in _SHORTEST:
        say("            or plan again with --preset quick")


def _describe_step(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.3g} s"
