"""`audit`: what a bundle would do, without running any of it."""

from __future__ import annotations

from pathlib import Path

from unet_pipeline.audit.audit import Audit, audit_bundle


def audit(bundle: Path | str, key: Path | str | None = None) -> Audit:
    """What a bundle would do, found out without running any of it.

    Args:
        bundle: any MONAI bundle: a folder, a zip or tar, or the file:// address of one.
        key: public SSH key that must have signed it.

    Raises:
        BundleError: there is no bundle, or no ssh-keygen to check a signature with.
    """
    return audit_bundle(bundle, Path(key) if key is not None else None)
