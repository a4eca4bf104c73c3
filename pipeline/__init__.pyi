"""What the package offers: what type checkers read, and lazy_loader when a name is first asked for."""

from .demonstration import demo as demo
from .demonstration import draw as draw
from .verbs import audit as audit
from .verbs import check as check
from .verbs import compare as compare
from .verbs import describe as describe
from .verbs import evaluate as evaluate
from .verbs import forecast as forecast
from .verbs import forecast_training as forecast_training
from .verbs import import_nnunet as import_nnunet
from .verbs import package as package
from .verbs import plan as plan
from .verbs import predict as predict
from .verbs import refresh as refresh
from .verbs import report as report
from .verbs import reproduce as reproduce
from .verbs import train as train
from .verbs import tune as tune

__version__: str
__all__: list[str]
