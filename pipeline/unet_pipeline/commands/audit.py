"""`audit` on the command line: what runs, what is wrong with it, files, hashes, and the verdict."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.commands.options import Json, write_json_option
from unet_pipeline.commands.output import say
from unet_pipeline.commands.problem_lines import say_wrapped

if TYPE_CHECKING:
    from unet_pipeline.audit.audit import Audit
    from unet_pipeline.messages import Problem


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
    import unet_pipeline
    from unet_pipeline.errors import BundleError

    result = unet_pipeline.audit(bundle, key)
    print_audit(result)
    write_json_option(json_file, audit_as_data(result))
    if not result.passed:
        first = result.dangers[0]
        raise BundleError(f"{describe_verdict(result)} The first: {first.where} {first.cause}. {first.remedy}")


_HASHES = (
    "file-changed",
    "evidence-changed",
    "file-gone",
    "file-added",
    "work-file",
    "not-sealed",
    "manifest",
    "signature",
)
_CODE = ("target", "expression", "text-names-code", "config-", "plan-", "key-repeated", "module", "logging")


def print_audit(result: Audit) -> None:
    """All of it; what is not allowed is marked with "!" where it stands and explained below."""
    from unet_pipeline.messages import show

    say(f"{show(result.name)}: {result.num_files} files; nothing of it was run")
    say("\nWhat runs when it is used (! not as `plan` writes it)")
    for file, group in groupby(result.runs, key=lambda run: run.file):
        say(f"  {show(file)}")
        for run in group:
            say(
                f"  {'!' if run.severity else ' '} {run.kind:<10} {show(run.place)}{'  ' if run.place else ''}{show(run.text)}"
            )
    if not result.runs:
        say("  nothing")
    for title, findings in group_findings(result.findings).items():
        say(f"\n{title}")
        for finding in findings:
            say_wrapped(str(finding), "  ")
        if not findings:
            say("  nothing to report")
    say(f"\n{describe_verdict(result)}")


def group_findings(findings: tuple[Problem, ...]) -> dict[str, list[Problem]]:
    """Findings by what they are about."""
    groups: dict[str, list[Problem]] = {"Code": [], "Files": [], "Hashes": []}
    for finding in findings:
        title = "Hashes" if finding.code.startswith(_HASHES) else "Code" if finding.code.startswith(_CODE) else "Files"
        groups[title].append(finding)
    return groups


def describe_verdict(result: Audit) -> str:
    """The last line."""
    if result.passed:
        return (
            "nothing found that runs but what `plan` writes for this plan, and nothing that leaves the bundle. An audit reads what a "
            "bundle says; it is no proof."
        )
    return f"needs trust: {len(result.dangers)} danger(s). Use it, with --trust, only if you know who made it."


def audit_as_data(result: Audit) -> dict[str, object]:
    """What `audit` prints, as plain values."""
    return {
        "name": result.name,
        "num_files": result.num_files,
        "passed": result.passed,
        "runs": [asdict(run) for run in result.runs],
        "findings": [asdict(finding) for finding in result.findings],
    }
