"""Where each file of a bundle lies. Every stage asks here; no other module joins these names.

The folder is MONAI's bundle layout (configs/, models/, docs/) with an evidence/ folder beside it.
"""

from __future__ import annotations

import csv
import importlib
import io
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.bundle.records import FoldLists, SplitRecord, WeightsOrigin
from unet_pipeline.errors import BundleError
from unet_pipeline.text_files import Model, read_json_object, read_model, read_text, require_plain_utf8

LAST_CHECKPOINT = "checkpoint_last.pt"
PREVIOUS_CHECKPOINT = "checkpoint_previous.pt"
RUN_LOCK = "run.lock"


@dataclass(frozen=True)
class BundleFolder:
    """Paths of one bundle, relative to its root folder."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.resolve().name

    @property
    def configs(self) -> Path:
        return self.root / "configs"

    @property
    def plan(self) -> Path:
        return self.configs / "plan.yaml"

    @property
    def metadata(self) -> Path:
        return self.configs / "metadata.json"

    @property
    def logging(self) -> Path:
        return self.configs / "logging.conf"

    def config(self, stem: str) -> Path:
        """`stem` is train, inference, evaluate or multi_gpu_train."""
        return self.configs / f"{stem}.json"

    @property
    def is_planned(self) -> bool:
        """Whether `plan` made it; external bundles, such as the model zoo's, have no plan."""
        return os.path.lexists(self.plan)

    @property
    def is_bundle(self) -> bool:
        """Whether it is one, of `plan` or an external one."""
        return self.is_planned or (self.metadata.is_file() and any(self.configs.glob("inference.*")))

    def find_config(self, stem: str) -> Path:
        """The config of that name in an external bundle, which may be YAML.

        Raises:
            BundleError: there is none.
        """
        for suffix in (".json", ".yaml", ".yml"):
            if (path := self.config(stem).with_suffix(suffix)).is_file():
                return path
        raise BundleError(
            f"{self.name} has no configs/{stem}.json or .yaml; expected one. It is no bundle that predicts."
        )

    def read_config(self, name: str) -> dict[str, object]:
        """Contents of the config of that name.

        Raises:
            BundleError: it is damaged.
        """
        remedy = f"Write it again with `unet-pipeline plan --refresh {self.root} --force`."
        return read_json_object(self.config(name), (), BundleError, f"configs/{name}.json of {self.name}", remedy)

    def require_stock_text(self, fold: int) -> None:
        """Whether MONAI can read what it reads itself in a training of that fold.

        Raises:
            BundleError: a file is damaged, or in another encoding than MONAI knows.
        """
        self.read_config("train")
        self.read_metadata()
        self.read_split(fold)
        for path in (self.config("train"), self.metadata, self.split(fold), self.logging):
            require_plain_utf8(path, BundleError, f"{path.relative_to(self.root)} of {self.name}")

    def read_metadata(self) -> dict[str, object]:
        """Contents of metadata.json.

        Raises:
            BundleError: it is missing or no JSON.
        """
        shown = f"configs/metadata.json of {self.name}"
        try:
            return read_json_object(self.metadata, (), BundleError, shown, "Get the bundle again.")
        except OSError as error:
            raise BundleError(f"{shown} cannot be read: {error.strerror}. Get the bundle again.") from error

    def read_required_packages(self) -> tuple[str, ...]:
        """Packages that metadata.json names beside MONAI, PyTorch and NumPy, with their versions; () where it has no table of them."""
        metadata = self.read_metadata()
        named = metadata.get("required_packages_version") or metadata.get("optional_packages_version") or {}
        if not isinstance(named, dict):
            return ()
        return tuple(f"{name} {version}" for name, version in named.items())

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def weights(self) -> Path:
        return self.models / "model.pt"

    @property
    def initial_weights(self) -> Path:
        """What the training starts from, in a bundle that was planned from another one."""
        return self.models / "initial.pt"

    def fold_weights(self, fold: int) -> Path:
        return self.models / f"model_fold_{fold}.pt"

    def list_model_files(self) -> tuple[Path, ...]:
        """State dicts and TorchScript files of an external bundle, whose config alone knows which of them it loads."""
        return tuple(sorted(path for path in self.models.glob("*") if path.suffix in (".pt", ".pth", ".ts")))

    def export(self, runtime: str) -> Path:
        """The network for another runtime: torchscript or onnx."""
        return self.models / {"torchscript": "model.ts", "onnx": "model.onnx"}[runtime]

    @property
    def engines(self) -> Path:
        """Whether both ways of predicting give the same label maps."""
        return self.evidence / "engines.json"

    @property
    def exports(self) -> Path:
        """How each export was made, of which weights, and how near it is to the eager network."""
        return self.evidence / "exports.json"

    @property
    def versions(self) -> Path:
        """Version, changelog and hashes of what was packaged last."""
        return self.evidence / "versions.json"

    @property
    def weights_origin(self) -> Path:
        """Which fold `weights` comes from."""
        return self.evidence / "weights.json"

    @property
    def modules(self) -> Path:
        """Networks that MONAI lacks, when the plan has one."""
        return self.root / "unet_networks"

    def make_modules_importable(self) -> None:
        """Let the bundle's configs find its own modules, whatever other bundle this process has used before."""
        if not self.modules.is_dir():
            return
        root = self.root.resolve()
        if str(root) in sys.path:
            sys.path.remove(str(root))
        sys.path.insert(1, str(root))
        loaded = {name: module for name, module in sys.modules.items() if name.split(".")[0] == self.modules.name}
        paths = (getattr(module, "__file__", None) for module in loaded.values())
        files = [Path(file) for file in paths if file]
        if any(not file.resolve().is_relative_to(root) for file in files):
            for name in loaded:
                del sys.modules[name]
        importlib.invalidate_caches()

    @property
    def docs(self) -> Path:
        return self.root / "docs"

    @property
    def evidence(self) -> Path:
        return self.root / "evidence"

    @property
    def fingerprint(self) -> Path:
        return self.evidence / "fingerprint.json"

    @property
    def dataset_manifest(self) -> Path:
        return self.evidence / "dataset_manifest.json"

    @property
    def seen_files(self) -> Path:
        """What the files of the manifest looked like when they were compared last: of this machine, and hidden, so never packaged."""
        return self.evidence / ".seen_files.json"

    @property
    def generated_configs(self) -> Path:
        """SHA-256 of every generated config as it was written, to notice an edit by hand."""
        return self.evidence / "generated_configs.json"

    @property
    def runs(self) -> Path:
        return self.evidence / "runs"

    @property
    def tracking(self) -> Path:
        """MLflow's local store, beside the bundle: it names folders of this machine, and a bundle does not."""
        root = self.root.resolve()
        return root.with_name(f"{root.name}_mlflow")

    @property
    def evaluations(self) -> Path:
        return self.evidence / "evaluations"

    @property
    def imported(self) -> Path:
        """Where the weights come from, in a bundle that was imported from nnU-Net."""
        return self.evidence / "imported.json"

    def require_data(self) -> None:
        """Whether it is known on which cases the bundle was trained.

        Raises:
            BundleError: it was imported without its dataset.
        """
        if self.imported.is_file() and not self.dataset_manifest.is_file():
            raise BundleError(
                f"{self.name} was imported without the dataset that it was trained on, and can predict only. Import it again with "
                "`unet-pipeline import-nnunet RESULTS BUNDLE --dataset DATASET`."
            )

    @property
    def tuning(self) -> Path:
        """What was tried as post-processing and temperature, on which cases, with which result."""
        return self.evidence / "tuning.json"

    @property
    def verification(self) -> Path:
        return self.evidence / "verification.json"

    @property
    def seal(self) -> Path:
        return self.evidence / "manifest.sha256"

    def split(self, fold: int) -> Path:
        return self.evidence / "splits" / f"fold_{fold}.json"

    @property
    def split_record(self) -> Path:
        """How the split was made, the held-out test cases, and the SHA-256 of every fold's list."""
        return self.evidence / "splits" / "split.json"

    @property
    def case_table(self) -> Path:
        """Further columns of the dataset's list of cases, for results by subgroup; absent where it has none."""
        return self.evidence / "case_table.csv"

    def read_patients(self) -> dict[str, str]:
        """Patient of each case that shares one with another case."""
        if not self.split_record.is_file():
            return {}
        return self._read_part(self.split_record, SplitRecord).patients

    def read_case_table(self) -> dict[str, dict[str, str]]:
        """By case, the columns of `case_table` with their values as text; names of columns in small letters."""
        if not self.case_table.is_file():
            return {}
        text = read_text(self.case_table, BundleError, f"evidence/{self.case_table.name} of {self.name}")
        rows = [
            {str(name).strip().lower(): value or "" for name, value in row.items()}
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
        return {
            row["case"]: {name: row[name].strip() for name in row if name != "case"} for row in rows if "case" in row
        }

    def trained_folds(self) -> tuple[int, ...]:
        """Folds that have weights of their own, in ascending order."""
        matches = (re.fullmatch(r"model_fold_(\d+)\.pt", path.name) for path in self.models.glob("model_fold_*.pt"))
        return tuple(sorted(int(match[1]) for match in matches if match))

    def fold_of_weights(self, default: int) -> int:
        """Fold that models/model.pt was trained on; `default` after a training with stock MONAI, which notes none."""
        origin = self.read_weights_origin()
        return default if origin is None else origin.fold

    def read_weights_origin(self) -> WeightsOrigin | None:
        """Where models/model.pt comes from; None where it is not noted.

        Raises:
            BundleError: the note is damaged.
        """
        return self._read_part(self.weights_origin, WeightsOrigin) if self.weights_origin.is_file() else None

    def read_split(self, fold: int) -> FoldLists:
        """The data lists of a fold.

        Raises:
            BundleError: the bundle has no such fold, or its file is damaged.
        """
        path = self.split(fold)
        if not path.is_file():
            raise BundleError(
                f"Fold {fold} does not exist in {self.name}: {path.relative_to(self.root)} is missing. "
                "Choose a fold that `plan --folds` made."
            )
        return self._read_part(path, FoldLists)

    def _read_part(self, path: Path, kind: type[Model]) -> Model:
        """A record of the bundle."""
        shown = f"{path.relative_to(self.root)} of {self.name}"
        return read_model(path, kind, BundleError, shown, "Restore the file from a copy, or plan again.")


def open_bundle(root: Path | str) -> BundleFolder:
    """The bundle at `root`, once it is sure to be one.

    Raises:
        BundleError: the folder or its configs are missing.
    """
    folder = BundleFolder(Path(root))
    if not folder.root.is_dir() and re.match(r"[a-z0-9+]{2,}:/", str(root)):
        raise BundleError(
            f"{root} is an address; expected a local bundle. Download it first, and give the file or the folder."
        )
    if not folder.root.is_dir():
        raise BundleError(
            f"Bundle folder not found: {root}. Make one with `unet-pipeline plan DATASET {shlex.quote(str(root))}`."
        )
    for path in (folder.plan, folder.metadata, folder.config("train"), folder.config("inference")):
        if not path.is_file():
            raise BundleError(
                f"{root} is not a complete bundle: {path.relative_to(folder.root)} is missing. "
                "Make one with `unet-pipeline plan DATASET BUNDLE`."
            )
    return folder


def open_any_bundle(root: Path | str) -> BundleFolder:
    """The bundle at `root`: one that `plan` made, or an external one with an inference config.

    Raises:
        BundleError: the folder or its configs are missing.
    """
    folder = BundleFolder(Path(root))
    if folder.is_planned or not folder.root.is_dir():
        return open_bundle(root)
    if not folder.configs.is_dir():
        raise BundleError(
            f"{folder.name} is no bundle: configs/plan.yaml is missing, and any other config. Give the folder of a bundle, or make one "
            "with `unet-pipeline plan DATASET BUNDLE`."
        )
    folder.find_config("inference")
    if not folder.metadata.is_file():
        raise BundleError(
            f"{folder.name} has no configs/metadata.json, which says what goes in and out; expected one. Get the whole bundle."
        )
    return folder


def require_ensemble(folder: BundleFolder) -> tuple[Path, ...]:
    """Weights of all trained folds.

    Raises:
        BundleError: fewer than two folds are trained.
    """
    folds = folder.trained_folds()
    if len(folds) < 2:
        raise BundleError(
            f"{folder.name} has weights of {len(folds)} fold(s); expected two or more for an ensemble. Train them with "
            f"`unet-pipeline train {shlex.quote(str(folder.root))} --fold all`."
        )
    return tuple(folder.fold_weights(fold) for fold in folds)


def require_weights(folder: BundleFolder, weights: Path | None = None) -> Path:
    """Path of the bundle's weights.

    Raises:
        BundleError: there are none yet.
    """
    weights = weights or folder.weights
    if not weights.is_file():
        shown = weights.relative_to(folder.root) if weights.is_relative_to(folder.root) else weights.name
        raise BundleError(
            f"{folder.name} has no weights: {shown} is missing. "
            f"Train it first with `unet-pipeline train {shlex.quote(str(folder.root))}`."
        )
    return weights
