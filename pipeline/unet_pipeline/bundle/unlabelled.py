"""evidence/unlabelled/KEY.json: the unlabelled images that were tried, a file for each pool and the weights that labelled it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.weights_origin import hash_trained_weights
from unet_pipeline.errors import BundleError
from unet_pipeline.files import compute_sha256
from unet_pipeline.text_files import read_model


class PoolImage(BaseModel):
    """An unlabelled image.

    Attributes:
        files_sha256: of its files, by name.
        agreement: mean Dice between the label maps of every two folds, 0 to 1; None where there are none, or none has a structure.
        left_out: why it is not trained on; empty for an image that is.
        label_maps_sha256: of its label map by each fold's network.
    """

    name: str
    files_sha256: dict[str, str]
    agreement: float | None = None
    left_out: str = ""
    label_maps_sha256: dict[int, str] = {}


class PoolGain(BaseModel):
    """Dice on the validation cases with the pool minus without it; `low` and `high` are null for fewer than two patients."""

    metric: str = "dice"
    label: str
    num_cases: int
    num_patients: int
    before: float
    after: float
    difference: float
    low: float | None
    high: float | None
    interval: str


class PoolRecord(BaseModel):
    """What unlabelled images were tried, and what came of it.

    Attributes:
        pool: name of the folder.
        labelled_by: in words, which network labels which image for which training.
        overrides: of the training of each fold.
        teachers_sha256: weights that labelled, by fold; the fold's own first, then those of its further seeds.
        least_agreement: of an image that is trained on.
        contract_sha256: of the input contract that the images were compared with; empty without one.
        students_sha256: weights that were trained with the pool, by fold; empty where none were.
        accepted: the bundle has those weights.
        reason: of the decision, in words.
    """

    key: str
    pool: str
    dataset: str
    labelled_by: str
    images: list[PoolImage]
    num_kept: int
    least_agreement: float
    contract_sha256: str
    overrides: dict[int, dict[str, object]] = {}
    teachers_sha256: dict[int, list[str]]
    students_sha256: dict[int, str] = {}
    gain: PoolGain | None = None
    accepted: bool
    reason: str


def find_pool_record(folder: BundleFolder, key: str) -> Path:
    """Where the record of a pool lies."""
    return folder.evidence / "unlabelled" / f"{key}.json"


def read_pool(path: Path, bundle: str) -> PoolRecord:
    """A record.

    Raises:
        BundleError: it is damaged.
    """
    return read_model(path, PoolRecord, BundleError, f"{path.name} of {bundle}", "Restore the file from a copy.")


def read_pools(folder: BundleFolder) -> list[PoolRecord]:
    """The records of all pools that were tried.

    Raises:
        BundleError: one is damaged.
    """
    return [read_pool(path, folder.name) for path in sorted((folder.evidence / "unlabelled").glob("*.json"))]


def name_case(image: str) -> str:
    """Of an image of the pool, in the data lists of the trainings with it."""
    return f"unlabelled_{image}"


def find_trained_pool(folder: BundleFolder, fold: int) -> PoolRecord | None:
    """The pool that the weights of a fold were trained with, whatever was decided of it; None for most weights."""
    path = folder.fold_weights(fold)
    own = compute_sha256(path) if path.is_file() else ""
    if not own and folder.weights.is_file() and folder.fold_of_weights(-1) == fold:
        own = hash_trained_weights(folder, folder.weights)  # a packaged bundle
    return next((one for one in read_pools(folder) if own and one.students_sha256.get(fold) == own), None)
