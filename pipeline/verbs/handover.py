"""The verbs with which a bundle goes to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bundle.audit import Audit, audit_bundle
from pipeline.bundle.trust import open_trusted

if TYPE_CHECKING:
    from pipeline.bundle.package import Package


def audit(bundle: Path | str, key: Path | str | None = None) -> Audit:
    """What a bundle would do, found out without running any of it.

    Args:
        bundle: any MONAI bundle: a folder, a zip or tar, or the file:// address of one.
        key: public SSH key that must have signed it.

    Raises:
        BundleError: there is no bundle, or no ssh-keygen to check a signature with.
    """
    return audit_bundle(bundle, Path(key) if key is not None else None)


def package(
    bundle: Path | str, zip_file: Path | str | None = None, key: Path | str | None = None, trust: bool = False
) -> Package:
    """Verify, document, seal and zip a trained bundle; the zip lies beside the folder by default.

    Args:
        bundle: trained.
        zip_file: the archive.
        key: private SSH key to sign it with.
        trust: run it although its audit finds a danger.

    Raises:
        BundleError: no weights, or a check fails.
    """
    from pipeline.bundle.package import package_bundle

    folder = open_trusted(bundle, "package", trust, sealed=False)
    default = folder.root.resolve().with_name(f"{folder.name}.zip")
    return package_bundle(
        folder, Path(zip_file) if zip_file is not None else default, Path(key) if key is not None else None
    )
