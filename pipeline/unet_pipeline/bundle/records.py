"""What a bundle's evidence notes beside its runs: where its weights come from, how it was split and tuned."""

from __future__ import annotations

from pydantic import AliasChoices, BaseModel, Field


class WeightsOrigin(BaseModel):
    """evidence/weights.json: the fold of models/model.pt; `trained_sha256` where that is what the training wrote in half precision."""

    fold: int
    sha256: str = ""
    trained_sha256: str = ""


class ExportEntry(BaseModel):
    """What evidence/exports.json says of an exported network: its SHA-256, and that of the weights that it holds."""

    sha256: str = ""
    weights_sha256: str = ""


class ImportedFold(BaseModel):
    """What weights of nnU-Net were taken from."""

    checkpoint: str = ""
    checkpoint_sha256: str = ""
    weights_sha256: str = ""
    epochs: int | None = None
    trainer: str = ""


class ImportRecord(BaseModel):
    """Where an imported bundle comes from; `folds` by nnU-Net's name, such as "fold_0" or "fold_all"."""

    configuration: str = ""
    folds: dict[str, ImportedFold] = {}
    plans: dict[str, object] = {}


class ListedCase(BaseModel):
    """A case in a data list, with paths from the folder of the data; `spacing_mm` where only the dataset knows it.

    `missing_values` are the file values of labels that the case is not annotated with.
    """

    case: str
    image: str
    label: str
    spacing_mm: list[float] | None = None
    missing_values: list[int] = []


class FoldLists(BaseModel):
    """evidence/splits/fold_*.json."""

    training: list[ListedCase]
    validation: list[ListedCase]


class SplitRecord(BaseModel):
    """evidence/splits/split.json.

    Attributes:
        patients: of each case that shares one with another case.
        test: cases that the dataset itself holds out.
        sha256: of each fold's lists.
    """

    method: str = ""
    seed: int = 0
    patients: dict[str, str] = {}
    test: list[ListedCase] = []
    sha256: dict[str, str] = {}


class ConfidenceBin(BaseModel):
    """Voxels of one stretch of confidence; the share of them that is right."""

    num_voxels: int
    confidence: float
    right_share: float


class CalibrationRecord(BaseModel):
    """A temperature and what it changes; `reason` says why none was taken."""

    temperature: float
    error_before: float
    error_after: float
    bins_before: list[ConfidenceBin] = []
    bins_after: list[ConfidenceBin] = []
    reason: str = Field("", validation_alias=AliasChoices("reason", "obstacle"))  # of an earlier version


class TuningSummary(BaseModel):
    """What the documents tell of evidence/tuning.json."""

    num_cases: int = 0
    mirrored: bool = False
    calibration: CalibrationRecord | None = None
