"""What a sealed bundle holds, and how its seal is broken."""

from __future__ import annotations

from pathlib import Path

from unet_pipeline.bundle.folder import LAST_CHECKPOINT, PREVIOUS_CHECKPOINT, RUN_LOCK, BundleFolder
from unet_pipeline.errors import BundleError
from unet_pipeline.files import PARTIAL_PREFIX, compute_sha256

MANIFEST, SIGNATURE = "evidence/manifest.sha256", "evidence/manifest.sha256.sig"
# work files: weights of single folds and those before the training, what only a continued training needs, label maps of patients,
# what a list of cases says about them beyond the files, pictures of them for TensorBoard, and which worker did what
_LEFT_OUT_NAMES = (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT, RUN_LOCK)
LEFT_OUT_PATTERNS = (
    "models/model_fold_*.pt",
    "models/initial.pt",
    "models/.*.lock",
    "evidence/evaluations/*/predictions*/*",
    "evidence/evaluations/*/predictions*/replaced/*",
    "evidence/evaluations/*/jobs.sqlite",
    "evidence/tuning_cases/*",
    "evidence/case_table.csv",
    "evidence/runs/*/events.out.tfevents.*.pictures",
    "output/*",
    "input/*",
)


def list_sealed_files(folder: BundleFolder) -> list[Path]:
    """Files that belong to the sealed bundle, relative to its root, sorted."""
    files = []
    for path in sorted(folder.root.rglob("*")):
        relative = path.relative_to(folder.root)
        left_out = path.name in _LEFT_OUT_NAMES or any(relative.match(pattern) for pattern in LEFT_OUT_PATTERNS)
        hidden = any(part.startswith((".", "__pycache__", PARTIAL_PREFIX)) for part in relative.parts)
        if path.is_file() and not left_out and not hidden and path not in (folder.seal, folder.root / SIGNATURE):
            if path.is_symlink():
                raise BundleError(f"{relative} is a link; expected a file. Replace it by the file that it leads to.")
            files.append(relative)
    return files


def build_manifest(folder: BundleFolder) -> str:
    """Files of a bundle with their SHA-256 in the format of sha256sum: `sha256sum -c evidence/manifest.sha256` from the bundle's root.

    Raises:
        BundleError: a file is a link.
    """
    lines = [f"{compute_sha256(folder.root / path)}  {path.as_posix()}" for path in list_sealed_files(folder)]
    return "\n".join(lines) + "\n"


def holds_seal(folder: BundleFolder, apart_from: str = "") -> bool:
    """Whether the files of a bundle are those that were sealed: none changed, added or gone. False without a seal.

    Args:
        folder: the bundle.
        apart_from: a file that may be another one, relative to the bundle's root with "/".
    """
    try:
        sealed, found = folder.seal.read_text(encoding="utf-8"), build_manifest(folder)
    except (BundleError, OSError, UnicodeDecodeError):  # such as a link, which `package` says how to replace
        return False
    different = set(sealed.splitlines()) ^ set(found.splitlines())
    return all(line.partition("  ")[2] == apart_from for line in different)


def break_seal(folder: BundleFolder) -> None:
    """Take the seal away before the bundle is changed; `package` makes a new one."""
    folder.seal.unlink(missing_ok=True)
    folder.seal.with_name(f"{folder.seal.name}.sig").unlink(missing_ok=True)
