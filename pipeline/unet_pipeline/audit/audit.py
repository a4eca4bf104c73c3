"""What would a bundle do? Found out from its files alone; nothing of it is executed, imported, unpickled or unpacked.

Works on any MONAI bundle, as a folder or as an archive. `source.py` reads it, `planned.py` makes anew what `plan` would write for it,
the others each know one kind of file, and this module leads the files to them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from unet_pipeline.audit.archive import ARCHIVES, audit_entries, list_zip_entries, normalize
from unet_pipeline.audit.configs import (
    MODULE,
    OUTSIDE_EXPRESSION,
    OUTSIDE_TARGET,
    PLAN,
    TEXT_TO_CODE,
    Runs,
    audit_config,
    read_config,
)
from unet_pipeline.audit.files import (
    NATIVE_CODE,
    audit_compiled,
    audit_logging,
    audit_module,
    audit_onnx,
    audit_weights,
    is_native,
    is_same_text,
)
from unet_pipeline.audit.manifest import audit_manifest
from unet_pipeline.audit.pickles import audit_array, is_pickle
from unet_pipeline.audit.planned import Planned, build_planned
from unet_pipeline.audit.signature import verify_signature
from unet_pipeline.audit.source import FILE, LINK, MAX_READ_BYTES, Entry, Source, open_source, read_entry
from unet_pipeline.bundle.seal import MANIFEST, SIGNATURE
from unet_pipeline.errors import BundleError, PlanError
from unet_pipeline.messages import DANGER, SEVERITIES, Message, Problem
from unet_pipeline.results import Result

MAX_CONFIG_BYTES = 32 << 20
# folders of results and documents, of which nothing is run
_RESULTS = frozenset(("evidence", "docs", "output", "input"))
_CONFIGS = (".json", ".yaml", ".yml")
_LOGGING = (".conf", ".ini", ".cfg")
_RUN = (*_CONFIGS, *_LOGGING, ".py")
_WEIGHTS = (".pt", ".pth", ".ts", ".ckpt", ".bin", ".pkl", ".pickle", ".joblib", ".model", ".npz", ".torchscript")

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
PLAN_WRONG = Message.of_bundle(
    "plan-unreadable",
    DANGER,
    "cannot be read: {text}",
    "What `plan` would write for it cannot be told.",
    "Correct the plan.",
)
SEVERAL_BUNDLES = Message.of_bundle(
    "several-bundles",
    DANGER,
    "holds {count} bundles: {text}",
    "Which of them is meant cannot be told.",
    "Unpack it, and give the folder of one.",
)


@dataclass(frozen=True, repr=False)
class Audit(Result):
    """What was found.

    Attributes:
        name: of the bundle.
        num_files: that were looked at.
        runs: every target, expression, import, text that names something, and module, in the order of the files.
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
    """Worst first, each once; in equal cases what runs comes last, which may be long."""
    runs = {notice.code for notice in (OUTSIDE_TARGET, OUTSIDE_EXPRESSION, TEXT_TO_CODE)}
    return tuple(sorted(dict.fromkeys(findings), key=lambda item: (SEVERITIES.index(item.severity), item.code in runs)))


@dataclass
class _Audited:
    """A bundle while it is looked at, and what was found so far."""

    source: Source
    files: Mapping[str, Entry]
    quick: bool
    planned: Planned = field(default_factory=Planned)
    runs: list[Runs] = field(default_factory=list)
    findings: list[Problem] = field(default_factory=list)

    def read(self, name: str, limit: int = MAX_READ_BYTES) -> bytes:
        """Contents of a file."""
        return read_entry(self.source, self.files[name], limit)


def audit_source(source: Source, quick: bool = False, sealed: bool = True) -> Audit:
    """The same for a bundle that is open.

    Args:
        source: the bundle.
        quick: only what takes part in training and prediction; results and documents are left alone, and a plan must be valid.
        sealed: compare with the manifest.

    Raises:
        PlanError: `quick`, and its plan is not valid.
    """
    archived = not hasattr(source, "root")
    found = _Audited(source, find_files(source.entries), quick)
    files = found.files
    found.findings += audit_entries(source.entries, source.name, archived)
    if not any(name.startswith("configs/") and name.endswith(_CONFIGS) for name in files):
        found.findings.append(NO_BUNDLE.about(source.name))
    if archived and len(roots := list_roots(source.entries)) > 1:
        found.findings.append(SEVERAL_BUNDLES.about(source.name, count=len(roots), text=", ".join(roots[:3])))
    # what a link leads to may lie where nothing is looked at
    links = [entry.name for entry in source.entries if entry.kind == LINK and entry.name.lower().endswith(_RUN)]
    found.findings += [UNREADABLE.about(name, text="it is a link") for name in links]
    _find_planned(found)
    # of a bomb only the small files are read, which say what it would do
    is_bomb = archived and any(finding.code in _BOMBS for finding in found.findings)
    for name in sorted(files, key=lambda item: (not item.startswith("configs/"), item)):
        is_result = name.partition("/")[0] in _RESULTS
        if (quick and is_result and not name.endswith(".py")) or (is_bomb and files[name].size > _SMALL_BYTES):
            continue
        try:
            if not _is_of_finder(source, name, files[name]):
                _audit_file(found, name, is_result)
        except BundleError as error:
            found.findings.append(UNREADABLE.about(name, text=str(error).split(". ")[0]))
        except OSError as error:
            found.findings.append(UNREADABLE.about(name, text=type(error).__name__))
    if sealed:
        text = found.read(MANIFEST, MAX_CONFIG_BYTES).decode("utf-8", "replace") if MANIFEST in files else None
        found.findings += audit_manifest(source, files, text, only_what_matters=quick)
    return Audit(source.name, len(files), tuple(found.runs), _sort(found.findings))


