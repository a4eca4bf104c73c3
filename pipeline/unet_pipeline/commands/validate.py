"""`validate` on the command line: size of the sample, protocol, and the one look at the data."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unet_pipeline.commands.options import DataRoot, Device, FollowLinks, Json, Trust, write_json_option
from unet_pipeline.commands.output import say, tell, tell_next
from unet_pipeline.commands.worker_options import Jobs
from unet_pipeline.errors import EvaluationError
from unet_pipeline.messages import show_cases

if TYPE_CHECKING:
    from unet_pipeline.studies.aim import ValidationAim
    from unet_pipeline.studies.external_validation import ValidationResult
    from unet_pipeline.studies.protocol import ValidationProtocol
    from unet_pipeline.studies.sample_size import SampleSize


class Action(StrEnum):
    """What to do."""

    SIZE = "size"
    PLAN = "plan"
    RUN = "run"


_PLACES = {
    Action.SIZE: ("[BUNDLE]", (0, 1)),
    Action.PLAN: ("BUNDLE PROTOCOL.yaml", (2,)),
    Action.RUN: ("PROTOCOL.yaml DATASET OUT", (3,)),
}
_HEAD = "size, plan: "
_RUN = "run: "


ActionName = Annotated[
    Action,
    typer.Argument(
        metavar="ACTION",
        help="size [BUNDLE]: patients that are needed; plan BUNDLE PROTOCOL.yaml: write and seal the protocol; "
        "run PROTOCOL.yaml DATASET OUT: open the data, decide once.",
    ),
]
Places = Annotated[list[Path] | None, typer.Argument(metavar="PLACES", help="As ACTION needs them.")]
Metric = Annotated[str, typer.Option(help=f"{_HEAD}such as dice.")]
Label = Annotated[
    str, typer.Option(metavar="NAME", help=f"{_HEAD}label to measure; the mean of the labels, if not given.")
]
Hypothesis = Annotated[str, typer.Option("--type", help=f"{_HEAD}noninferiority or superiority.")]
Margin = Annotated[
    float | None,
    typer.Option(help=f"{_HEAD}by which the bundle may be worse, or has to be better; 0.02 and 0 if not given."),
]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="VALUE|BUNDLE",
        help="What the bundle is compared with; its own out-of-fold mean, if not given. With run: where that bundle is now.",
    ),
]
Power = Annotated[float, typer.Option(help=f"{_HEAD}probability of showing it, if it is as expected.")]
Alpha = Annotated[float, typer.Option(help=f"{_HEAD}probability of a wrong yes, at most.")]
Analysis = Annotated[
    str | None,
    typer.Option(help=f"{_HEAD}bounded, for metrics between two ends, or t, with fewer patients and more trust."),
]
Expected = Annotated[
    float | None, typer.Option(help=f"{_HEAD}mean, or difference to the other bundle, on the new patients.")
]
Spread = Annotated[
    float | None, typer.Option(help=f"{_HEAD}standard deviation over patients; out-of-fold, if not given.")
]
ExclusionRules = Annotated[
    list[str] | None, typer.Option(metavar="RULE", help="plan: who is no patient of the study, in words; repeat.")
]
DataSha256 = Annotated[
    str | None, typer.Option("--data-sha256", help="plan: hash of the data, where their keeper has told it.")
]
Registered = Annotated[
    str | None, typer.Option(metavar="SHA256", help=f"{_RUN}hash of the protocol that was deposited elsewhere.")
]
MovedBundle = Annotated[Path | None, typer.Option(help=f"{_RUN}where the bundle is now, if it was moved.")]


def validate(
    action: ActionName,
    places: Places = None,
    metric: Metric = "dice",
    label: Label = "",
    hypothesis: Hypothesis = "noninferiority",
    margin: Margin = None,
    against: Against = None,
    power: Power = 0.8,
    alpha: Alpha = 0.05,
    analysis: Analysis = None,
    expected: Expected = None,
    spread: Spread = None,
    exclude: ExclusionRules = None,
    data_sha256: DataSha256 = None,
    registered: Registered = None,
    bundle: MovedBundle = None,
    device: Device = None,
    follow_links: FollowLinks = False,
    data_root: DataRoot = None,
    jobs: Jobs = 1,
    trust: Trust = False,
    json_file: Json = None,
) -> None:
    """Plan an external validation, seal the plan, and decide once."""
    import unet_pipeline

    given = _require_places(action, places or [])
    if action is Action.RUN:
        moved = {"bundle": bundle, "against": against, "registered": registered}
        reading = {"follow_links": follow_links, "data_root": data_root, "jobs": jobs}
        _run(given, {**moved, **reading, "device": device, "trust": trust}, json_file)
        return
    margin = (0.02 if hypothesis == "noninferiority" else 0.0) if margin is None else margin
    aim = unet_pipeline.ValidationAim(
        metric, label, hypothesis, margin, against, power, alpha, analysis, expected, spread
    )
    if action is Action.SIZE:
        _say_size(given[0] if given else None, aim, json_file)
        return
    protocol = unet_pipeline.plan_validation(given[0], given[1], aim, exclude or (), data_sha256)
    print_protocol(protocol, given[1])
    _say_other_analysis(given[0], aim, protocol.analysis)
    tell_next("validate", "run", given[1], "DATASET", "OUT", "--registered", protocol.sha256)
    write_json_option(json_file, protocol.model_dump(mode="json"))


def _require_places(action: Action, places: list[Path]) -> list[Path]:
    shown, numbers = _PLACES[action]
    if len(places) not in numbers:
        raise typer.BadParameter(f"`validate {action}` takes {shown}; got {len(places)} place(s)")
    return places


def _run(given: list[Path], options: dict[str, Any], json_file: Path | None) -> None:
    import unet_pipeline

    protocol, dataset, out = given
    result = unet_pipeline.validate(protocol, dataset, out, announce=tell, **options)
    print_validation(result, out)
    write_json_option(json_file, _as_data(result))


def _say_size(bundle: Path | None, aim: ValidationAim, json_file: Path | None) -> None:
    import unet_pipeline

    size = unet_pipeline.size_validation(bundle, aim)
    print_size(size)
    _say_other_analysis(bundle, aim, size.analysis)
    write_json_option(json_file, vars(size))


def print_size(size: SampleSize) -> None:
    """Patients, power, and what other numbers would give."""
    spread = f"given, {size.spread:.4g}" if not size.num_known else f"{size.spread:.4g} over {size.num_known} patients"
    say(
        f"patients {size.num_patients} (power {size.power:.2f}, analysis {size.analysis}, alpha {size.alpha:g} one-sided)"
    )
    say(f"planned  effect {size.effect:.4g} above the boundary, spread {spread}")
    say("others   " + ", ".join(f"{num}: power {power:.2f}" for num, power in size.others.items()))


def _say_other_analysis(bundle: Path | None, aim: ValidationAim, analysis: str) -> None:
    """How many patients the analysis that trusts more would need."""
    import unet_pipeline

    if analysis != "bounded":
        return
    try:
        other = unet_pipeline.size_validation(bundle, replace(aim, analysis="t"))
    except EvaluationError:
        return
    tell(
        f"         {other.num_patients} would do with --analysis t, which says yes too often where rare cases fail grossly; "
        "bounded counts with such cases although none was seen"
    )


def print_protocol(protocol: ValidationProtocol, path: Path) -> None:
    """What was sealed."""
    other = protocol.against if isinstance(protocol.against, float) else protocol.against.name
    say(f"protocol {path}")
    say(
        f"claim    {protocol.metric} of {protocol.label}: {protocol.hypothesis} against {other}, margin {protocol.margin:g}, "
        f"alpha {protocol.alpha:g} one-sided"
    )
    sample = protocol.sample
    say(
        f"patients {sample.num_patients} for a power of {sample.power:.2f}; spread {sample.spread:.4g} ({sample.source})"
    )
    say(f"sha256   {protocol.sha256}")
    tell("Deposit this hash where you cannot change it, before the data are opened: a registry, a letter, a commit.")


def print_validation(result: ValidationResult, out: Path) -> None:
    """Verdict, breaches, notes."""
    say(f"verdict  {result.verdict}")
    say(result.sentence)
    for breach in result.breaches:
        say(f"broken   {breach}")
    for note in result.notes:
        say(f"note     {note}")
    if result.excluded:
        say(f"left out {show_cases(len(result.excluded))} that a network was trained on")
    if result.num_undefined:
        say(f"left out {show_cases(result.num_undefined)} in which {result.protocol.metric} is undefined")
    say(f"record   {out / 'validation.json'}")


def _as_data(result: ValidationResult) -> dict[str, object]:
    from unet_pipeline.verbs.validate import validation_as_data

    return validation_as_data(result)
