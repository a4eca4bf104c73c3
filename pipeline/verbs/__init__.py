"""The verbs of the command line as plain functions: each calls its stage and returns a typed result.

`import pipeline` offers them; the command line adds only parsing and printing. A verb is imported when it is first asked for, and torch,
monai and pandas, which take seconds, when it runs: a prediction does not wait for the planner, nor a check for either.

Each runs inside `boundary.guarded`: what goes wrong with a file is a `PipelineError` for those who call it from Python too.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.boundary import guard

if TYPE_CHECKING:
    from pipeline.verbs.data import PlannedFolder, check, describe, fix, plan, refresh
    from pipeline.verbs.evaluation_result import Evaluation
    from pipeline.verbs.evidence import report, reproduce
    from pipeline.verbs.forecasting import forecast, forecast_training
    from pipeline.verbs.handover import audit, package
    from pipeline.verbs.nnunet import ImportedFolder, import_nnunet
    from pipeline.verbs.results import compare, evaluate, predict, tune
    from pipeline.verbs.training import train

_HOMES = {
    "data": ("PlannedFolder", "check", "describe", "fix", "plan", "refresh"),
    "evaluation_result": ("Evaluation",),
    "evidence": ("report", "reproduce"),
    "forecasting": ("forecast", "forecast_training"),
    "handover": ("audit", "package"),
    "nnunet": ("ImportedFolder", "import_nnunet"),
    "results": ("compare", "evaluate", "predict", "tune"),
    "training": ("train",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Evaluation",
    "ImportedFolder",
    "PlannedFolder",
    "audit",
    "check",
    "compare",
    "describe",
    "evaluate",
    "fix",
    "forecast",
    "forecast_training",
    "import_nnunet",
    "package",
    "plan",
    "predict",
    "refresh",
    "report",
    "reproduce",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        found = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        return guard(found) if inspect.isfunction(found) else found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
