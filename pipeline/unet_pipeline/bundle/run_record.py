"""What a run leaves in run.json, predictions_run.json or tuning_run.json.

Every key may be missing: earlier versions wrote fewer. What later versions add is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from unet_pipeline.text_files import read_model

FINISHED = "finished"


class RecordPart(BaseModel):
    """A part of a record."""

    model_config = ConfigDict(extra="allow")


class CodeVersion(RecordPart):
    """Commit of the source tree, and whether it was changed since; None for an installed package without one."""

    commit: str | None = None
    changed: bool | None = None


class Machine(RecordPart):
    """Processor, cores, threads that PyTorch uses, memory, and the GPU with driver and CUDA."""

    processor: str = ""
    instructions: list[str] = []
    num_cores: int | None = None
    num_physical_cores: int | None = None
    num_threads: int | None = None
    memory_gib: float | None = None
    gpu: str | None = None
    num_gpus: int = 0
    gpu_memory_gib: float | None = None
    gpu_driver: str | None = None
    cuda: str | None = None
    cudnn: int | None = None
    system: str = ""
    python: str = ""


class Process(RecordPart):
    """Which process of which machine keeps the record; `boot` is a digest that ends with the machine's uptime."""

    boot: str = ""
    id: int | None = None
    started: str = ""


class Energy(RecordPart):
    """Energy that the whole machine took; None with the reason where there is no counter."""

    processor_kj: float | None = None
    gpu_kj: float | None = None
    reasons: dict[str, str] = {}


class UsedWeights(RecordPart):
    """A file of weights that predicted, with its path in the bundle."""

    fold: int | None = None
    file: str
    sha256: str


class RunRecord(RecordPart):
    """What the records of all runs have; times are UTC in ISO 8601."""

    id: str = "run"
    state: str = ""
    kind: str = "train"
    started: str = ""
    ended: str | None = None
    heartbeat: str | None = None
    code: CodeVersion = CodeVersion()
    versions: dict[str, str] = {}
    environment: dict[str, str] = {}
    machine: Machine = Machine()
    process: Process = Process()
    settings: dict[str, object] = {}
    plan: dict[str, object] = {}
    plan_sha256: str | None = None
    config_sha256: str | None = None
    inference_config_sha256: str | None = None
    dataset_manifest_sha256: str | None = None
    duration_s: float | None = None
    processor_s: float | None = None
    peak_memory_gib: float | None = None
    peak_memory_of_worker_gib: float | None = None
    peak_gpu_memory_gib: float | None = None
    energy: Energy | None = None
    precision: str | None = None
    error: str | None = None
    stopped_by: str | None = None

    _keys: dict[str, None] = PrivateAttr(default_factory=dict)  # in the order of the file

    def __init__(self, **content: Any) -> None:
        super().__init__(**content)
        self._keys = dict.fromkeys(content)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in type(self).model_fields:
            self._keys[name] = None

    def as_data(self) -> dict[str, object]:
        """Contents of the file: what was set, in the order in which it was."""
        content = self.model_dump(exclude_unset=True)
        return {key: content[key] for key in self._keys}


class Seeds(RecordPart):
    """What the random numbers of a training began with."""

    seed: int | None = None
    fold: int | None = None


class Session(RecordPart):
    """An earlier process of a continued training: when it began, when it was last seen, and how it ended."""

    started: str = ""
    last: str | None = None
    state: str = ""
    num_processes: int = 1


class Epoch(RecordPart):
    """One epoch of a training; Dice, and that of each label, where it was validated; the learning rate of its last step."""

    epoch: int = 0
    duration_s: float = 0.0
    loss: float | None = None
    learning_rate: float | None = None
    time_shares: dict[str, float] = {}
    dice_resampled_grid: float | None = None
    label_dice_resampled_grid: dict[str, float] = {}
    ended: str = ""


class Tracking(RecordPart):
    """Where a training is tracked."""

    tool: str = ""
    experiment: str = ""
    run_id: str | None = None


class Profile(RecordPart):
    """Where the time of a training went: seconds and shares of each part, and what holds it up."""

    num_epochs: int = 0
    seconds: dict[str, float] = {}
    shares: dict[str, float] = {}
    verdict: str = ""


class TrainingResult(RecordPart):
    """What a finished training gave; no epoch is best, and there is no Dice, where it was not validated."""

    best_epoch: int | None = None
    best_dice_resampled_grid: float | None = None
    num_epochs: int | None = None
    num_iterations: int | None = None
    weights_sha256: str = ""


class TrainingRecord(RunRecord):
    """evidence/runs/*/run.json."""

    command: str = ""
    overrides: dict[str, object] = {}
    fold: int | None = None
    seeds: Seeds = Seeds()
    resolved_config: str = "config.json"
    resolved_config_sha256: str | None = None
    split_sha256: str | None = None
    split: dict[str, list[str]] = {}
    sessions: list[Session] = []
    epochs: list[Epoch] = []
    tracking: Tracking | None = None
    initial_weights_sha256: str | None = None
    profile: Profile = Profile()
    num_processes: int = 1
    num_threads: int | None = None
    nondeterministic_kernels: list[str] = []
    device_choices: list[str] = []
    memory_format: str | None = None
    result: TrainingResult | None = None
    cut_short: str = ""

    @property
    def trained_fold(self) -> int | None:
        """The fold; early versions named it among the settings only."""
        named = str(self.settings.get("fold", "")) if self.fold is None else str(self.fold)
        return int(named) if named.lstrip("-").isdecimal() else None