def _find_planned(found: _Audited) -> None:
    """What `plan` would write for the bundle's plan, if it has one."""
    if PLAN not in found.files:
        return
    try:
        found.planned = build_planned(found.read(PLAN, MAX_CONFIG_BYTES))
        found.findings += found.planned.findings
    except PlanError as error:
        if found.quick:
            raise
        found.findings.append(PLAN_WRONG.about(PLAN, text=str(error).removeprefix(f"{PLAN}: ").rstrip(".")))
    except BundleError as error:
        found.findings.append(UNREADABLE.about(PLAN, text=str(error).split(". ")[0]))


def _is_of_finder(source: Source, name: str, entry: Entry) -> bool:
    """Whether macOS put the file beside another one; its bytes decide, not its name alone."""
    if not PurePosixPath(name).name.startswith("._"):
        return False
    with source.open(entry) as stream:
        return stream.read(4) == _APPLE_DOUBLE


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


def _audit_file(found: _Audited, name: str, is_result: bool) -> None:
    """Lead one file to those who know its kind."""
    lower, findings = name.lower(), found.findings
    if lower.endswith(_CONFIGS):
        if not is_result and name != PLAN:  # a config that takes a part from a table of results says so itself
            _audit_config(found, name, found.read(name, MAX_CONFIG_BYTES))
    elif is_native(name):
        findings.append(NATIVE_CODE.about(name))
    elif lower.endswith(".py"):
        problems = audit_module(name, found.read(name, MAX_CONFIG_BYTES), found.planned.texts.get(name))
        findings += problems
        found.runs.append(Runs(name, "", MODULE, name, problems[0].severity if problems[0].severity == DANGER else ""))
    elif lower.endswith((".pyc", ".pyo")):
        findings += audit_compiled(name, found.read(name, MAX_CONFIG_BYTES), frozenset(found.files))
    elif lower.endswith(_LOGGING):
        raw = found.read(name, MAX_CONFIG_BYTES)
        findings += [] if is_same_text(raw, found.planned.texts.get(name, "")) else audit_logging(name, raw)
    else:
        _audit_data(found, name)


def _audit_data(found: _Audited, name: str) -> None:
    """Weights, arrays, archives, and what turns out to be a pickle or a zip."""
    lower = name.lower()
    with found.source.open(found.files[name]) as stream:
        start = stream.read(4)
    if lower.endswith(".onnx"):
        found.findings += audit_onnx(name, found.read(name))
    elif lower.endswith(".npy"):
        with found.source.open(found.files[name]) as stream:
            found.findings += audit_array(name, stream)
    elif lower.endswith(_WEIGHTS) or (is_pickle(start) and not lower.endswith(ARCHIVES)):
        _audit_weights(found, name)
    elif lower.endswith(ARCHIVES) or start == b"PK\x03\x04":
        found.findings += _audit_nested(name, lambda: found.read(name), 1)


def _audit_config(found: _Audited, name: str, raw: bytes) -> None:
    """A config of the bundle, or a copy of one inside TorchScript."""
    planned = f"configs/{PurePosixPath(name).name}" if "!" in name else name
    runs, findings = audit_config(read_config(name, raw), found.planned.configs.get(planned))
    found.runs += runs
    found.findings += findings


def _audit_weights(found: _Audited, name: str) -> None:
    with found.source.open(found.files[name]) as stream:
        findings, extra = audit_weights(name, stream)
    found.findings += findings
    for (
        inner,
        raw,
    ) in extra.items():  # the configs that MONAI Deploy reads from a TorchScript archive, and no verb of ours
        if not found.quick and raw.lstrip()[:1] in (b"{", b"["):
            _audit_config(found, inner, raw)


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
