"""The verbs with which a bundle goes to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.boundary import guard
from pipeline.bundle.audit import Audit, audit_bundle
from pipeline.bundle.trust import open_trusted

if TYPE_CHECKING:
    from pipeline.bundle.package import Package


@guard
def audit(bundle: Path | str, key: Path | str | None = None) -> Audit:
    """What a bundle would do, found out without running any of it.

    Args:
        bundle: any MONAI bundle: a folder, a zip or tar, or the file:// address of one.
        key: public SSH key that must have signed it.

    Raises:
        BundleError: there is no bundle, or no ssh-keygen to check a signature with.
    """
    return audit_bundle(bundle, Path(key) if key is not None else None)


@guard
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
    from pipeline.bundle.package import package_bundle
    from pipeline.evidence.crate import write_crate

    folder = open_trusted(bundle, "package", trust, sealed=False)
    folder.require_data()
    default = folder.root.resolve().with_name(f"{folder.name}.zip")
    target = Path(zip_file) if zip_file is not None else default
    return package_bundle(folder, target, Path(key) if key is not None else None, export, note, write_crate)
