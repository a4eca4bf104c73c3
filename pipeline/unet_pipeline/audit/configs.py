"""Configs of a bundle, JSON and YAML: all that they run, and where they are not what `plan` writes.

They are read with loaders that build plain values only; nothing is evaluated. No name is known as harmless: what is equal to what
`plan` writes is trusted, and everything else that runs is listed.
"""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from unet_pipeline.messages import DANGER, WARNING, Message, Problem
from unet_pipeline.text_files import find_encoding

_MAX_VALUES = 200_000
TARGET, EXPRESSION, IMPORT, TEXT, MODULE = "target", "expression", "import", "text", "module"
_MAX_DEPTH = 200  # of YAML
# a text that components may look up and call, or that leads to another file or machine
_TELLING = re.compile(
    r"^%|^(?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*$|^(?:/(?!$)|~|[A-Za-z]:[\\/]|\\\\)|\b[a-z][a-z0-9+]*://", re.IGNORECASE
)
_INSIDE = re.compile(r"__\w+__")
_IMPORTS = re.compile(r"\$\s*(?:import|from)\s")
# they describe a bundle: addresses and names in them are read by people
_DESCRIPTIONS = ("metadata.json", "ro-crate-metadata.json")
PLAN = "configs/plan.yaml"

OUTSIDE_TARGET = Message.of_bundle(
    "target-outside",
    DANGER,
    "would call {texts}; `plan` writes otherwise",
    "A `_target_` is imported and called when the config is used, without any `$`.",
    "Use the bundle only if you know why it needs this.",
)
OUTSIDE_EXPRESSION = Message.of_bundle(
    "expression-outside",
    DANGER,
    "would evaluate {texts}; `plan` writes otherwise",
    "A text that begins with `$` is Python code that runs when the config is used.",
    "Use the bundle only if you know why it needs this.",
)
TEXT_TO_CODE = Message.of_bundle(
    "text-names-code",
    DANGER,
    "names {texts}; `plan` writes otherwise",
    "Components such as LoadImage import and call what a text names; others read or write there.",
    "Use the bundle only if you know why it needs this.",
)
CONFIG_DIFFERS = Message.of_bundle(
    "config-differs",
    DANGER,
    "is not what `plan` writes for configs/plan.yaml, at {texts}",
    "It was edited by hand, by somebody else, or written by another version of unet-pipeline.",
    "Write it again with `unet-pipeline plan --refresh BUNDLE` (and --force if it was edited by hand).",
)
NUMBERS_DIFFER = Message.of_bundle(
    "config-edited",
    WARNING,
    "has other numbers than configs/plan.yaml gives, or lacks them, at {texts}",
    "A number calls nothing, but results are not those of the plan.",
    "Edit the plan instead, and write the configs again with `unet-pipeline plan --refresh BUNDLE --force`.",
)
PLAN_RUNS = Message.of_bundle(
    "plan-runs",
    DANGER,
    "has {texts} where a config would run it",
    "The configs take their values from the plan.",
    "Use the bundle only if you know why it needs this.",
)
UNREADABLE_CONFIG = Message.of_bundle(
    "config-unreadable",
    DANGER,
    "cannot be read as {kind}: {cause}",
    "What it would do cannot be told; a tag of YAML can build any Python object.",
    "Get the bundle again, or take the file away.",
)
REPEATED_KEY = Message.of_bundle(
    "key-repeated",
    DANGER,
    "has the key {text} twice in one place",
    "Readers differ in which of both they take.",
    "Take one of them away.",
)


@dataclass(frozen=True)
class Runs:
    """Something in the bundle that is executed, or named for execution, when it is used.

    Attributes:
        file: relative to the root.
        place: id in a config, or line.
        kind: target, expression, import, text or module.
        text: dotted name, expression, text or module.
        severity: empty where `plan` writes the same.
    """

    file: str
    place: str
    kind: str
    text: str
    severity: str = ""


@dataclass(frozen=True)
class Config:
    """A config file as plain values, and what was wrong while reading it."""

    file: str
    content: Any
    findings: tuple[Problem, ...] = ()


def read_config(file: str, raw: bytes) -> Config:
    """Read JSON, or YAML by its ending; a file that cannot be read becomes a finding and an empty config."""
    kind = "YAML" if file.lower().endswith((".yaml", ".yml")) else "JSON"
    repeated: list[str] = []

    def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(values := dict(pairs)) == len(pairs):
            return values
        repeated.extend(sorted(key for key in values if [name for name, _ in pairs].count(key) > 1))
        return {f"{key} ({number})": value for number, (key, value) in enumerate(pairs, 1)}  # none escapes

    try:
        text = raw.decode(find_encoding(raw))
        content = _read_yaml(text) if kind == "YAML" else json.loads(text, object_pairs_hook=build)
        for number, _ in enumerate(iterate_values(content)):
            if number > _MAX_VALUES:
                raise ValueError("its aliases repeat it without end, or almost")
    except (ValueError, RecursionError, OverflowError) as error:
        cause = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        return Config(file, None, (UNREADABLE_CONFIG.about(file, kind=kind, cause=cause),))
    return Config(file, content, tuple(REPEATED_KEY.about(file, text=key) for key in repeated))


