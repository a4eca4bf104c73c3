"""Which version a bundle has when it is packaged: a new one whenever what it predicts with has changed.

Equal weights, configs, plan and modules keep the version, however often the bundle is packaged.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.write import FIRST_VERSION
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.text_files import read_model


@dataclass(frozen=True)
class Version:
    """A version with the changelog up to it, and SHA-256 of the files that it stands for."""

    version: str
    changelog: dict[str, str]
    files: dict[str, str]


def choose_version(folder: BundleFolder, note: str | None = None) -> Version:
    """The version to package a bundle as.

    Args:
        note: its line in the changelog; which files changed, if None.

    Returns:
        The first version when the bundle was never packaged; the last one with its changelog when nothing has changed (a note
        then takes the place of its line); otherwise the last one with its last number increased.
    """
    files = _hash_content(folder)
    last = _read_last(folder)
    if last is None:
        return Version(FIRST_VERSION, {FIRST_VERSION: note or "trained"}, files)
    if last.files == files:
        return Version(last.version, {**last.changelog, **({last.version: note} if note else {})}, files)
    changed = sorted(name for name in files.keys() | last.files.keys() if files.get(name) != last.files.get(name))
    *front, number = last.version.split(".")
    version = ".".join([*front, str(int(number) + 1)])
    return Version(version, {**last.changelog, version: note or f"changed: {', '.join(changed)}"}, files)


def write_version(folder: BundleFolder, version: Version) -> None:
    """Keep what was packaged, once it is."""
    write_json(folder.versions, asdict(version))


def _read_last(folder: BundleFolder) -> Version | None:
    return read_model(folder.versions, Version) if folder.versions.is_file() else None


def _hash_content(folder: BundleFolder) -> dict[str, str]:
    configs = [path for path in folder.configs.glob("*.json") if path != folder.metadata]
    paths = [folder.weights, folder.plan, *configs, *folder.modules.glob("*.py")]
    return {path.relative_to(folder.root).as_posix(): compute_sha256(path) for path in sorted(paths)}
