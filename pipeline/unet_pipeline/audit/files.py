"""Files of a bundle that are no configs: weights, TorchScript, ONNX, arrays, modules, logging.conf, native code, archives."""

from __future__ import annotations

import ast
import configparser
import hashlib
import re
import warnings
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import BinaryIO

from unet_pipeline.audit.code import ADDRESS, Scope, bound_names, inspect_tree, list_imports
from unet_pipeline.audit.pickles import audit_array, audit_legacy_weights, audit_pickle
from unet_pipeline.dataset.signatures import name_content
from unet_pipeline.messages import DANGER, NOTE, WARNING, Message, Problem

CODE_OUTSIDE = Message.of_bundle(
    "module-outside",
    DANGER,
    "uses {text}, which {reason}",
    "A module runs when the bundle's configs name it.",
    "Read the module before you use the bundle.",
)
CODE_NOTICED = Message.of_bundle(
    "module-noticed",
    WARNING,
    "uses {text}, which {reason}",
    "A module runs when the bundle's configs name it.",
    "Look.",
)
CODE_UNPARSED = Message.of_bundle(
    "module-unparsed", DANGER, "is no Python that can be read", "What it does cannot be told.", "Get the bundle again."
)
EXTERNAL_MODULE = Message.of_bundle(
    "module-of-the-bundle",
    WARNING,
    "is a module of the bundle's own; nothing outside of the allowed packages was found in it",
    "Code can hide what it does.",
    "Read it, if you do not know who made the bundle.",
)
OWN_MODULE = Message.of_bundle(
    "module-of-this-package", NOTE, "is a copy of this package's {text}", "Its SHA-256 is the same.", "Nothing to do."
)
NATIVE_CODE = Message.of_bundle(
    "native-code",
    DANGER,
    "is compiled code",
    "What it does cannot be read from it.",
    "Use the bundle only if you know who made it; better build it from source.",
)
CACHED_CODE = Message.of_bundle(
    "cached-code",
    WARNING,
    "is a module that Python has compiled",
    "Python may run it instead of the source beside it.",
    "Delete the folder `__pycache__`, unless you made it yourself by using the bundle.",
)
CACHED_UNCHECKED = Message.of_bundle(
    "cached-code-unchecked",
    DANGER,
    "is compiled Python that hides the source beside it",
    "Python runs it without a look at the source.",
    "Delete it.",
)
SCRIPT_FILE = Message.of_bundle(
    "script", NOTE, "is a script or notebook", "Nothing runs it by itself.", "Read it before you run it."
)
LOGGING_CODE = Message.of_bundle(
    "logging-code",
    DANGER,
    "has {text} under {key}",
    "`logging.config.fileConfig` evaluates it as Python code before any config is read; MONAI refuses the file.",
    "Do not use this file.",
)
LOGGING_BROKEN = Message.of_bundle(
    "logging-unreadable", WARNING, "cannot be read as a logging config", "MONAI refuses the file.", "Get it again."
)
TORCHSCRIPT = Message.of_bundle(
    "torchscript",
    NOTE,
    "is TorchScript with {count} code files; no file or network operation was found in them",
    "TorchScript is code that runs when it is loaded and called.",
    "Nothing to do.",
)
TORCHSCRIPT_OPERATION = Message.of_bundle(
    "torchscript-operation",
    DANGER,
    "calls {text}",
    "TorchScript is code; this operation reads or writes files, or belongs to a library outside of PyTorch.",
    "Do not load it; ask for a state_dict.",
)
WEIGHTS_BROKEN = Message.of_bundle(
    "weights-unreadable",
    DANGER,
    "cannot be read as weights: {text}",
    "What loading it does cannot be told.",
    "Get the file again.",
)
ONNX_OUTSIDE = Message.of_bundle(
    "onnx-outside",
    DANGER,
    "keeps tensors in {text}, outside of the bundle",
    "A runtime reads that file when it loads the model.",
    "Do not load it.",
)
_START_BYTES = 132
_NATIVE = (
    ".so",
    ".pyd",
    ".dll",
    ".dylib",
    ".exe",
    ".com",
    ".msi",
    ".engine",
    ".plan",
    ".trt",
    ".jar",
    ".class",
    ".node",
)
_SCRIPTS = (
    ".sh",
    ".bash",
    ".bat",
    ".cmd",
    ".ps1",
    ".ipynb",
    ".js",
    ".html",
    ".htm",
    ".svg",
    ".pth.txt",
    ".desktop",
    ".lnk",
)
_MAX_RECORD_BYTES = 256 << 20
_FILE_OPERATION = re.compile(
    r"\b(?:torch|ops\.\w+|aten)(?:\.|::)(?:from_file|save|load|_save|_load|ops\.load_library|sys\w*)\b"
    r"|\bops\.(?!aten\b|prim\b|quantized\b|profiler\b|torchvision\b|mkldnn\b|mkldnn_prepacked\b|prepacked\b|_quantized\b"
    r"|static\b|inductor\b|sparse\b|xnnpack\b|rnn\b)\w+\.\w+|\b__torch__\.torch\.classes\.\w+[\w.]*|\bread_file\b|\bwrite_file\b"
)
_LOGGING_CLASS = re.compile(
    r"(?:logging\.)?(?:handlers\.)?[A-Z]\w*(?:Handler|Formatter)|logging\.Formatter|logging\.Filter"
)
_EXTERNAL_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")


