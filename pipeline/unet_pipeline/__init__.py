"""unet-pipeline: a labelled folder of medical images goes in, a MONAI bundle comes out, with the evidence for every number.

The verbs of the command line are functions here, with typed results:

    import unet_pipeline
    unet_pipeline.plan("Task04_Hippocampus", "hippocampus", preset="quick")
    unet_pipeline.train("hippocampus")
    unet_pipeline.evaluate("hippocampus").summary

They are imported when first used, so that `import unet_pipeline` takes no time.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_pipeline.verbs.audit import audit
    from unet_pipeline.verbs.check import check, fix
    from unet_pipeline.verbs.compare import compare
    from unet_pipeline.verbs.demo import demo, draw
    from unet_pipeline.verbs.describe import describe
    from unet_pipeline.verbs.evaluate import evaluate
    from unet_pipeline.verbs.import_nnunet import import_nnunet
    from unet_pipeline.verbs.package import package
    from unet_pipeline.verbs.plan import plan, refresh
    from unet_pipeline.verbs.predict import forecast, predict
    from unet_pipeline.verbs.report import report
    from unet_pipeline.verbs.reproduce import reproduce
    from unet_pipeline.verbs.train import forecast_training, train
    from unet_pipeline.verbs.tune import tune
    from unet_pipeline.verbs.view import view

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
    "view",
]

_HOMES = {
    "audit": "audit",
    "check": "check",
    "compare": "compare",
    "demo": "demo",
    "describe": "describe",
    "draw": "demo",
    "evaluate": "evaluate",
    "fix": "check",
    "forecast": "predict",
    "forecast_training": "train",
    "import_nnunet": "import_nnunet",
    "package": "package",
    "plan": "plan",
    "predict": "predict",
    "refresh": "plan",
    "report": "report",
    "reproduce": "reproduce",
    "train": "train",
    "tune": "tune",
    "view": "view",
}


class _Package(ModuleType):
    """A package of which `audit` is the verb, although a folder has that name: Python would put the folder in the verb's place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from unet_pipeline.boundary import guard

        return guard(getattr(import_module(f"unet_pipeline.verbs.{_HOMES[name]}"), name))
    raise AttributeError(f"module 'unet_pipeline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
