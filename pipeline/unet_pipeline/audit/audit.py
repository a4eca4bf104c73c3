"""What would a bundle do? Found out from its files alone; nothing of it is executed, imported, unpickled or unpacked.

Works on any MONAI bundle, as a folder or as an archive. `audit_source` reads it, the other `audit_*` modules each know
one kind of file, and this module leads the files to them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from unet_pipeline.audit.archive import ARCHIVES, audit_entries, find_shadowing, list_zip_entries, normalize
from unet_pipeline.audit.configs import (
    MODULE,
    RESULTS,
    SCRIPT,
    Config,
    Runs,
    audit_config,
    list_config_imports,
    read_config,
)
from unet_pipeline.audit.files import (
    audit_by_name,
    audit_compiled,
    audit_logging,
    audit_module,
    audit_onnx,
    audit_weights,
)
from unet_pipeline.audit.manifest import MANIFEST, SIGNATURE, audit_manifest
from unet_pipeline.audit.own_expressions import accept_own_expressions
from unet_pipeline.audit.pickles import audit_array, is_pickle
from unet_pipeline.audit.signature import verify_signature
from unet_pipeline.audit.source import FILE, LINK, MAX_READ_BYTES, Entry, Source, open_source, read_entry
from unet_pipeline.errors import BundleError
from unet_pipeline.messages import DANGER, SEVERITIES, Message, Problem

MAX_CONFIG_BYTES = 32 << 20
_CONFIGS = (".json", ".yaml", ".yml")
_LOGGING = (".conf", ".ini", ".cfg")
_WEIGHTS = (
    ".pt",
    ".pth",
    ".ts",
    ".ckpt",
    ".bin",
    ".pkl",
    ".pickle",
    ".joblib",
    ".model",
    ".tar.pt",
    ".npz",
    ".torchscript",
)

_APPLE_DOUBLE = b"\0\5\x16\7"  # what macOS puts beside each file of a zip: names and colours of its Finder
_BOMBS, _SMALL_BYTES = ("size-bomb", "size-total", "entry-overlap"), 1 << 20
UNREADABLE = Message.of_bundle(
    "file-unreadable",
    DANGER,
    "cannot be looked at: {text}",
    "What it would do cannot be told.",
    "Get the bundle again.",
)
NO_BUNDLE = Message.of_bundle(
    "no-configs", DANGER, "has no folder configs with a JSON or YAML file", "It is no MONAI bundle.", "Check the path."
)

SEVERAL_BUNDLES = Message.of_bundle(
    "several-bundles",
    DANGER,
    "holds {count} bundles: {text}",
    "Which of them is meant cannot be told.",
    "Unpack it, and give the folder of one.",
)


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        name: of the bundle.
        num_files: that were looked at.
        runs: every target, expression, import, module and script, in the order of the files.
        findings: worst first.
    """

    name: str
    num_files: int
    runs: tuple[Runs, ...]
    findings: tuple[Problem, ...]

    @property
    def dangers(self) -> tuple[Problem, ...]:
        """Findings for which the bundle should not be used unless its maker is trusted."""
        return tuple(finding for finding in self.findings if finding.severity == DANGER)

    @property
    def passed(self) -> bool:
        """Whether there is no danger."""
        return not self.dangers


def audit_bundle(bundle: Path | str, key: Path | None = None) -> Audit:
    """Look at every file of a bundle.

    Args:
        bundle: a folder, a zip or tar, or a file:// address of one.
        key: public SSH key that must have signed the manifest.

    Raises:
        BundleError: there is nothing, or nothing that can be opened.
    """
    source = open_source(bundle)
    found = audit_source(source)
    if key is None:
        return found
    files = find_files(source.entries)
    manifest, signature = (
        read_entry(source, files[name], MAX_CONFIG_BYTES) if name in files else None for name in (MANIFEST, SIGNATURE)
    )
    return replace(found, findings=_sort([*found.findings, verify_signature(manifest, signature, key)]))


