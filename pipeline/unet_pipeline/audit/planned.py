"""What `plan` would write for a bundle's plan: its configs, modules and logging.conf, made anew from the plan and the wiring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from unet_pipeline.audit.configs import PLAN, PLAN_RUNS, TEXT, Config, list_runs, read_config
from unet_pipeline.bundle.configs import build_configs, compute_numbers, read_logging
from unet_pipeline.bundle.modules import build_modules
from unet_pipeline.messages import Problem
from unet_pipeline.planning.plan import parse_plan


@dataclass(frozen=True)
class Planned:
    """What is trusted in a bundle, because this package writes the same.

    Attributes:
        configs: name of the file -> its values; empty for a bundle without a plan.
        texts: name of a module or of logging.conf -> its text.
        findings: what the plan itself would run.
    """

    configs: Mapping[str, object] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Problem, ...] = ()


def build_planned(raw: bytes) -> Planned:
    """Make everything anew from the contents of a plan.yaml.

    Raises:
        PlanError: it is no plan.
    """
    read = read_config(PLAN, raw)
    if read.findings:
        return Planned(findings=read.findings)
    plan = parse_plan(read.content if isinstance(read.content, dict) else {}, PLAN)
    numbers = compute_numbers(plan)
    numbers.pop("dataset_location")  # a path, which is quoted
    configs = build_configs(plan)
    # what the plan brings into the configs is a value: a text that would run is none of the wiring's
    brought = {key for config in configs.values() for key in config} & numbers.keys()
    values = Config(PLAN, {key: numbers[key] for key in brought})
    texts = [run.text for run in list_runs(values) if run.kind != TEXT or run.text.startswith("%")]
    modules = {f"unet_networks/{name}.py": text for name, text in build_modules(plan).items()}
    return Planned(
        # through JSON, so that tuples and lists compare equal
        {f"configs/{name}.json": json.loads(json.dumps(content)) for name, content in configs.items()},
        {**modules, "configs/logging.conf": read_logging()},
        (PLAN_RUNS.about(PLAN, texts=texts),) if texts else (),
    )
