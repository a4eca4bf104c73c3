"""What the verbs print: results as lines and tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.dataset.check import CheckReport
    from pipeline.dataset.fingerprint import Fingerprint
    from pipeline.dataset.problems import Problem
    from pipeline.evaluation.tuning import Tuning
    from pipeline.evidence.network_drawing import Description
    from pipeline.evidence.reproduction import Reproduction
    from pipeline.planning.plan import Plan

_MAX_ALIKE = 5  # problems of one kind that are printed; `--json` and `--out` have all


def say(text: str = "") -> None:
    """One line on stdout, at once."""
    print(text, flush=True)


def flush_output() -> None:
    """Write what waits in stdout."""
    if sys.stdout is not None:
        sys.stdout.flush()


def show_path(path: Path) -> str:
    """A path as the user would type it: relative where it lies below the current folder."""
    resolved, here = path.resolve(), Path.cwd()
    return str(resolved.relative_to(here) if resolved.is_relative_to(here) else path)


def print_report(report: CheckReport) -> None:
    """What `check` found: the dataset in numbers, then the problems, worst first."""
    dataset = report.dataset
    say(f"{dataset.name}: {dataset.layout}, {len(dataset.cases)} cases")
    if report.fingerprint is not None:
        for line in _describe_fingerprint(report.fingerprint):
            say(f"  {line}")
    if report.patients:
        say(
            f"  patients  {len(set(report.patients.values()))} with {len(report.patients)} cases; kept together in every split"
        )
    for line in list_problems(report.problems):
        say(f"  {line}")
    if not report.problems:
        say("  no problem found")


def _describe_fingerprint(fingerprint: Fingerprint) -> Iterator[str]:
    is_picture = fingerprint.spatial_dims == 2
    shape = "x".join(map(str, fingerprint.median_shape()))
    yield f"channels  {', '.join(fingerprint.channels)}"
    yield f"labels    {', '.join(f'{name}={value}' for name, value in fingerprint.labels.items())}"
    yield f"images    {fingerprint.spatial_dims}D, median {shape} {'pixels' if is_picture else 'voxels'}"
    known = [size for case in fingerprint.cases for size in case.pixel_spacing_mm or ()]
    if known:
        yield f"spacing   {min(known):.4g} to {max(known):.4g} mm a pixel, from the dataset's table"


def list_problems(problems: Sequence[Problem]) -> Iterator[str]:
    """Problems in words; of many of one kind the first few and their number."""
    for _, group in groupby(problems, key=lambda problem: problem.severity):
        by_code: dict[str, list[Problem]] = {}
        for problem in group:
            by_code.setdefault(problem.code, []).append(problem)
        for alike in by_code.values():
            yield from map(str, alike[:_MAX_ALIKE])
            if len(alike) > _MAX_ALIKE:
                yield f"{alike[0].severity}: {len(alike) - _MAX_ALIKE} more files with the problem {alike[0].code!r}"


def print_plan(settled: Plan, bundle: Path) -> None:
    """A new plan in a few lines."""
    say(f"planned  {bundle}")
    say(
        f"  network   {settled.network_name}, {len(settled.filters)} levels, {'-'.join(map(str, settled.filters))} channels"
    )
    say(f"  patch     {'x'.join(map(str, settled.patch_size))}, batch {settled.batch_size}")
    say(f"  training  {settled.num_epochs} epochs of {settled.iterations_per_epoch} iterations")


def print_network(description: Description) -> None:
    """A network's levels as a table."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from pipeline.evidence.network_drawing import list_rows, summarize_network

    table = Table(title=description.network, box=SIMPLE_HEAD, title_justify="left")
    for heading in ("level", "part", "channels", "kernels", "output", "parameters"):
        table.add_column(heading, justify="right" if heading == "parameters" else "left")
    for row in list_rows(description):
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    for line in summarize_network(description):
        say(f"  {line}")


def network_as_data(description: Description) -> dict[str, Any]:
    """What `describe` prints, as plain values."""
    return asdict(description)


def print_tuning(tuning: Tuning) -> None:
    """What was tried as post-processing, and the temperature."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{tuning.num_cases} out-of-fold predictions", box=SIMPLE_HEAD, title_justify="left")
    for heading in ("label", "candidate", "n", "Dice before", "after", "95 % interval of the gain", "taken"):
        table.add_column(heading)
    for decision in tuning.decisions:
        interval = f"{decision.low:+.4f} to {decision.high:+.4f}" if decision.n > 1 else "-"
        scores = (f"{decision.before:.4f}", f"{decision.after:.4f}")
        taken = "yes" if decision.taken else "no"
        table.add_row(decision.label, decision.candidate, str(decision.n), *scores, interval, taken)
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    found = tuning.calibration
    if found.obstacle:
        say(f"temperature not changed: {found.obstacle} (calibration error {found.error_before:.4f})")
    else:
        say(
            f"temperature {found.temperature:.3f}: calibration error {found.error_before:.4f} before, {found.error_after:.4f} after; "
            f"loss {found.loss_before:.4f} and {found.loss_after:.4f} ({found.num_voxels:,} voxels)"
        )
    say("Results on the same cases are a little better than they will be on others, because the choice has seen them.")


def tuning_as_data(tuning: Tuning) -> dict[str, Any]:
    """What `tune` prints, as plain values."""
    return asdict(tuning)


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