def _sort(findings: list[Problem]) -> tuple[Problem, ...]:
    """Worst first, each once."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: SEVERITIES.index(finding.severity)))


def audit_source(source: Source, quick: bool = False, sealed: bool = True) -> Audit:
    """The same for a bundle that is open.

    Args:
        source: the bundle.
        quick: only what takes part in training and prediction; results and documents are left alone.
        sealed: compare with the manifest.
    """
    archived = not hasattr(source, "root")
    findings = audit_entries(source.entries, source.name, archived)
    files = find_files(source.entries)
    own = find_own_modules(files)
    if not any(name.startswith("configs/") and name.endswith(_CONFIGS) for name in files):
        findings.append(NO_BUNDLE.about(source.name))
    if archived and len(roots := list_roots(source.entries)) > 1:
        findings.append(SEVERAL_BUNDLES.about(source.name, count=len(roots), text=", ".join(roots[:3])))
    findings += find_shadowing(tuple(files))
    # of a bomb only the small files are read, which say what it would do
    is_bomb = archived and any(finding.code in _BOMBS for finding in findings)
    configs: list[Config] = []
    runs: list[Runs] = []
    for name in sorted(files, key=lambda item: (not item.startswith("configs/"), item)):
        if quick and name.partition("/")[0] in RESULTS and not name.endswith((".py", *_CONFIGS)):
            continue
        if (quick and name.startswith("evidence/")) or (is_bomb and files[name].size > _SMALL_BYTES):
            continue
        try:
            if not _is_of_finder(source, name, files[name]):
                _audit_file(source, name, files, own, configs, runs, findings)
        except BundleError as error:
            findings.append(UNREADABLE.about(name, text=str(error).split(". ")[0]))
        except OSError as error:
            findings.append(UNREADABLE.about(name, text=type(error).__name__))
    imported = list_config_imports(configs)
    for config in configs:
        of_config, problems = accept_own_expressions(config, configs, *audit_config(config, imported, own))
        if _is_config(config.file) or any(run.kind == "target" for run in of_config):
            runs += of_config
            findings += problems
        else:  # a text that begins with "$" in a table of results is no expression unless a config takes it
            findings += config.findings
    if sealed:
        text = (
            read_entry(source, files[MANIFEST], MAX_CONFIG_BYTES).decode("utf-8", "replace")
            if MANIFEST in files
            else None
        )
        findings += audit_manifest(source, files, text, only_what_matters=quick)
    return Audit(source.name, len(files), tuple(runs), _sort(findings))


def _is_of_finder(source: Source, name: str, entry: Entry) -> bool:
    """Whether macOS put the file beside another one; its bytes decide, not its name alone."""
    if not PurePosixPath(name).name.startswith("._"):
        return False
    with source.open(entry) as stream:
        return stream.read(4) == _APPLE_DOUBLE


def _is_config(file: str) -> bool:
    return file.partition("/")[0] not in RESULTS or "!" in file


def find_files(entries: tuple[Entry, ...]) -> dict[str, Entry]:
    """Files by their names relative to the bundle's root, which in an archive may be a folder in it."""
    files = {normalize(entry.name): entry for entry in entries if entry.kind == FILE and not _is_left_in_archive(entry)}
    roots = list_roots(entries)
    if not roots or roots[0] == ".":
        return files
    return {name.removeprefix(f"{roots[0]}/"): entry for name, entry in files.items()}


def _is_left_in_archive(entry: Entry) -> bool:
    """Whether an entry is of the folder that macOS adds to a zip; it is neither looked at nor unpacked."""
    return entry.start >= 0 and normalize(entry.name).startswith("__MACOSX/")


