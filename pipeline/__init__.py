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

__all__ = [
    "audit",
    "check",
    "compare",
    "demo",
    "describe",
    "draw",
    "evaluate",
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
        module = "pipeline.demonstration" if name in ("demo", "draw") else "pipeline.verbs"
        return getattr(import_module(module), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
