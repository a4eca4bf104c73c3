"""plan.yaml as text: each field on a line with its reason above it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from unet_pipeline.errors import PlanError
from unet_pipeline.files import write_text
from unet_pipeline.planning.earlier_plans import rename_keys
from unet_pipeline.planning.instance_rules import list_unused
from unet_pipeline.planning.plan import Plan
from unet_pipeline.text_files import read_text

_HEADER = """\
# The plan of this bundle: every number, each with its reason. Made by `unet-pipeline plan`.
# Edit a value, then run `unet-pipeline plan --refresh BUNDLE` to write the configs again.
"""


def write_plan(path: Path, plan: Plan, reasons: Mapping[str, str]) -> None:
    """Write plan.yaml: one line per field, its reason as a comment above it.

    Raises:
        PlanError: a field has no reason.
    """
    lines = [_HEADER]
    for name, value in plan.model_dump(mode="json", exclude=list_unused(plan)).items():
        if name not in reasons:
            raise PlanError(f"The plan's field {name} has no reason; expected one from the planning rules.")
        lines.append("# " + " ".join(reasons[name].split()))  # a line break would end the comment
        lines.append(f"{name}: {json.dumps(value, ensure_ascii=False)}")  # JSON is YAML, on one line
        lines.append("")
    write_text(path, "\n".join(lines))


def read_reasons(path: Path) -> dict[str, str]:
    """The comment above each field of plan.yaml, without its mark; "" for a field whose comment was taken away."""
    reasons: dict[str, str] = {}
    comment: list[str] = []
    for line in rename_keys(read_text(path, PlanError)).splitlines():
        name = line.partition(":")[0].strip()
        if line.startswith("#"):
            comment.append(line.lstrip("# ").rstrip())
        elif name in Plan.model_fields and not line.startswith((" ", "\t")):
            reasons[name] = " ".join(comment)
            comment = []
        elif not line.strip():
            comment = []
    return reasons
