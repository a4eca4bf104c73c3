"""Writes docs/reference/plan.md from the fields of the plan and a ready bundle's reasons: `.venv/bin/python docs/build_plan.py`.

A test compares the file with what is made here, so that no number of a plan goes without its line.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from unet_pipeline.planning.plan import Plan

TARGET = Path(__file__).parent / "reference" / "plan.md"
EXAMPLE = Path(__file__).parents[1] / "bundles" / "hippocampus_mri" / "configs" / "plan.yaml"

_HEAD = """\
# plan.yaml

<!-- Made by docs/build_plan.py from the class Plan and bundles/hippocampus_mri; run it again after a change of the plan. -->

`BUNDLE/configs/plan.yaml` holds every number of a training and of its bundle, with the reason of each as a comment above it. Edit a
value, then write the configs again:

    unet-pipeline plan --refresh BUNDLE

The same names are ids at the top of `train.json` and `inference.json`, so `unet-pipeline train BUNDLE num_epochs=5` changes one for a
single run.

Example and reason are those of the ready bundle [hippocampus_mri](../../bundles/hippocampus_mri/docs/README.md); another dataset gets
others. Lists have one entry per axis, or per level of the network with the full resolution first.
"""
_TABLE = "\n| number | allowed | example | reason there |\n|---|---|---|---|\n"
_KINDS = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true, false", "null": "null"}


def build_plan_text() -> str:
    """Contents of docs/reference/plan.md."""
    schema, examples = Plan.model_json_schema()["properties"], read_examples(EXAMPLE.read_text(encoding="utf-8"))
    parts = [_HEAD]
    for line in inspect.getsource(Plan).splitlines():
        if group := re.match(r"    # (\w[\w ]*)", line):
            parts.append(f"\n## {group[1].capitalize()}\n{_TABLE}")
        elif (field := re.match(r"    (\w+):", line)) and field[1] in schema:
            # the first one has no group above it
            parts.append("" if len(parts) > 1 else f"\n## Preset\n{_TABLE}")
            value, reason = examples.get(field[1], ("", ""))
            cells = (f"`{field[1]}`", _describe(schema[field[1]]), f"`{value}`" if value else "", reason)
            parts.append("| " + " | ".join(cells) + " |\n")
    return "".join(parts)


def read_examples(text: str) -> dict[str, tuple[str, str]]:
    """Value and reason of each number of a plan.yaml."""
    found = re.findall(r"^# (.*)\n(\w+): (.*)$", text, re.MULTILINE)
    # an address of the maker's machine is no example
    return {
        name: (
            "" if name == "dataset_dir" else value,
            re.sub(r" \(docs/experiments\.md\)", "", reason).replace("|", r"\|"),
        )
        for reason, name, value in found
    }


def _describe(field: dict[str, Any]) -> str:
    """What a field takes, in words."""
    if "anyOf" in field:
        return " or ".join(_describe(option) for option in field["anyOf"])
    if "$ref" in field:
        return "numbers by name"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return "list"
    if field.get("type") == "object":
        return "`name: value`"
    return _KINDS[field["type"]] + _describe_bounds(field)


def _describe_bounds(field: dict[str, Any]) -> str:
    words = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "to"}
    bounds = [f"{word} {field[key]:g}" for key, word in words.items() if key in field]
    return f" {' '.join(bounds)}" if bounds else ""


if __name__ == "__main__":
    TARGET.write_text(build_plan_text(), encoding="utf-8")