def _read_yaml(text: str) -> Any:
    """Plain values; libyaml's composer calls itself, and a text that is too deep would end the process."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            depth += type(event).__name__.endswith("StartEvent") - type(event).__name__.endswith("EndEvent")
            if depth > _MAX_DEPTH:
                raise RecursionError
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def iterate_values(content: Any) -> Iterator[tuple[str, str, Any]]:
    """Every value with its id and its last key, without recursion; the key of a mapping's inside comes as a value too."""
    pending: list[tuple[str, str, Any]] = [("", "", content)]
    while pending:
        place, key, value = pending.pop()
        yield place, key, value
        if isinstance(value, dict):
            pending += [(f"{place}#{part}".lstrip("#"), str(part), below) for part, below in reversed(value.items())]
        elif isinstance(value, list | tuple):
            pending += [(f"{place}#{part}".lstrip("#"), key, below) for part, below in reversed([*enumerate(value)])]


def list_runs(config: Config) -> Iterator[Runs]:
    """Everything in a config that is called or evaluated, and texts that may name code, files or other machines."""
    is_description = PurePosixPath(config.file).name in _DESCRIPTIONS
    for place, key, value in iterate_values(config.content):
        if _INSIDE.fullmatch(key):
            yield Runs(config.file, place, TEXT, key)
        if not isinstance(value, str):
            continue
        if value.startswith("$"):
            yield Runs(config.file, place, IMPORT if _IMPORTS.match(value) else EXPRESSION, value)
        elif key.startswith("_target_"):
            yield Runs(config.file, place.rpartition("#")[0], TARGET, value)
        elif value.startswith("%") or (not is_description and _names_something(key, value)):
            yield Runs(config.file, place, TEXT, value)


def _names_something(key: str, value: str) -> bool:
    """Whether a text may name code, a file or another machine, or is one of MONAI's own switches."""
    return bool(_TELLING.search(value)) or hasattr(builtins, value) or (key.startswith("_") and value[:1] != "@")


def compare(found: Any, expected: Any, place: str = "") -> Iterator[tuple[str, bool]]:
    """Places at which a config is another than `plan` writes it, and whether what is there cannot run anything.

    A number, true, false or null in the place of another value calls nothing, and nor does what is missing.
    """
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in found.keys() | expected.keys():
            below = f"{place}#{key}".lstrip("#")
            if key not in found or key not in expected:
                yield below, key not in found
            else:
                yield from compare(found[key], expected[key], below)
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for number, pair in enumerate(zip(found, expected, strict=True)):
            yield from compare(*pair, f"{place}#{number}")
    elif found != expected:
        yield place, not any(isinstance(value, str | dict) for _, _, value in iterate_values(found))


def audit_config(config: Config, expected: Any = None) -> tuple[list[Runs], list[Problem]]:
    """What one config runs and what is wrong with it.

    Args:
        config: as read.
        expected: what `plan` writes for the bundle's plan; None where it writes no such file.
    """
    runs, findings = list(list_runs(config)), list(config.findings)
    differences = [("", False)] if expected is None else sorted(compare(config.content, expected))
    others = [place for place, is_plain in differences if not is_plain]
    if expected is not None and others:
        findings.append(CONFIG_DIFFERS.about(config.file, texts=others))
    if numbers := [place for place, is_plain in differences if is_plain]:
        findings.append(NUMBERS_DIFFER.about(config.file, texts=numbers))
    inside = [f"{place}#".lstrip("#") for place in others]
    runs = [replace(run, severity=DANGER) if _lies_in(run, inside) else run for run in runs]
    return runs, findings + list(judge_runs(config.file, [run for run in runs if run.severity]))


def _lies_in(run: Runs, places: list[str]) -> bool:
    whole = f"{run.place}#_target_#" if run.kind == TARGET else f"{run.place}#"
    return any(whole.lstrip("#").startswith(place) for place in places)


def judge_runs(file: str, runs: list[Runs]) -> Iterator[Problem]:
    """One finding for each kind of what runs and is not as `plan` writes it."""
    for notice, kinds in (
        (OUTSIDE_TARGET, (TARGET,)),
        (OUTSIDE_EXPRESSION, (IMPORT, EXPRESSION)),
        (TEXT_TO_CODE, (TEXT,)),
    ):
        if texts := list(dict.fromkeys(run.text for run in runs if run.kind in kinds)):
            yield notice.about(file, texts=texts)
