"""unet-pipeline: a labelled folder of medical images goes in, a MONAI bundle comes out, with the evidence for every number.

The verbs of the command line are functions here, with typed results:

    import pipeline
    pipeline.plan("Task04_Hippocampus", "hippocampus", preset="quick")
    pipeline.train("hippocampus")
    pipeline.evaluate("hippocampus").summary

They are imported when first used, so that `import pipeline` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.demonstration import demo, draw
    from pipeline.verbs import (
        audit,
        check,
        compare,
        describe,
        evaluate,
        fix,
        forecast,
        forecast_training,
        import_nnunet,
        package,
        plan,
        predict,
        refresh,
        report,
        reproduce,
        train,
        tune,
    )

# the only place where it is written: the distribution's metadata take it from here, and a source tree has none
__version__ = "0.1.0"

__all__ = [
    "audit",
    "check",
    "compare",
    "demo",
    "describe",
    "draw",
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
    if name in __all__:
        from pipeline.boundary import guard

        if name in ("demo", "draw"):
            return guard(getattr(import_module("pipeline.demonstration"), name))
        return getattr(import_module("pipeline.verbs"), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
