"""`check` on the command line, and the lines in which a dataset and its problems are shown."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.commands.options import (
    Also,
    CopyHeader,
    DataRoot,
    Dataset,
    Decisions,
    Exclude,
    Fix,
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
    parse_labels,
    read_options,
    write_json_option,
)
from unet_pipeline.commands.output import say, show_path, tell, tell_next
from unet_pipeline.commands.problem_lines import print_problems, say_wrapped
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import show_cases, show_shape

if TYPE_CHECKING:
    from unet_pipeline.dataset.check import CheckReport
    from unet_pipeline.dataset.fingerprint import Fingerprint
    from unet_pipeline.dataset.fix import FixedDataset
    from unet_pipeline.dataset.fix_record import Change


def check(
    context: typer.Context,
    dataset: Dataset,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for check.html, contact_sheet.png, problems.json, fingerprint.json, dataset_manifest.json."
        ),
    ] = None,
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
    fix: Fix = None,
    exclude: Exclude = None,
    decisions: Decisions = None,
    also: Also = None,
    json_file: Json = None,
) -> None:
    """Read every file of a dataset; list problems and what to do about each."""
    import unet_pipeline

    _refuse_contradictions(fix, exclude, decisions, also)
    labels = parse_labels(label, bool(also))
    reading = (layout, patient, copy_header, resample_labels, pages_as_slices, follow_links)
    options = read_options(*reading, labels_are_instances, site, overlaps, missing_channels)
    fixed = None if fix is None else unet_pipeline.fix(dataset, fix, labels, options, exclude or (), data_root, tell)
    report = (
        unet_pipeline.check(
            dataset, out, labels, options, data_root, decisions, with_tiles=False, also=also or (), announce=tell
        )
        if fixed is None or out
        else fixed.source
    )
    print_report(report)
    if options_of_labels := report.suggest_label_options():
        say_unnamed(report, f"name them with: {_repeat_command(context)} {options_of_labels}")
    if out is not None:
        say(f"  written to {out}; look at {out / 'check.html'} in a browser")
    if json_file is not None:
        from unet_pipeline.dataset.report import describe_report

        write_json_option(json_file, describe_report(report).model_dump(mode="json"))
    if fixed is not None:
        _finish_fix(fixed)
    else:
        _finish(report, context, dataset)


def _finish(report: CheckReport, context: typer.Context, dataset: Path) -> None:
    """End with the first error, or say what to do next."""
    if report.errors:
        first = report.errors[0]
        raise DatasetError(
            f"{len(report.errors)} error(s) in {report.dataset.name}; the list above says what to do about each. "
            f"The first: {first.file} {first.cause}."
        )
    bundle = f"{dataset.resolve().stem}_bundle"
    tell_next("plan", dataset, bundle, "--preset", "quick", *_repeat_options(context, "plan"))


def _refuse_contradictions(
    fix: Path | None, exclude: list[str] | None, decisions: Path | None, also: list[Path] | None
) -> None:
    """Options that exclude each other are wrong usage."""
    if exclude and fix is None:
        raise typer.BadParameter("--exclude is for --fix OUT, which is not given")
    if decisions is not None and fix is not None:
        raise typer.BadParameter("--decisions and --fix exclude each other; give the file to `check` or `plan` after")
    if also and fix is not None:
        raise typer.BadParameter("--also and --fix exclude each other; correct the datasets one by one")


def _repeat_options(context: typer.Context, verb: str) -> Iterator[str]:
    """The options of this call that another verb has too, as they are typed."""
    other = context.find_root().command.commands[verb]  # type: ignore[attr-defined]
    known = {name for parameter in other.params for name in parameter.opts} - {"--json"}
    for parameter in context.command.params:
        name, value = parameter.opts[0], context.params[parameter.name or ""]
        if name in known and name.startswith("--") and value:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                yield from (name,) if one is True else (name, str(one))


def say_unnamed(report: CheckReport, advice: str) -> None:
    """Which label values have no name, and what to do."""
    say_wrapped(f"label values without a name: {', '.join(map(str, report.unnamed_values))}; {advice}", "  ")


def _repeat_command(context: typer.Context) -> str:
    """The command as the user gave it, without its labels, ready to be pasted with all labels behind it."""
    words = ["unet-pipeline", context.info_name or "check"]
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "") if parameter.name != "label" else None
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is None or one is False:
                continue
            is_option = parameter.param_type_name == "option"
            words += [*parameter.opts[:1]] * is_option + [str(one)] * (one is not True)
    return shlex.join(words)


def _finish_fix(fixed: FixedDataset) -> None:
    """Say what was changed, and end with status 1 where errors are left."""
    print_fixes(fixed)
    if remaining := fixed.record.not_fixed:
        first = remaining[0]
        raise DatasetError(
            f"{len(remaining)} error(s) could not be corrected in {show_path(fixed.out)}; the list above says what to do about each. "
            f"The first: {first.file} {first.cause}."
        )
    names = ",".join(fixed.source.options.missing_channels)  # which is said again: the copy lacks the same
    lacking = ["--missing-channels", names] if names else []
    tell_next("plan", fixed.out, f"{fixed.out.resolve().name}_bundle", "--preset", "quick", *lacking)


def print_report(report: CheckReport) -> None:
    """What `check` found: the dataset in numbers, then the problems, worst first."""
    dataset = report.dataset
    say(f"{dataset.name}: {dataset.layout}, {show_cases(len(dataset.cases))}")
    if report.fingerprint is not None:
        for line in _describe_fingerprint(report.fingerprint):
            say_wrapped(line, "  ")
    if report.patients:
        patients = f"{len(set(report.patients.values()))} with {len(report.patients)} cases"
        say_wrapped(f"patients  {patients}; kept together in every split", "  ")
    if report.sites:
        counts = Counter(report.sites.values())
        say_wrapped(
            f"sites     {', '.join(f'{name} ({counts[name]})' for name in sorted(counts))}; one is left out of each fold",
            "  ",
        )
    print_problems(report.problems)
    if not report.problems:
        say("  no problem found")


def _describe_fingerprint(fingerprint: Fingerprint) -> Iterator[str]:
    is_picture = fingerprint.spatial_dims == 2
    shape = show_shape(fingerprint.median_shape())
    yield f"channels  {', '.join(fingerprint.channels)}"
    yield f"labels    {', '.join(f'{name}={value}' for name, value in fingerprint.labels.items())}"
    yield f"images    {fingerprint.spatial_dims}D, median {shape} {'pixels' if is_picture else 'voxels'}"
    known = [size for case in fingerprint.cases for size in case.pixel_spacing_mm or ()]
    if known:
        yield f"spacing   {min(known):.4g} to {max(known):.4g} mm a pixel, from the dataset's table"


_MAX_FILES = 5  # of one kind that are named; fixes.json has all


def print_fixes(fixed: FixedDataset) -> None:
    """The copy, its changes by kind, what they ask to look at, and the errors that are left with their remedies."""
    from unet_pipeline.dataset.fix_record import FIXES_FILE, KINDS

    shown = show_path(fixed.out)
    say(f"corrected copy  {shown}")
    changes = fixed.record.changes
    for kind, words in KINDS.items():
        if alike := [change for change in changes if change.kind == kind]:
            say(f"  {words}: {_list_files(alike)}")
    if not changes:
        say("  nothing had to be changed; all files were copied as they are")
    say(f"  every change with its values: {show_path(fixed.out / FIXES_FILE)}")
    if left_out := fixed.record.left_out:
        say(f"  not copied (links that lead elsewhere, or no readable files): {_shorten(left_out)}")
    if any(change.kind in ("header-copied", "label-resampled") for change in changes):
        say(f"  see that the outlines fit the images: unet-pipeline check {shown} --out {Path(shown).name}_report")
    if fixed.record.not_fixed:
        say("not corrected")
        _print_remaining(fixed)


def _print_remaining(fixed: FixedDataset) -> None:
    from unet_pipeline.messages import Problem

    problems = [
        Problem(one.severity, one.file, f"{one.cause}{f' ({one.reason})' if one.reason else ''}", one.remedy, one.code)
        for one in fixed.record.not_fixed
    ]
    print_problems(problems)


def _list_files(changes: list[Change]) -> str:
    """The files of changes of one kind; of names their values."""
    if changes[0].kind == "labels-named":
        return ", ".join(f"{name}={value}" for name, value in changes[0].after.items())
    if changes[0].kind == "patients-named":
        return f"{len(set(changes[0].after.values()))} with {len(changes[0].after)} cases"
    if changes[0].kind == "channels-named":
        return ", ".join(changes[0].after)
    return _shorten(
        [change.result or change.file if change.kind == "list-written" else change.file for change in changes]
    )


def _shorten(files: list[str]) -> str:
    more = len(files) - _MAX_FILES
    return ", ".join(files[:_MAX_FILES]) + (f" and {more} more" if more > 0 else "")
