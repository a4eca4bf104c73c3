"""`jobs` on the command line: how far a command is that works on many things."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.commands.options import Json, write_json_option
from unet_pipeline.commands.output import say

if TYPE_CHECKING:
    from unet_pipeline.cohort.status import Jobs

_MAX_SHOWN = 20


def jobs(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Output folder of a command that ran with --jobs or --engine; of `train`, the bundle."
        ),
    ],
    again: Annotated[
        bool,
        typer.Option("--again", help="Let the next run try again what was set aside: bad inputs, lost workers."),
    ] = False,
    json_file: Json = None,
) -> None:
    """Show what is done, running, failed and set aside, and the time left."""
    import unet_pipeline
    from unet_pipeline.cohort.status import jobs_as_data

    shown = unet_pipeline.jobs(out, again)
    print_jobs(shown)
    write_json_option(json_file, jobs_as_data(shown))


def print_jobs(jobs: Jobs) -> None:
    """The run, counts by state, what runs and what failed."""
    from unet_pipeline.progress import describe_time, format_duration

    say(f"{jobs.title:<8} {jobs.num_finished} of {jobs.num_items} done{_describe_state(jobs)}")
    others = {state: count for state, count in sorted(jobs.counts.items()) if state != "finished"}
    if others:
        say("states   " + ", ".join(f"{count} {state}" for state, count in others.items()))
    if jobs.left_s:
        say(f"left     {describe_time(jobs.left_s)} with {jobs.num_workers} worker(s)")
    for row in jobs.running[:_MAX_SHOWN]:
        begun = f", attempt {row.attempts}" if row.attempts > 1 else ""
        say(f"running  {row.name}{begun}, {format_duration(max(0.0, jobs.read_s - row.started))}")
    for row in jobs.failed[:_MAX_SHOWN]:
        say(f"failed   {row.name} ({row.state}): {row.message}")
    for name, rows in (("running", jobs.running), ("failed", jobs.failed)):
        if len(rows) > _MAX_SHOWN:
            say(f"{name:<8} and {len(rows) - _MAX_SHOWN} more; --json has all")


def _describe_state(jobs: Jobs) -> str:
    if jobs.is_alive:
        return f"; process {jobs.process} works on it"
    if jobs.is_alive is None:
        return f"; begun by process {jobs.process} on {jobs.host}"
    return "" if jobs.num_finished == jobs.num_items else "; nothing works on it, the same command goes on"