def audit_module(file: str, raw: bytes, own: frozenset[str]) -> list[Problem]:
    """A Python module, read as a syntax tree."""
    if copied := _own_modules().get(hashlib.sha256(raw).hexdigest()):
        return [OWN_MODULE.about(file, text=copied)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(raw)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [CODE_UNPARSED.about(file)]
    scope = Scope(list_imports(tree), own, bound_names(tree) | frozenset(_attributes_bound_by_imports(tree)))
    findings = []
    for found in inspect_tree(tree, scope):
        if found.verdict.severity == WARNING and not ADDRESS.search(found.text):
            continue
        notice = CODE_OUTSIDE if found.verdict.severity == DANGER else CODE_NOTICED
        if "\n" in found.text:  # a docstring may name an address
            continue
        findings.append(notice.about(file, f"line {found.line}", text=found.text, reason=found.verdict.reason))
    findings.sort(key=lambda finding: (finding.severity, int(finding.place.removeprefix("line "))))
    return findings if any(found.severity == DANGER for found in findings) else [EXTERNAL_MODULE.about(file), *findings]


def _attributes_bound_by_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield from (alias.asname or alias.name for alias in node.names)


@cache
def _own_modules() -> dict[str, str]:
    """SHA-256 -> name of every network module that `plan` copies into bundles."""
    folder = resources.files("unet_pipeline.networks")
    return {
        hashlib.sha256(path.read_bytes()).hexdigest(): f"pipeline/unet_pipeline/networks/{path.name}"
        for path in folder.iterdir()
        if path.name.endswith(".py")
    }


def audit_compiled(file: str, raw: bytes, sources: frozenset[str]) -> list[Problem]:
    """A .pyc file; only one that Python has made for a module of the bundle, and checks against it, may be meant."""
    folder, _, name = file.rpartition("/")
    source = f"{folder.removesuffix('__pycache__')}{name.partition('.')[0]}.py"
    checked = folder.endswith("__pycache__") and len(raw) >= 16 and raw[4:8] == b"\0\0\0\0"
    return [(CACHED_CODE if checked and source in sources else CACHED_UNCHECKED).about(file)]


def audit_by_name(file: str) -> list[Problem]:
    """Native code and scripts, which their ending shows."""
    lower = file.lower()
    if lower.endswith(_NATIVE) or re.search(r"\.so\.\d", lower):
        return [NATIVE_CODE.about(file)]
    return [SCRIPT_FILE.about(file)] if lower.endswith(_SCRIPTS) else []


def audit_logging(file: str, raw: bytes) -> list[Problem]:
    """A config for logging.config.fileConfig, whose classes and arguments are evaluated."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(raw.decode("utf-8-sig"))
    except (configparser.Error, UnicodeDecodeError, ValueError):
        return [LOGGING_BROKEN.about(file)]
    findings = []
    for section in parser.sections():
        for key, value in parser.items(section):
            harmless = {
                "class": lambda text: not text or bool(_LOGGING_CLASS.fullmatch(text)),
                "args": _is_plain,
                "kwargs": _is_plain,
            }.get(key)
            if harmless is not None and not harmless(value):
                findings.append(LOGGING_CODE.about(file, section, text=value, key=key))
    return findings


def _is_plain(text: str) -> bool:
    """Literals, and the two streams that a console handler needs."""
    try:
        tree = ast.parse(text.strip() or "()", mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    kinds = (ast.Expression, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Load, ast.UnaryOp, ast.USub)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if ast.unparse(node) not in ("sys.stdout", "sys.stderr"):
                return False
        elif isinstance(node, ast.Name):
            if node.id != "sys":
                return False
        elif not isinstance(node, kinds):
            return False
    return True


def audit_weights(file: str, stream: BinaryIO) -> tuple[list[Problem], dict[str, bytes]]:
    """A file that torch.load or torch.jit.load takes, by its content.

    Returns:
        Findings, and the texts that a TorchScript archive carries (configs), by name.
    """
    start = stream.read(_START_BYTES)
    stream.seek(0)
    if not start.startswith(b"PK\x03\x04"):
        if other := "an empty file" if not start else name_content(start):
            return [WEIGHTS_BROKEN.about(file, text=f"it is {other}")], {}
        return audit_legacy_weights(file, stream), {}
    try:
        with zipfile.ZipFile(stream) as archive:
            return _audit_torch_archive(file, archive)
    except Exception as error:  # a damaged or hostile archive fails in many ways
        return [WEIGHTS_BROKEN.about(file, text=f"its archive is cut off or damaged ({type(error).__name__})")], {}


def _audit_torch_archive(file: str, archive: zipfile.ZipFile) -> tuple[list[Problem], dict[str, bytes]]:
    names = [info.filename for info in archive.infolist()]
    code = [name for name in names if "/code/" in f"/{name}" and name.endswith(".py")]
    torchscript = bool(code) or any(name.endswith("constants.pkl") for name in names)
    findings: list[Problem] = []
    if len({name.lower() for name in names}) < len(names):
        findings.append(
            WEIGHTS_BROKEN.about(file, text="two of its records have one name, and readers differ in which they take")
        )
    extra = {}
    for info in archive.infolist():
        if info.file_size > _MAX_RECORD_BYTES and not re.search(r"/data/\d+$", info.filename):
            findings.append(WEIGHTS_BROKEN.about(file, text=f"its record {info.filename} is too large to look at"))
            continue
        name = f"{file}!{info.filename}"
        if info.filename.endswith((".pkl", ".pickle")):
            with archive.open(info) as stream:
                findings += audit_pickle(name, stream, torchscript)  # type: ignore[arg-type]
        elif info.filename.endswith((".npy",)):
            with archive.open(info) as stream:
                findings += audit_array(name, stream)  # type: ignore[arg-type]
        elif info.filename in code:
            text = archive.read(info).decode("utf-8", "replace")
            operations = dict.fromkeys(match[0] for match in _FILE_OPERATION.finditer(text))
            findings += [TORCHSCRIPT_OPERATION.about(name, text=operation) for operation in operations]
        elif "/extra/" in info.filename and info.file_size < 32 << 20:
            extra[name] = archive.read(info)
    if not any(name.endswith((".pkl", ".npy", ".pickle")) for name in names):
        findings.append(WEIGHTS_BROKEN.about(file, text="it is a zip without weights"))
    if torchscript and not any(found.code == TORCHSCRIPT_OPERATION.code for found in findings):
        findings.append(TORCHSCRIPT.about(file, count=len(code)))
    return findings, extra


def audit_onnx(file: str, raw: bytes) -> list[Problem]:
    """Where an ONNX model says that its tensors are."""
    found = set()
    for match in _EXTERNAL_LOCATION.finditer(raw):
        location = raw[match.end() : match.end() + match[1][0]].decode("utf-8", "replace")
        if location.startswith(("/", "\\", "~")) or ":" in location[:2] or ".." in re.split(r"[\\/]", location):
            found.add(location)
    return [ONNX_OUTSIDE.about(file, text=location) for location in sorted(found)]
