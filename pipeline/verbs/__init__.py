"""The verbs of the command line as plain functions: each calls its stage and returns a typed result.

`import pipeline` offers them; the command line adds only parsing and printing. torch, monai and pandas take seconds to
import: the verbs that need them import them when they run.
"""

from __future__ import annotations

from pipeline.verbs.data import PlannedFolder, check, describe, plan, refresh
from pipeline.verbs.evidence import report, reproduce
from pipeline.verbs.forecast import forecast
from pipeline.verbs.handover import audit, package
from pipeline.verbs.nnunet import ImportedFolder, import_nnunet
from pipeline.verbs.results import Evaluation, compare, evaluate, predict, tune
from pipeline.verbs.training import train

__all__ = [
    "Evaluation",
    "ImportedFolder",
    "PlannedFolder",
    "audit",
    "check",
    "compare",
    "describe",
    "evaluate",
    "forecast",
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
