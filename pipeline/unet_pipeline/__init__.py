"""unet-pipeline: a labelled folder of medical images goes in, a MONAI bundle comes out, with the evidence for every number.

The verbs of the command line are functions here, with typed results:

    import unet_pipeline
    unet_pipeline.plan("Task04_Hippocampus", "hippocampus", preset="quick")
    unet_pipeline.train("hippocampus")
    unet_pipeline.evaluate("hippocampus").summary

Their results show themselves in a notebook, `save_as_html` and `open_in_browser`; `show_progress(False)` silences the bars.
All of it is imported when first used, so that `import unet_pipeline` takes no time.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_pipeline.audit.audit import Audit as Audit
    from unet_pipeline.bundle.folder import BundleFolder as BundleFolder
    from unet_pipeline.cohort.status import Jobs as Jobs
    from unet_pipeline.dataset.check import CheckReport as CheckReport
    from unet_pipeline.dataset.demo import write_demo_cohort as write_demo_cohort
    from unet_pipeline.dataset.fix import FixedDataset as FixedDataset
    from unet_pipeline.dataset.image import read_image as read_image
    from unet_pipeline.dataset.image import read_label_map as read_label_map
    from unet_pipeline.dataset.medical_image import MedicalImage as MedicalImage
    from unet_pipeline.dataset.options import ReadOptions as ReadOptions
    from unet_pipeline.errors import PipelineError as PipelineError
    from unet_pipeline.evaluation.comparison import ComparisonRecord as ComparisonRecord
    from unet_pipeline.evidence.report.network_drawing import Description as Description
    from unet_pipeline.evidence.report.overlay import draw_overlay as draw_overlay
    from unet_pipeline.evidence.report.report import Report as Report
    from unet_pipeline.evidence.reproduce.reproduction import Reproduction as Reproduction
    from unet_pipeline.handover.package import Package as Package
    from unet_pipeline.planning.edit import edit_plan as edit_plan
    from unet_pipeline.planning.plan import Plan as Plan
    from unet_pipeline.prediction.forecast import Forecast as Forecast
    from unet_pipeline.prediction.run import Predictions as Predictions
    from unet_pipeline.progress import show_progress as show_progress
    from unet_pipeline.studies.aim import ValidationAim as ValidationAim
    from unet_pipeline.studies.external_validation import ValidationResult as ValidationResult
    from unet_pipeline.studies.learning_curve import LearningCurve as LearningCurve
    from unet_pipeline.studies.protocol import ValidationProtocol as ValidationProtocol
    from unet_pipeline.studies.sample_size import SampleSize as SampleSize
    from unet_pipeline.training.forecast import TrainingForecast as TrainingForecast
    from unet_pipeline.training.run import TrainingRun as TrainingRun
    from unet_pipeline.tuning.choose import Tuning as Tuning
    from unet_pipeline.verbs.audit import audit as audit
    from unet_pipeline.verbs.check import check as check
    from unet_pipeline.verbs.check import fix as fix
    from unet_pipeline.verbs.compare import compare as compare
    from unet_pipeline.verbs.data import get_data as get_data
    from unet_pipeline.verbs.data import list_data as list_data
    from unet_pipeline.verbs.demo import Demo as Demo
    from unet_pipeline.verbs.demo import demo as demo
    from unet_pipeline.verbs.demo import draw as draw
    from unet_pipeline.verbs.describe import describe as describe
    from unet_pipeline.verbs.evaluate import Evaluation as Evaluation
    from unet_pipeline.verbs.evaluate import evaluate as evaluate
    from unet_pipeline.verbs.import_nnunet import ImportedFolder as ImportedFolder
    from unet_pipeline.verbs.import_nnunet import import_nnunet as import_nnunet
    from unet_pipeline.verbs.jobs import jobs as jobs
    from unet_pipeline.verbs.learning_curve import CurveDesign as CurveDesign
    from unet_pipeline.verbs.learning_curve import learning_curve as learning_curve
    from unet_pipeline.verbs.node import node as node
    from unet_pipeline.verbs.package import package as package
    from unet_pipeline.verbs.plan import PlannedFolder as PlannedFolder
    from unet_pipeline.verbs.plan import plan as plan
    from unet_pipeline.verbs.plan import refresh as refresh
    from unet_pipeline.verbs.predict import forecast as forecast
    from unet_pipeline.verbs.predict import predict as predict
    from unet_pipeline.verbs.report import report as report
    from unet_pipeline.verbs.reproduce import reproduce as reproduce
    from unet_pipeline.verbs.train import forecast_training as forecast_training
    from unet_pipeline.verbs.train import train as train
    from unet_pipeline.verbs.tune import tune as tune
    from unet_pipeline.verbs.unlabelled import PoolTrial as PoolTrial
    from unet_pipeline.verbs.unlabelled import train_with_unlabelled as train_with_unlabelled
    from unet_pipeline.verbs.validate import plan_validation as plan_validation
    from unet_pipeline.verbs.validate import size_validation as size_validation
    from unet_pipeline.verbs.validate import validate as validate
    from unet_pipeline.verbs.view import view as view
    from unet_pipeline.viewer.notebook import ImageView as ImageView
    from unet_pipeline.viewer.notebook import view_image as view_image

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
    "node": ("node",),
    "jobs": ("jobs",),
    "evaluate": ("evaluate",),
    "compare": ("compare",),
    "tune": ("tune",),
    "validate": ("validate", "plan_validation", "size_validation"),
    "learning_curve": ("learning_curve",),
    "report": ("report",),
    "view": ("view",),
    "package": ("package",),
    "audit": ("audit",),
    "reproduce": ("reproduce",),
    "import_nnunet": ("import_nnunet",),
}
# beside the verbs: the module of each
FUNCTIONS = {
    "draw_overlay": "evidence.report.overlay",
    "edit_plan": "planning.edit",
    "read_image": "dataset.image",
    "read_label_map": "dataset.image",
    "show_progress": "progress",
    "train_with_unlabelled": "verbs.unlabelled",
    "view_image": "viewer.notebook",
    "write_demo_cohort": "dataset.demo",
}
# what the verbs take and return
TYPES = {
    "Audit": "audit.audit",
    "BundleFolder": "bundle.folder",
    "CheckReport": "dataset.check",
    "ComparisonRecord": "evaluation.comparison",
    "CurveDesign": "verbs.learning_curve",
    "Demo": "verbs.demo",
    "Description": "evidence.report.network_drawing",
    "Evaluation": "verbs.evaluate",
    "FixedDataset": "dataset.fix",
    "Forecast": "prediction.forecast",
    "ImageView": "viewer.notebook",
    "ImportedFolder": "verbs.import_nnunet",
    "Jobs": "cohort.status",
    "LearningCurve": "studies.learning_curve",
    "MedicalImage": "dataset.medical_image",
    "Package": "handover.package",
    "PipelineError": "errors",
    "Plan": "planning.plan",
    "PlannedFolder": "verbs.plan",
    "PoolTrial": "verbs.unlabelled",
    "Predictions": "prediction.run",
    "ReadOptions": "dataset.options",
    "Report": "evidence.report.report",
    "Reproduction": "evidence.reproduce.reproduction",
    "SampleSize": "studies.sample_size",
    "TrainingForecast": "training.forecast",
    "TrainingRun": "training.run",
    "Tuning": "tuning.choose",
    "ValidationAim": "studies.aim",
    "ValidationProtocol": "studies.protocol",
    "ValidationResult": "studies.external_validation",
}
_VERB_OF = {name: verb for verb, names in VERBS.items() for name in names}
_HOMES = {name: f"verbs.{verb}" for name, verb in _VERB_OF.items()} | FUNCTIONS | TYPES
__all__ = sorted(_HOMES)


class _Package(ModuleType):
    """A package of which `audit` is the verb, although a folder has that name: Python would put the folder in the verb's place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _VERB_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from unet_pipeline.boundary import guard

        found = getattr(import_module(f"unet_pipeline.{_HOMES[name]}"), name)
        return found if name in TYPES else guard(found)
    raise AttributeError(f"module 'unet_pipeline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"]
