"""The verbs with which a bundle goes to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bundle_folder import open_bundle

if TYPE_CHECKING:
    from pipeline.bundle.package import Package


def package(bundle: Path | str, zip_file: Path | str | None = None) -> Package:
    """Verify, document, seal and zip a trained bundle; the zip lies beside the folder by default.

    Raises:
        BundleError: no weights, or a check fails.
    """
    from pipeline.bundle.package import package_bundle

    folder = open_bundle(bundle)
    default = folder.root.resolve().with_name(f"{folder.name}.zip")
    return package_bundle(folder, Path(zip_file) if zip_file is not None else default)
