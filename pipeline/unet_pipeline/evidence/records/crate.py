"""A bundle as an RO-Crate: its files with hashes, its data, its software, and the runs that its numbers came from.

RO-Crate 1.1 (w3id.org/ro/crate/1.1) with the profile Process Run Crate 0.5 (w3id.org/ro/wfrun/process/0.5). The same bundle
gives the same file: every time in it is that of a run.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import FINISHED, EvaluationRunRecord, RunRecord, TrainingRecord, read_record
from unet_pipeline.bundle.seal import list_sealed_files
from unet_pipeline.bundle.weights_origin import hash_trained_weights
from unet_pipeline.dataset.manifest import read_manifest
from unet_pipeline.evidence.records.data_terms import NOT_STATED, read_data_terms
from unet_pipeline.evidence.records.record import RECORD, find_state
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.messages import show_cases
from unet_pipeline.planning.plan import read_plan

CRATE = "ro-crate-metadata.json"
_CONTEXT = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}]
_SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_LICENCE = "https://spdx.org/licenses/Apache-2.0"
_SOFTWARE, _AGENT, _DATA = "#unet-pipeline", "#operator", "#dataset"
_COMPLETED, _FAILED = "http://schema.org/CompletedActionStatus", "http://schema.org/FailedActionStatus"
_TYPES = {".yaml": "application/yaml", ".pt": "application/octet-stream", ".conf": "text/plain", ".md": "text/markdown"}

Entity = dict[str, object]


def write_crate(folder: BundleFolder) -> Path:
    """Write the bundle's ro-crate-metadata.json; `package` does it before it seals."""
    path = folder.root / CRATE
    write_json(path, build_crate(folder))
    return path


def build_crate(folder: BundleFolder) -> Entity:
    """Contents of ro-crate-metadata.json.

    Args:
        folder: a bundle with its evidence; without a run record the crate has no action.
    """
    files = [path for path in list_sealed_files(folder) if path.as_posix() != CRATE]
    names = {path.as_posix() for path in files}
    runs = list(_list_runs(folder))
    actions = [_describe_run(folder, directory, record, names) for directory, record in runs]
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": folder.name,
        "description": f"MONAI bundle: segmentation network trained on {read_plan(folder.plan).dataset_name}, with its evidence.",
        "datePublished": _find_date(folder, runs),
        "license": {"@id": _LICENCE},
        "conformsTo": {"@id": _PROFILE},
        "hasPart": [{"@id": name} for name in sorted(names)],
        "mentions": [{"@id": action["@id"]} for action in actions],
    }
    descriptor: Entity = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": _SPECIFICATION},
    }
    shared = [descriptor, root, *_describe_shared(folder)]
    return {"@context": _CONTEXT, "@graph": [*shared, *actions, *(_describe_file(folder, path) for path in files)]}


def _describe_shared(folder: BundleFolder) -> Iterator[Entity]:
    """Profile, licence, software, data, and a place for whoever made the runs, whom no record names."""
    yield {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    yield {"@id": _LICENCE, "@type": "CreativeWork", "name": "Apache License 2.0", "identifier": "Apache-2.0"}
    yield {
        "@id": _AGENT,
        "@type": "Person",
        "name": "to be filled in by the authors",
        "description": "Who made the runs; their records do not name anybody.",
    }
    yield {
        "@id": _SOFTWARE,
        "@type": "SoftwareApplication",
        "name": "unet-pipeline",
        "description": "Plans, trains and evaluates the bundle; each action names version and commit.",
    }
    terms = read_data_terms(folder)
    manifest = read_manifest(folder.dataset_manifest, folder.name)
    yield {
        "@id": _DATA,
        "@type": "Dataset",
        "name": manifest.dataset_name,
        "description": f"{show_cases(manifest.num_cases)}; every file with its SHA-256 is in evidence/dataset_manifest.json.",
        "identifier": f"sha256:{compute_sha256(folder.dataset_manifest)}",
        "license": terms.facts.get("Licence", NOT_STATED),
        "citation": "; ".join(terms.references) or NOT_STATED,
    }


def _list_runs(folder: BundleFolder) -> Iterator[tuple[Path, RunRecord]]:
    """Folder and record of every training and evaluation."""
    kinds = ((folder.evaluations, EvaluationRunRecord), (folder.runs, TrainingRecord))
    for place, kind in kinds:
        for path in sorted(place.glob(f"*/{RECORD}")):
            if (record := read_record(path, kind)) is not None:
                yield path.parent.relative_to(folder.root), record


def _describe_run(folder: BundleFolder, directory: Path, record: RunRecord, names: set[str]) -> Entity:
    state = find_state(record)
    own = [name for name in sorted(names) if name.startswith(f"{directory.as_posix()}/")]
    commit = record.code.commit
    action: Entity = {
        "@id": f"#{directory.as_posix()}",
        "@type": "CreateAction",
        "name": f"{record.kind} {directory.name}",
        "description": f"{state}; unet-pipeline {record.versions.get('unet-pipeline')}"
        + (f", commit {commit}" if commit else "")
        + f", {record.machine.processor}, record {directory.as_posix()}/{RECORD}",
        "instrument": {"@id": _SOFTWARE},
        "agent": {"@id": _AGENT},
        "object": [{"@id": _DATA}, *({"@id": name} for name in _list_inputs(folder, record) if name in names)],
        "result": [{"@id": name} for name in [*_list_weights(folder, record, names), *own]],
        "startTime": record.started,
        # what was preempted or still runs has not brought its result
        "actionStatus": _COMPLETED if state == FINISHED else _FAILED,
    }
    if record.ended:
        action["endTime"] = record.ended
    if record.error:
        action["error"] = record.error
    return action


def _list_inputs(folder: BundleFolder, record: RunRecord) -> list[str]:
    config = "train" if isinstance(record, TrainingRecord) else "inference"
    paths = [folder.plan, folder.config(config), folder.dataset_manifest]
    if isinstance(record, TrainingRecord) and record.fold is not None:
        paths.append(folder.split(record.fold))
    names = [path.relative_to(folder.root).as_posix() for path in paths]
    if isinstance(record, EvaluationRunRecord):
        sha256 = compute_sha256(folder.weights) if folder.weights.is_file() else None
        names += ["models/model.pt" for weights in record.weights if weights.sha256 == sha256]
    return names


def _list_weights(folder: BundleFolder, record: RunRecord, names: set[str]) -> list[str]:
    """models/model.pt, when it is what this training wrote, or that in half precision."""
    written = record.result.weights_sha256 if isinstance(record, TrainingRecord) and record.result else ""
    weights = folder.weights.relative_to(folder.root).as_posix()
    return [weights] if written and weights in names and hash_trained_weights(folder, folder.weights) == written else []


def _find_date(folder: BundleFolder, runs: list[tuple[Path, RunRecord]]) -> str:
    """When the latest run ended; without a record, when the weights were written."""
    if ended := [record.ended for _, record in runs if record.ended]:
        return max(ended)
    newest = folder.weights if folder.weights.is_file() else folder.plan
    return datetime.fromtimestamp(int(newest.stat().st_mtime), UTC).isoformat()


def _describe_file(folder: BundleFolder, path: Path) -> Entity:
    file = folder.root / path
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return {
        "@id": path.as_posix(),
        "@type": "File",
        "name": path.name,
        "encodingFormat": kind,
        "contentSize": str(file.stat().st_size),
        "sha256": compute_sha256(file),
    }
