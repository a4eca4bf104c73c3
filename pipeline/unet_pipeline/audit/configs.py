"""Configs of a bundle, JSON and YAML: every `_target_` and every `$` expression, and what is wrong with them.

They are read with loaders that build plain values only. An expression is parsed as MONAI would parse it, and not evaluated.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from unet_pipeline.audit.code import (
    ADDRESS,
    NAMES_CODE,
    REFERENCES,
    Scope,
    bound_names,
    inspect_tree,
    judge_code_name,
    judge_text,
    list_imports,
)
from unet_pipeline.audit.findings import DANGER, NOTE, WARNING, Finding, Notice
from unet_pipeline.audit.names import classify
from unet_pipeline.audit.own_package import is_earlier, judge_targets

MAX_CONFIG_BYTES = 32 << 20
_MAX_VALUES = 200_000
TARGET, EXPRESSION, IMPORT, MODULE, SCRIPT = "target", "expression", "import", "module", "script"
_REFERENCE = re.compile(r"@(?:\w*)(?:::\w*)*")  # as monai.bundle.ReferenceResolver.id_matcher
_MACRO = re.compile(r"^%(?P<file>.*?\.(?:json|ya?ml))?(?:#|::)", re.IGNORECASE | re.DOTALL)
_ABSOLUTE = re.compile(r"^(?:/(?!$)|~|[A-Za-z]:[\\/])")
_INSIDE = re.compile(r"__\w+__")
# folders of results and documents, of which nothing is run
RESULTS = frozenset(("evidence", "docs", "output", "input"))
_MAX_DEPTH = 200  # of YAML
_YAML_TAG_OF_PLAIN_VALUES = "tag:yaml.org,2002:"
# what MONAI itself puts into every expression
_GIVEN = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}

OUTSIDE_TARGET = Notice(
    "target-outside",
    DANGER,
    "calls {text}, which {reason}",
    "A `_target_` is imported and called when the config is used, without any `$`.",
    "Use the bundle only if you know why it needs this.",
)
OUTSIDE_EXPRESSION = Notice(
    "expression-outside",
    DANGER,
    "evaluates {expression}, where {text} {reason}",
    "A text that begins with `$` is Python code that runs when the config is used.",
    "Use the bundle only if you know why it needs this.",
)
SENDS = Notice(
    "may-send",
    WARNING,
    "calls {text}, which {reason}",
    "Images or results may leave this machine.",
    "Look where it sends them before you use the bundle on patients' data.",
)
UNPARSED_EXPRESSION = Notice(
    "expression-unparsed",
    DANGER,
    "has the expression {expression}, which is no Python",
    "What it does cannot be told.",
    "Use the bundle only if you know why it needs this.",
)
TEXT_TO_CODE = Notice(
    "text-names-code",
    DANGER,
    "has the value {text}, which {reason}",
    "Components such as LoadImage import and call what a text names.",
    "Use the bundle only if you know why it needs this.",
)
NETWORK_ADDRESS = Notice(
    "network-address",
    WARNING,
    "names the network address {text}",
    "Something may be fetched from there or sent there.",
    "Look what it is for; use the bundle without a network if you are not sure.",
)
DOCUMENTED_ADDRESS = Notice(
    "network-address-in-metadata",
    NOTE,
    "names {text}",
    "It is a reference; nothing opens it by itself.",
    "Nothing to do.",
)
ABSOLUTE_PATH = Notice(
    "absolute-path",
    WARNING,
    "has the absolute path {text}",
    "What is read or written there lies outside of the bundle.",
    "Give another path when you run it, or make it relative to the bundle.",
)
MACRO_OUTSIDE = Notice(
    "macro-outside",
    DANGER,
    "takes a part from {text}, which is no config of this bundle",
    "What that file holds would run as a part of this config.",
    "Use the bundle only together with that file, once you have looked at it.",
)
DEBUG_MODE = Notice(
    "debug-mode",
    WARNING,
    "asks for the debugger",
    "Whoever runs it gets a Python prompt in the middle of the run.",
    "Take `_mode_` away.",
)
YAML_TAG = Notice(
    "yaml-tag",
    DANGER,
    "has the YAML tag {text}",
    "A loader that follows tags builds any Python object; MONAI refuses the file.",
    "Do not open it with yaml.load or yaml.unsafe_load.",
)
UNREADABLE_CONFIG = Notice(
    "config-unreadable",
    DANGER,
    "cannot be read as {kind}: {cause}",
    "What it would do cannot be told.",
    "Get the bundle again, or take the file away.",
)
REPEATED_KEY = Notice(
    "key-repeated",
    WARNING,
    "has the key {text} twice in one place",
    "Readers differ in which of both they take.",
    "Take one of them away.",
)


@dataclass(frozen=True)
class Runs:
    """Something in the bundle that is executed when it is used.

    Attributes:
        file: relative to the root.
        place: id in a config, or line.
        kind: target, expression, import, module or script.
        text: dotted name, expression or module.
        severity: empty where it is allowed.
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
    findings: tuple[Finding, ...] = ()


