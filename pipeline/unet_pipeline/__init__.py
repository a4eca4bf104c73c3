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
    from unet_pipeline.verbs.audit import audit as audit
    from unet_pipeline.verbs.check import check as check
    from unet_pipeline.verbs.check import fix as fix
    from unet_pipeline.verbs.compare import compare as compare
    from unet_pipeline.verbs.data import get_data as get_data
    from unet_pipeline.verbs.data import list_data as list_data
    from unet_pipeline.verbs.demo import demo as demo
    from unet_pipeline.verbs.demo import draw as draw
    from unet_pipeline.verbs.describe import describe as describe
    from unet_pipeline.verbs.evaluate import evaluate as evaluate
    from unet_pipeline.verbs.import_nnunet import import_nnunet as import_nnunet
    from unet_pipeline.verbs.package import package as package
    from unet_pipeline.verbs.plan import plan as plan
    from unet_pipeline.verbs.plan import refresh as refresh
    from unet_pipeline.verbs.predict import forecast as forecast
    from unet_pipeline.verbs.predict import predict as predict
    from unet_pipeline.verbs.report import report as report
    from unet_pipeline.verbs.reproduce import reproduce as reproduce
    from unet_pipeline.verbs.train import forecast_training as forecast_training
    from unet_pipeline.verbs.train import train as train
    from unet_pipeline.verbs.tune import tune as tune
    from unet_pipeline.verbs.view import view as view

# the only place where it is written: the distribution's metadata take it from here, and a source tree has none
__version__ = "0.1.0"

# in the order in which they are used: the verb, which is a module of `verbs` and of `commands`, and the functions that it offers here
VERBS = {
    "demo": ("demo", "draw"),
    "data": ("get_data", "list_data"),
    "check": ("check", "fix"),
    "plan": ("plan", "refresh"),
    "describe": ("describe",),
    "train": ("train", "forecast_training"),
    "predict": ("predict", "forecast"),
    "evaluate": ("evaluate",),
    "compare": ("compare",),
    "tune": ("tune",),
    "report": ("report",),
    "view": ("view",),
    "package": ("package",),
    "audit": ("audit",),
    "reproduce": ("reproduce",),
    "import_nnunet": ("import_nnunet",),
}
_HOMES = {name: verb for verb, names in VERBS.items() for name in names}
__all__ = sorted(_HOMES)


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
