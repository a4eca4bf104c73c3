"""Is a bundle what was sealed? Its files against evidence/manifest.sha256."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from unet_pipeline.audit.source import Entry, Source
from unet_pipeline.errors import BundleError
from unet_pipeline.messages import DANGER, NOTE, WARNING, Message, Problem

MANIFEST, SIGNATURE = "evidence/manifest.sha256", "evidence/manifest.sha256.sig"
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>.+)")
_WORK_FILES = ("models/model_fold_*.pt", "models/initial.pt", "models/.*.lock")  # as `package` leaves them out

NOT_SEALED = Message.of_bundle(
    "not-sealed",
    NOTE,
    "is missing",
    "Without hashes nobody can tell whether a file of the bundle was changed.",
    "`unet-pipeline package` seals a bundle; ask for a sealed one.",
)
MANIFEST_BROKEN = Message.of_bundle(
    "manifest-unreadable",
    DANGER,
    "has a line that is no SHA-256 and name: {text}",
    "The seal is broken.",
    "Get the bundle again.",
)
CHANGED = Message.of_bundle(
    "file-changed",
    DANGER,
    "is not the file that was sealed",
    "Its SHA-256 differs from the manifest's.",
    "Get the bundle again; if you changed it yourself, seal it again with `unet-pipeline package`.",
)
EVIDENCE_CHANGED = Message.of_bundle(
    "evidence-changed",
    WARNING,
    "is not the file that was sealed",
    "Results in it may be newer than the seal.",
    "Seal the bundle again with `unet-pipeline package` if you changed it yourself.",
)
GONE = Message.of_bundle(
    "file-gone", WARNING, "was sealed and is not there", "Something was taken away.", "Get the bundle again."
)
ADDED = Message.of_bundle(
    "file-added",
    DANGER,
    "was put into the bundle after it was sealed",
    "It can take part in what the bundle does.",
    "Delete it; if you put it there yourself, seal the bundle again with `unet-pipeline package`.",
)
WORK_FILE = Message.of_bundle(
    "work-file", NOTE, "is not in the manifest", "It takes no part in what was sealed.", "Nothing to do."
)


def matters(name: str) -> bool:
    """Whether a file takes part in a prediction: configs, weights, modules; not results, documents and work files."""
    if PurePosixPath(name).parts[0] in ("evidence", "docs", "output", "input", "LICENSE") and not name.endswith(".py"):
        return False
    return "__pycache__" not in name and not any(PurePosixPath(name).match(pattern) for pattern in _WORK_FILES)


def read_manifest(text: str) -> tuple[dict[str, str], list[Problem]]:
    """Name -> SHA-256, and what is wrong with the manifest itself."""
    digests, findings = {}, []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match:
            digests[match["name"].removeprefix("./")] = match["digest"]
        elif line.strip():
            findings.append(MANIFEST_BROKEN.about(MANIFEST, text=line))
    return digests, findings


def audit_manifest(
    source: Source, files: Mapping[str, Entry], text: str | None, only_what_matters: bool = False
) -> list[Problem]:
    """Compare every file with the manifest.

    Args:
        source: of the bundle.
        files: its files by their names relative to the bundle's root.
        text: of the manifest; None without one.
        only_what_matters: leave results and documents alone.
    """
    if text is None:
        return [NOT_SEALED.about(MANIFEST)]
    digests, findings = read_manifest(text)
    for name, digest in digests.items():
        if only_what_matters and not matters(name):
            continue
        if name not in files:
            findings.append(GONE.about(name))
        elif compute_digest(source, files[name]) != digest:
            findings.append((CHANGED if matters(name) else EVIDENCE_CHANGED).about(name))
    for name in files.keys() - digests.keys() - {MANIFEST, SIGNATURE}:
        if matters(name):
            findings.append(ADDED.about(name))
        elif not only_what_matters:
            findings.append(WORK_FILE.about(name))
    return sorted(findings, key=lambda finding: finding.file)


def compute_digest(source: Source, entry: Entry) -> str:
    """SHA-256 of an entry; empty when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with source.open(entry) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except (OSError, BundleError):
        return ""
    return digest.hexdigest()