class _TooMuchError(ValueError):
    """More values than a config can need."""


def read_config(file: str, raw: bytes) -> Config:
    """Read JSON, or YAML by its ending; a file that cannot be read becomes a finding and an empty config."""
    kind = "YAML" if file.lower().endswith((".yaml", ".yml")) else "JSON"
    findings: list[Finding] = []
    try:
        text = raw.decode("utf-8-sig")
        content = _read_yaml(file, text, findings) if kind == "YAML" else _read_json(file, text, findings)
    except (ValueError, RecursionError, OverflowError) as error:
        cause = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        return Config(file, None, (*findings, UNREADABLE_CONFIG.about(file, kind=kind, cause=cause)))
    return Config(file, content, tuple(findings))


def _read_json(file: str, text: str, findings: list[Finding]) -> Any:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        findings.extend(REPEATED_KEY.about(file, text=key) for key in sorted({k for k in keys if keys.count(k) > 1}))
        return dict(pairs) if len(set(keys)) == len(keys) else _keep_all(pairs)

    return json.loads(text, object_pairs_hook=build)


def _keep_all(pairs: list[tuple[str, Any]]) -> dict[str, object]:
    """Repeated keys get a number, so that no value escapes."""
    found: dict[str, object] = {}
    for key, value in pairs:
        name, number = key, 2
        while name in found:
            name, number = f"{key} ({number})", number + 1
        found[name if key != "_target_" or name == key else f"_target_#{number}"] = value
    return found


def _check_depth(events: Iterator[Any]) -> None:
    """Whether YAML is shallow enough to be composed: libyaml's composer calls itself, and one that is too deep ends the process."""
    depth = 0
    for event in events:
        depth += type(event).__name__.endswith("StartEvent") - type(event).__name__.endswith("EndEvent")
        if depth > _MAX_DEPTH:
            raise RecursionError


def _read_yaml(file: str, text: str, findings: list[Finding]) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_depth(yaml.parse(text, Loader=loader))
        documents = list(yaml.compose_all(text, Loader=loader))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    budget = [_MAX_VALUES]
    built = [_build_yaml(file, node, findings, budget, ()) for node in documents if node is not None]
    return built[0] if len(built) == 1 else built