class EvaluationResult(RecordPart):
    """Title of an evaluation, and the SHA-256 of its files; that of a label map by case."""

    title: str = ""
    metrics_sha256: str = ""
    summary_sha256: str = ""
    label_maps_sha256: dict[str, str] = {}


class EvaluationRunRecord(RunRecord):
    """evidence/evaluations/*/run.json; `split_sha256` by fold; `bundle_place` is the bundle, relative to an evaluation outside of it."""

    kind: str = "evaluate"
    weights: list[UsedWeights] = []
    mirror: bool = False
    by: list[str] = []
    predictions_given: bool = False
    bundle_place: str | None = None
    split_sha256: dict[str, str] = {}
    result: EvaluationResult = EvaluationResult()


class ContractVerdict(RecordPart):
    """Whether an image is like those of the training, by the contract of this SHA-256, and which property says so.

    `value` is the image's and `seen` the training's, as text; `ratio` is the deviation by the threshold. `compared` is "image", or
    "encoder" where the network's own features were looked at too, and `stage` the one of these that decided.
    """

    verdict: str = ""
    property: str = ""
    value: str = ""
    seen: str = ""
    ratio: float | None = None
    stage: str = ""
    compared: str = ""
    contract_sha256: str = ""


class LabelDoubt(RecordPart):
    """Confidence and shape of one label of a label map; None is not known. The numbers of `LabelConfidence` and `ShapeFacts`."""

    predicted_voxels: float | None
    expected_voxels: float | None
    soft_dice: float | None
    mean_probability: float | None
    unsure_surface: float | None
    num_voxels: float
    num_parts: float
    largest_share: float | None
    filled_share: float | None
    touches_border: float | None


class LabelMapDoubt(RecordPart):
    """What is known of a label map without a reference; `labels` are by the value in the label map, the background is left out."""

    mean_entropy: float | None
    voxel_size: float | None
    size_unit: str
    labels: dict[str, LabelDoubt]


class Seen(RecordPart):
    """What was seen of an image and its label map: see `LabelMapEntry`."""

    contract: ContractVerdict | None = None
    doubt: LabelMapDoubt | None = None
    missing_channels: list[str] | None = None


class LabelMapEntry(RecordPart):
    """What a label map was made of: SHA-256 of the image's files, of the weights and of the configs, and the options.

    `companions_sha256` are of the instance map and its table, by name.
    `tags` are those of the image's objects in a store, by name: as long as they are the same, so are the files. `contract` says whether
    the image is like those of the training, and why not, `doubt` what is known of the label map without a reference, `missing_channels`
    what the image lacks for a network that may do without; None for a network that needs all channels.
    """

    files_sha256: dict[str, str]
    label_map: str
    label_map_sha256: str
    weights_sha256: list[str]
    configs_sha256: dict[str, str]
    options: dict[str, object]
    started: str = ""
    probabilities: str | None = None
    probabilities_sha256: str | None = None
    companions_sha256: dict[str, str] | None = None
    tags: dict[str, str] | None = None
    contract: ContractVerdict | None = None
    doubt: LabelMapDoubt | None = None
    missing_channels: list[str] | None = None

    @property
    def seen(self) -> Seen:
        """What was seen of the image and its label map."""
        return Seen(contract=self.contract, doubt=self.doubt, missing_channels=self.missing_channels)


class PredictionRecord(RunRecord):
    """predictions_run.json; `images` has an entry for each label map, and any other value for one that cannot be judged."""

    bundle: dict[str, object] = {}
    weights: list[UsedWeights] = []
    images: dict[str, Annotated[LabelMapEntry | object, Field(union_mode="left_to_right")]] = {}
    shares: dict[str, float] = {}


class TuningResult(RecordPart):
    """SHA-256 of what `tune` wrote."""

    tuning_sha256: str = ""
    plan_sha256: str = ""
    inference_config_sha256: str = ""


class TunedCase(RecordPart):
    """SHA-256 of the files of an out-of-fold image, and of its reference."""

    files_sha256: dict[str, str]
    label_sha256: str


class TuningRecord(RunRecord):
    """evidence/tuning_run.json; `split_sha256` by fold."""

    weights: list[UsedWeights] = []
    split_sha256: dict[str, str] = {}
    cases: dict[str, TunedCase] = {}
    result: TuningResult | None = None


Record = TypeVar("Record", bound=RunRecord)


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """A record; None where there is none.

    Raises:
        FileContentError: it is damaged.
    """
    return read_model(path, kind) if path.is_file() else None
