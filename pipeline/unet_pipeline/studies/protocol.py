"""The plan of an external validation: what is to be shown, on how many patients, by which analysis; hashed before any data are opened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import EvaluationError, suggest
from unet_pipeline.evaluation.case_values import ALL_LABELS
from unet_pipeline.evaluation.metric_table import METRICS
from unet_pipeline.files import compute_sha256, write_text
from unet_pipeline.results import Result
from unet_pipeline.studies.decision import BOUNDED, SKEWED_T
from unet_pipeline.studies.look_log import hash_content
from unet_pipeline.text_files import parse_yaml, read_text

NONINFERIORITY, SUPERIORITY = "noninferiority", "superiority"
HYPOTHESES = (NONINFERIORITY, SUPERIORITY)
_RULES = (
    "A case that the network was trained on is left out, and named.",
    "A case in which the metric is undefined, because neither mask has the structure, is left out, and counted.",
    "A case without prediction, or with a file that cannot be read, ends the run; none is left out for it.",
)
_HEAD = """\
# Protocol of an external validation, made by `unet-pipeline validate plan`. Its SHA-256 is that of the values below as
# canonical JSON; a changed value is noticed. Deposit the hash where you cannot change it, before the data are opened.
"""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NamedBundle(_Strict):
    """A bundle: its name, its folder from that of the protocol, and the hash of the files that it predicts with."""

    name: str
    place: str
    sha256: Sha256


class PlannedSample(_Strict):
    """Patients that are needed, with the power of so many and where the spread comes from; see `sample_size.SampleSize`."""

    num_patients: Annotated[int, Field(ge=2)]
    power: float
    expected: float
    spread: float
    num_known: int
    source: str


class ValidationProtocol(Result, _Strict):
    """What a protocol file holds.

    Attributes:
        bundle: that is validated.
        metric: id in `METRICS`.
        label: name, or "mean of labels".
        hypothesis: noninferiority or superiority.
        against: a value of the metric, or the mean of another bundle on the same cases.
        margin: by which the bundle may be worse, or has to be better; in the unit of the metric.
        alpha: probability of a wrong yes.
        analysis: of `decision.ANALYSES`; patients are the units.
        sample: how many patients.
        rules: what is done about cases that cannot be measured.
        exclusions: further rules for who is no patient of the study, in words; people apply them before the data are opened.
        registered_data_sha256: of the data, where their keeper has told it.
        created: date.
        sha256: of all the rest.
    """

    bundle: NamedBundle
    metric: str
    label: str
    hypothesis: Literal["noninferiority", "superiority"]
    against: float | NamedBundle
    margin: Annotated[float, Field(ge=0)]
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    analysis: Literal["bounded", "t"]
    sample: PlannedSample
    rules: tuple[str, ...] = _RULES
    exclusions: tuple[str, ...] = ()
    registered_data_sha256: Sha256 | None = None
    created: str
    sha256: str = ""

    @model_validator(mode="after")
    def _check(self) -> ValidationProtocol:
        require_metric(self.metric)
        return self

    def compute_sha256(self) -> str:
        """What the hash has to be."""
        return hash_content(self.model_dump(mode="json", exclude={"sha256"}))

    def seal(self) -> ValidationProtocol:
        """The same with its hash."""
        return self.model_copy(update={"sha256": self.compute_sha256()})

    @property
    def is_paired(self) -> bool:
        return isinstance(self.against, NamedBundle)

    @property
    def boundary(self) -> float:
        """That the mean gain has to be above; see `Scale`."""
        return compute_boundary(self.hypothesis, self.margin)


class Scale:
    """Values of a metric as gains: how much better than what they are compared with, so that larger is better.

    Args:
        metric: id.
        is_paired: whether each is the difference of two bundles on the same case.
        reference: the value that is subtracted; 0 for pairs, whose other side is.
    """

    def __init__(self, metric: str, is_paired: bool, reference: float = 0.0) -> None:
        facts = METRICS[metric]
        self.sign = 1.0 if facts.higher_is_better else -1.0
        self.reference = 0.0 if is_paired else reference
        ends = sorted(self.sign * (end - self.reference) for end in (facts.least, facts.most))
        width = facts.most - facts.least
        self.least, self.most = (-width, width) if is_paired else ends

    def gain(self, value: float) -> float:
        """Of a value of the metric, or of a difference of two."""
        return self.sign * (value - self.reference)

    @property
    def analysis(self) -> str:
        """The one that errs no more often than it may, where the metric has two ends."""
        return BOUNDED if math.isfinite(self.least) and math.isfinite(self.most) else SKEWED_T


def compute_boundary(hypothesis: str, margin: float) -> float:
    """Of the mean gain: minus the margin for non-inferiority, plus the margin for superiority."""
    return -margin if hypothesis == NONINFERIORITY else margin


def require_metric(metric: str) -> None:
    """Whether a decision can be about this metric.

    Raises:
        EvaluationError: no such metric, or one of which neither direction is better.
    """
    if metric not in METRICS:
        raise EvaluationError(f"--metric is {metric!r}; {suggest(metric, METRICS)}.")
    if METRICS[metric].higher_is_better is None:
        better = ", ".join(name for name, facts in METRICS.items() if facts.higher_is_better is not None)
        raise EvaluationError(
            f"--metric {metric} has no better direction, since its best value is 0. Choose one of {better}."
        )


def require_label(label: str, labels: Sequence[str]) -> str:
    """The label, "mean of labels" for "mean" too.

    Raises:
        EvaluationError: the evaluation has no such label.
    """
    known = [ALL_LABELS, *labels]
    chosen = ALL_LABELS if label in ("", "mean", ALL_LABELS) else label
    if chosen not in known:
        raise EvaluationError(f"--label is {label!r}; {suggest(label, known)}.")
    return chosen


def hash_bundle(folder: BundleFolder) -> str:
    """SHA-256 of what a bundle predicts with: its weights, plan, configs and modules."""
    configs = [path for path in folder.configs.glob("*") if path.is_file() and path != folder.metadata]
    paths = {*folder.list_model_files(), *configs, *folder.modules.glob("*.py")}
    return hash_content({path.relative_to(folder.root).as_posix(): compute_sha256(path) for path in sorted(paths)})


def write_protocol(path: Path, protocol: ValidationProtocol) -> None:
    """Write the sealed protocol as YAML."""
    import yaml

    values = yaml.safe_dump(protocol.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    write_text(path, _HEAD + values)


def read_protocol(path: Path) -> ValidationProtocol:
    """A protocol, edited or not.

    Raises:
        EvaluationError: no such file, or no protocol.
    """
    import yaml

    remedy = "Restore it from a copy, or make one with `unet-pipeline validate plan`."
    if not path.is_file():
        raise EvaluationError(
            f"{path.name} does not exist; expected a protocol. Make one with `unet-pipeline validate plan`."
        )
    try:
        content = parse_yaml(read_text(path, EvaluationError))
    except (yaml.YAMLError, RecursionError) as error:
        raise EvaluationError(f"{path.name} is no YAML. {remedy}") from error
    if not isinstance(content, dict):
        raise EvaluationError(f"{path.name} holds no protocol. {remedy}")
    try:
        return ValidationProtocol.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        raise EvaluationError(f"{path.name} is no protocol: {place}: {first['msg'].lower()}. {remedy}") from error