def _build_yaml(file: str, node: Any, findings: list[Finding], budget: list[int], above: tuple[int, ...]) -> Any:
    """Plain values of a YAML node; tags are reported, aliases are followed as often as the budget allows."""
    import yaml

    budget[0] -= 1
    if budget[0] < 0 or id(node) in above:
        raise _TooMuchError("its aliases repeat it without end, or almost")
    plain = node.tag.startswith(_YAML_TAG_OF_PLAIN_VALUES)
    if not plain or node.tag.removeprefix(_YAML_TAG_OF_PLAIN_VALUES).startswith("python"):
        findings.append(YAML_TAG.about(file, f"line {node.start_mark.line + 1}", text=node.tag))
    inside = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        return [_build_yaml(file, item, findings, budget, inside) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        pairs = [
            (str(_build_yaml(file, key, findings, budget, inside)), _build_yaml(file, value, findings, budget, inside))
            for key, value in node.value
        ]
        keys = [key for key, _ in pairs]
        findings.extend(
            REPEATED_KEY.about(file, text=key) for key in sorted({k for k in keys if k != "<<" and keys.count(k) > 1})
        )
        return dict(pairs) if len(set(keys)) == len(keys) else _keep_all(pairs)
    if node.tag == f"{_YAML_TAG_OF_PLAIN_VALUES}bool":
        return node.value.lower() in ("true", "yes", "on")
    return node.value


def iterate_values(content: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every value with its id and the mapping or list that it lies in, without recursion."""
    pending: list[tuple[str, Any, Any]] = [(key, content, None)]
    while pending:
        place, value, parent = pending.pop()
        yield place, value, parent
        if isinstance(value, dict):
            pending += [(f"{place}#{part}".lstrip("#"), below, value) for part, below in reversed(value.items())]
        elif isinstance(value, list):
            pending += [
                (f"{place}#{part}".lstrip("#"), below, value) for part, below in reversed(list(enumerate(value)))
            ]


def parse_expression(text: str) -> ast.Module:
    """Syntax tree of a `$` expression, with its references replaced exactly as MONAI does.

    Raises:
        ValueError: it is no Python.
    """
    value = text.replace("#", "::")
    for reference in sorted(set(_REFERENCE.findall(value)), key=len, reverse=True):
        value = value.replace(reference, f"{REFERENCES}['{reference[1:]}']")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(value[1:].strip())
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("no Python") from error


def list_config_imports(configs: list[Config]) -> dict[str, str]:
    """What the `$import` statements of all configs bring in; they may be used together."""
    imported = dict(_GIVEN)
    for config in configs:
        for _, value, _ in iterate_values(config.content):
            if isinstance(value, str) and value.startswith("$") and "import" in value:
                try:
                    imported |= list_imports(parse_expression(value))
                except ValueError:
                    continue
    return imported


def audit_config(config: Config, imported: dict[str, str], own: frozenset[str]) -> tuple[list[Runs], list[Finding]]:
    """What one config runs and what is wrong with it.

    Args:
        config: as read.
        imported: from `list_config_imports`.
        own: modules of the bundle.
    """
    runs: list[Runs] = []
    findings = list(config.findings)
    for place, value, parent in iterate_values(config.content):
        if isinstance(value, dict):
            findings += [
                TEXT_TO_CODE.about(config.file, place, text=name, reason="names the inside of Python objects")
                for name in value
                if _INSIDE.fullmatch(name)
            ]
        if not isinstance(value, str):
            continue
        key = place.rpartition("#")[2]
        in_mapping = isinstance(parent, dict)
        if value.startswith("$"):
            found = _audit_expression(config.file, place, value, Scope(imported, own))
        elif (in_mapping and place.endswith("_target_")) or "#_target_#" in f"#{place}#":
            found = _audit_target(config.file, place, value, parent, own)
        else:
            found = None, _audit_value(config.file, place, key, value, own)
        run, problems = found
        runs += [run] if run else []
        findings += problems
    findings += judge_targets(config.file, (run.text for run in runs if run.kind == TARGET))
    return runs, findings


def _audit_target(
    file: str, place: str, name: str, parent: Any, own: frozenset[str]
) -> tuple[Runs | None, list[Finding]]:
    if name.startswith("@"):
        return None, []  # what it refers to is judged where it stands
    owner = place.removesuffix("#_target_") if "#" in place else ""
    if is_earlier(file, name):
        return Runs(file, owner, TARGET, name, WARNING), []
    verdict = classify(name, own)
    if name == "torch.load" and isinstance(parent, dict) and parent.get("weights_only") is True:
        return Runs(file, owner, TARGET, name), []
    run = Runs(file, owner, TARGET, name, verdict.severity)
    if verdict.severity:
        notice = SENDS if verdict.severity == WARNING else OUTSIDE_TARGET
        return run, [notice.about(file, owner, text=name, reason=verdict.reason)]
    return run, []


def _audit_expression(file: str, place: str, text: str, scope: Scope) -> tuple[Runs | None, list[Finding]]:
    try:
        tree = parse_expression(text)
    except ValueError:
        return Runs(file, place, EXPRESSION, text, DANGER), [UNPARSED_EXPRESSION.about(file, place, expression=text)]
    kind = IMPORT if any(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body) else EXPRESSION
    local = Scope(scope.imported, scope.own, bound_names(tree))
    findings = []
    for suspicion in inspect_tree(tree, local):
        if suspicion.verdict.severity == DANGER:
            notice = OUTSIDE_EXPRESSION.about(
                file, place, expression=text, text=suspicion.text, reason=suspicion.verdict.reason
            )
        elif ADDRESS.search(suspicion.text):
            notice = NETWORK_ADDRESS.about(file, place, text=suspicion.text)
        else:
            notice = SENDS.about(file, place, text=suspicion.text, reason=suspicion.verdict.reason)
        findings.append(notice)
    worst = DANGER if any(found.severity == DANGER for found in findings) else WARNING if findings else ""
    return Runs(file, place, kind, text, worst), findings


def _audit_value(file: str, place: str, key: str, text: str, own: frozenset[str]) -> list[Finding]:
    """A plain text: does it name code, another file's config, an address or a path outside?"""
    above = place.split("#")[-2] if place.count("#") else ""
    if (key in NAMES_CODE or (key.isdecimal() and above in NAMES_CODE)) and (
        verdict := judge_code_name(text, own)
    ).severity:
        return [TEXT_TO_CODE.about(file, place, text=text, reason=verdict.reason)]
    if key == "_mode_" and text == "debug":
        return [DEBUG_MODE.about(file, place)]
    if (macro := _MACRO.match(text)) and (other := macro["file"] or ""):
        parts = re.split(r"[\\/]", other)
        outside = _ABSOLUTE.match(other) or ".." in parts or "://" in other or not RESULTS.isdisjoint(parts)
        return [MACRO_OUTSIDE.about(file, place, text=text)] if outside else []
    if address := ADDRESS.search(text):
        notice = DOCUMENTED_ADDRESS if is_metadata(file) or place.startswith("_meta_") else NETWORK_ADDRESS
        return [notice.about(file, place, text=address[0])]
    if (verdict := judge_text(text)).severity and not is_metadata(file):
        return [TEXT_TO_CODE.about(file, place, text=text, reason=verdict.reason)]
    return [ABSOLUTE_PATH.about(file, place, text=text)] if _ABSOLUTE.match(text) and not is_metadata(file) else []


def is_metadata(file: str) -> bool:
    """Whether a file describes the bundle rather than running it."""
    return file.rpartition("/")[2].startswith(("metadata.", "metadata_", "ro-crate-metadata."))
