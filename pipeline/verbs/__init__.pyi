"""Where each verb is written: what type checkers read, and lazy_loader when a verb is first asked for."""

from .data import PlannedFolder as PlannedFolder
from .data import check as check
from .data import describe as describe
from .data import plan as plan
from .data import refresh as refresh
from .evaluation_result import Evaluation as Evaluation
from .evidence import report as report
from .evidence import reproduce as reproduce
from .forecasting import forecast as forecast
from .forecasting import forecast_training as forecast_training
from .handover import audit as audit
from .handover import package as package
from .nnunet import ImportedFolder as ImportedFolder
from .nnunet import import_nnunet as import_nnunet
from .results import compare as compare
from .results import evaluate as evaluate
from .results import predict as predict
from .results import tune as tune
from .training import train as train

__all__: list[str]
