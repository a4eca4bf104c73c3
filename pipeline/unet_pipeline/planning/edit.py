"""Changes single fields of a plan.yaml and leaves every other line as the user has it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from unet_pipeline.errors import PlanError
from unet_pipeline.files import write_text
from unet_pipeline.planning.earlier_plans import rename_keys
from unet_pipeline.planning.plan import Plan, build_plan_from, read_changes
from unet_pipeline.text_files import read_text


def edit_plan(path: Path, changes: Mapping[str, tuple[Any, str]]) -> Plan:
    """Give fields new values and reasons; a plan of an earlier version is brought along.

    Args:
        path: of a valid plan.yaml.
        changes: field to value and reason.

    Returns:
        The changed plan, which has been checked before it was written.

    Raises:
        PlanError: a field is missing in the file, or the changed plan is not valid; nothing is written.
    """
    lines = rename_keys(read_text(path)).splitlines()
    changes = {**read_changes(path), **changes}
    for name, (value, reason) in changes.items():
        at = next((index for index, line in enumerate(lines) if re.match(rf"{name}\s*:", line)), None)
        if at is None:
            raise PlanError(f"{path.parent.name}/{path.name} lacks the field {name!r}. Add it, or plan again.")
        comment = "# " + " ".join(reason.split())
        first = at
        while first and lines[first - 1].startswith("#"):
            first -= 1
        last = at + 1
        while last < len(lines) and lines[last].startswith((" ", "\t", "-")):  # a value over several lines
            last += 1
        lines[first:last] = [comment, f"{name}: {json.dumps(value, ensure_ascii=False)}"]
    text = "\n".join(lines) + "\n"
    plan = build_plan_from(yaml.safe_load(text), f"{path.parent.name}/{path.name}")
    write_text(path, text)
    return plan
