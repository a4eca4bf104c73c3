"""The expressions of this package's wiring that ask for more than a bundle of others may: where it lies, and where its modules are.

They are known by their text, to the letter. What they do depends on each other, so that all of them are refused as soon as any config
of the bundle gives one of their ids another value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from unet_pipeline.audit.configs import RESULTS, Config, Runs, iterate_values
from unet_pipeline.messages import Problem

_SOURCES = ("shared", "own_modules")
_IDS = ("config_folders", "bundle_root", "bundle_path", "modules")
_HARMLESS = {
    "bundle_root": (".",)
}  # the working directory, as in the bundles of others and in those of earlier versions
_FIRST_PART = re.compile(r"\W*(\w*)")


@cache
def list_own_expressions() -> Mapping[str, str]:
    """Expressions of the wiring by their place in a config."""
    import yaml

    folder = resources.files("unet_pipeline.wiring")
    texts = ((folder / f"{source}.yaml").read_text(encoding="utf-8") for source in _SOURCES)
    wiring = {key: value for text in texts for key, value in yaml.safe_load(text).items() if key in _IDS}
    return {place: value for place, value, _ in iterate_values(wiring) if isinstance(value, str)}


def accept_own_expressions(
    config: Config, configs: list[Config], runs: list[Runs], findings: list[Problem]
) -> tuple[list[Runs], list[Problem]]:
    """What was found in a config, without what was said of the wiring's own expressions.

    Args:
        config: that was audited.
        configs: all of the bundle; any two of them may be used together.
        runs: what the config runs.
        findings: what is wrong with it.
    """
    used = (
        one for one in configs if one.file.partition("/")[0] not in RESULTS
    )  # a run record repeats what a run was given
    if any(_gives_others(one.content) for one in used):
        return runs, findings
    values = {place: value for place, value, _ in iterate_values(config.content)}
    own = {place for place, text in list_own_expressions().items() if values.get(place) == text}
    kept = [Runs(run.file, run.place, run.kind, run.text) if run.place in own else run for run in runs]
    return kept, [finding for finding in findings if finding.place not in own]


def _gives_others(content: Any) -> bool:
    """Whether a config gives one of the ids, or a part of one, another value than the wiring does."""
    if not isinstance(content, dict):
        return False
    return any(value not in _list_allowed(key) for key, value in _iterate_ids(content))


def _iterate_ids(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Entries that set one of the ids, however it is written: `+modules`, `modules#0`, `modules::0`, or a key that is there twice."""
    for key, value in content.items():
        found = _FIRST_PART.match(str(key))
        if found and found[1] in _IDS:
            yield str(key), value


def _list_allowed(key: str) -> tuple[Any, ...]:
    expressions = list_own_expressions()
    parts = [text for place, text in expressions.items() if place.startswith(f"{key}#")]
    whole = (parts,) if parts else (expressions[key],) if key in expressions else ()
    return (*whole, *_HARMLESS.get(key, ()))
