"""`package`: a trained bundle, verified and sealed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.audit.trust import open_trusted

if TYPE_CHECKING:
    from unet_pipeline.handover.package import Package


def package(
    bundle: Path | str,
    zip_file: Path | str | None = None,
    key: Path | str | None = None,
    trust: bool = False,
    export: str | None = None,
    note: str | None = None,
) -> Package:
    """Verify, export, document, seal and zip a trained bundle.

    Args:
        bundle: trained.
        zip_file: the archive; beside the folder by default.
        key: private SSH key to sign it with.
        trust: run it although its audit finds a danger.
        export: torchscript, onnx, both joined by a comma, or none; all that the installed packages can write, if None.
        note: line of this version in the changelog; the files that changed, if None.

    Raises:
        BundleError: no weights, a check fails, or an export does not agree with the network.
    """
    from unet_pipeline.evidence.records.crate import write_crate
    from unet_pipeline.handover.package import package_bundle

    folder = open_trusted(bundle, "package", trust, sealed=False)
    folder.require_data()
    default = folder.root.resolve().with_name(f"{folder.name}.zip")
    target = Path(zip_file) if zip_file is not None else default
    return package_bundle(folder, target, Path(key) if key is not None else None, export, note, write_crate)