def list_roots(entries: tuple[Entry, ...]) -> list[str]:
    """Folders that hold a folder configs, as few levels deep as the first of them; more than one only in an archive of several bundles."""
    names = [PurePosixPath(normalize(entry.name)) for entry in entries if entry.kind == FILE]
    roots = {
        name.parent.parent
        for name in names
        if name.parent.name == "configs" and not name.parts[0].startswith("__MACOSX")
    }
    depth = min((len(root.parts) for root in roots), default=0)
    return sorted(root.as_posix() for root in roots if len(root.parts) == depth)


def find_own_modules(files: Mapping[str, Entry]) -> frozenset[str]:
    """Dotted names of the bundle's Python modules and their folders."""
    names = set()
    for file in files:
        if file.endswith(".py"):
            parts = file.removesuffix(".py").split("/")
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            names |= {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    return frozenset(names)


def _audit_file(
    source: Source,
    name: str,
    files: Mapping[str, Entry],
    own: frozenset[str],
    configs: list[Config],
    runs: list[Runs],
    findings: list[Problem],
) -> None:
    """Lead one file to those who know its kind; configs are collected, because they share their imports."""
    entry, lower = files[name], name.lower()

    def read(limit: int = MAX_READ_BYTES) -> bytes:
        return read_entry(source, entry, limit)

    by_name = audit_by_name(name)
    findings += by_name
    runs += [Runs(name, "", SCRIPT, PurePosixPath(name).name) for found in by_name if found.severity != DANGER]
    if lower.endswith(_CONFIGS):
        configs.append(read_config(name, read(MAX_CONFIG_BYTES)))
    elif lower.endswith(".py"):
        found = audit_module(name, read(MAX_CONFIG_BYTES), own)
        findings += found
        runs.append(Runs(name, "", MODULE, name, DANGER if any(item.severity == DANGER for item in found) else ""))
    elif lower.endswith((".pyc", ".pyo")):
        findings += audit_compiled(name, read(MAX_CONFIG_BYTES), frozenset(files))
    elif lower.endswith(_LOGGING):
        findings += audit_logging(name, read(MAX_CONFIG_BYTES))
    elif lower.endswith(".onnx"):
        findings += audit_onnx(name, read())
    elif lower.endswith(".npy"):
        with source.open(entry) as stream:
            findings += audit_array(name, stream)
    elif lower.endswith(_WEIGHTS):
        _audit_weights(source, name, entry, configs, findings)
    elif lower.endswith(ARCHIVES):
        findings += _audit_nested(name, read, 1)
    else:
        with source.open(entry) as stream:
            start = stream.read(4)
        if is_pickle(start):
            _audit_weights(source, name, entry, configs, findings)
        elif start == b"PK\x03\x04":
            findings += _audit_nested(name, read, 1)


def _audit_weights(source: Source, name: str, entry: Entry, configs: list[Config], findings: list[Problem]) -> None:
    with source.open(entry) as stream:
        found, extra = audit_weights(name, stream)
    findings += found
    for inner, raw in extra.items():  # the configs that MONAI Deploy reads from a TorchScript archive
        if raw.lstrip()[:1] in (b"{", b"["):
            configs.append(read_config(inner, raw))


def _audit_nested(name: str, read: Callable[[], bytes], depth: int) -> list[Problem]:
    """The list of entries of a zip inside the bundle, and of a zip inside that one."""
    raw = read()
    if raw[:2] != b"PK":
        return []
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = list_zip_entries(archive)
            found = audit_entries(entries, name, archived=True, inside=f"{name}!")
            for entry, info in zip(entries, archive.infolist(), strict=True):
                nested = entry.name.lower().endswith(".zip") and entry.kind != LINK
                if nested and depth < 3 and entry.size < MAX_CONFIG_BYTES:
                    found += _audit_nested(f"{name}!{entry.name}", lambda info=info: archive.read(info), depth + 1)  # type: ignore[misc]
                elif nested:
                    found.append(
                        UNREADABLE.about(f"{name}!{entry.name}", text="archives inside archives inside archives")
                    )
    except Exception as error:  # a damaged or hostile archive fails in many ways
        return [UNREADABLE.about(name, text=type(error).__name__)]
    return found
