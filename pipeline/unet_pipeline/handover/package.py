"""Freezes a trained bundle: metadata and model card from the evidence, verification, SHA-256 manifest, zip."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.audit.signature import sign_manifest
from unet_pipeline.bundle.folder import BundleFolder, require_weights
from unet_pipeline.bundle.half_weights import FLOAT16, FLOAT32, holds_full_weights
from unet_pipeline.bundle.metadata import build_metadata
from unet_pipeline.bundle.seal import SIGNATURE, break_seal, build_manifest, list_sealed_files
from unet_pipeline.evaluation.files import SUMMARY_FILE, read_summary
from unet_pipeline.evaluation.summary import ALL_LABELS
from unet_pipeline.evidence.report.checklists import write_checklists
from unet_pipeline.evidence.report.history import read_history
from unet_pipeline.evidence.report.model_card import write_model_card
from unet_pipeline.files import compute_sha256, require_place, write_atomically, write_json, write_text
from unet_pipeline.handover.export import Export, choose_formats, export_bundle
from unet_pipeline.handover.parity import EngineParity, compare_engines
from unet_pipeline.handover.verify import Verification, verify_bundle
from unet_pipeline.handover.versions import choose_version, write_version
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.results import Result

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that the format knows: equal bundles give equal archives


@dataclass(frozen=True, repr=False)
class Package(Result):
    """A sealed bundle."""

    zip_file: Path
    sha256: str
    verifications: tuple[Verification, ...]
    version: str
    exports: tuple[Export, ...]
    parity: EngineParity


def package_bundle(
    folder: BundleFolder,
    zip_file: Path,
    key: Path | None = None,
    export: str | None = None,
    note: str | None = None,
    describe: Callable[[BundleFolder], object] | None = None,
) -> Package:
    """Verify, document, seal and zip a bundle.

    Args:
        folder: with weights; an evaluation is not needed, but its absence is stated in the model card.
        zip_file: is replaced when it exists.
        key: private SSH key to sign the manifest with.
        export: see `choose_formats`.
        note: see `choose_version`.
        describe: writes what describes the whole bundle, such as its RO-Crate; called when all else is there, before the seal.

    Raises:
        BundleError: no weights, a check fails, or an export does not agree with the network; then no zip is written and an
            earlier one is left as it is.
    """
    require_weights(folder)
    require_place(zip_file)
    formats = choose_formats(export)
    plan = read_plan(folder.plan)
    version = choose_version(folder, note)
    stored = FLOAT32 if holds_full_weights(folder.weights) else FLOAT16
    metadata = build_metadata(plan, folder.name, version.version, version.changelog, read_eval_metrics(folder), stored)
    write_json(folder.metadata, metadata)
    verifications = verify_bundle(folder)
    parity = compare_engines(folder)
    exports = export_bundle(folder, formats)
    write_version(folder, version)
    history = read_history(folder)
    write_model_card(history)
    write_checklists(history)
    break_seal(folder)
    if describe is not None:
        describe(folder)
    write_text(folder.seal, build_manifest(folder))
    if key is not None:
        sign_manifest(folder.seal, key)
    _write_zip(folder, zip_file)
    return Package(zip_file, compute_sha256(zip_file), verifications, version.version, exports, parity)


def read_eval_metrics(folder: BundleFolder) -> dict[str, float]:
    """Mean of every metric and label from the cross-validation's summary; empty when there is none yet."""
    target = folder.evaluations / "validation"
    if not (target / SUMMARY_FILE).is_file():
        return {}
    return {
        f"{'mean' if row.label == ALL_LABELS else row.label}_{row.metric}": round(row.mean, 6)
        for row in read_summary(target).rows
        if row.in_mean and not math.isnan(row.mean)
    }


def _write_zip(folder: BundleFolder, zip_file: Path) -> None:
    with write_atomically(zip_file) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        signature = [Path(SIGNATURE)] if (folder.root / SIGNATURE).is_file() else []
        for path in [*list_sealed_files(folder), folder.seal.relative_to(folder.root), *signature]:
            entry = zipfile.ZipInfo(f"{folder.name}/{path.as_posix()}", _ZIP_TIME)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, (folder.root / path).read_bytes())
