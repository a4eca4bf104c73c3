"""Bundles that would harm whoever uses them, each made small, with a payload that creates the file MARKER.

Only tests use them: the payloads touch one file in the current folder and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARKER = "marker_of_a_payload"
TOUCH = f"touch {MARKER}"


class Touches:
    """Unpickling an instance runs a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (TOUCH,)


def write_good_bundle(root: Path, **ids: Any) -> Path:
    """A bundle of configs only, in the layout of the model zoo, with further ids in its inference.json."""
    config = {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "images": "$sorted(glob.glob(os.path.join(@bundle_root, '*.nii.gz')))",
        "network_def": {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "monai.transforms.LoadImaged", "keys": "image"}],
        },
        "run": ["$@evaluator.run()"],
        **ids,
    }
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    metadata = {"version": "0.1.0", "network_data_format": {}, "schema": "https://example.org/schema.json"}
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return root


def add(root: Path, name: str, content: bytes | str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def zip_bundle(root: Path, change: Callable[[zipfile.ZipFile], None]) -> Path:
    """The good bundle as a zip, with something added."""
    write_good_bundle(root)
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a name that is there twice
        for file in sorted(root.rglob("*.json")):
            archive.write(file, f"{root.name}/{file.relative_to(root).as_posix()}")
        change(archive)
    return path


def zip_link(archive: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("bundle/models")
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    archive.writestr(entry, "/etc")


def torch_archive(**records: bytes) -> bytes:
    """What torch.save writes, as far as its reader looks."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in {"data.pkl": b"", "version": b"3\n", **records}.items():
            archive.writestr(f"archive/{name.replace('__', '/')}", content)
    return stream.getvalue()


def object_array() -> bytes:
    """A .npy file of one object."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickle.dumps(Touches())


def zip_of(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


LOGGING = f"""\
[loggers]
keys=root
[handlers]
keys=console
[formatters]
keys=
[logger_root]
handlers=console
[handler_console]
class=StreamHandler
args=(__import__('os').system('{TOUCH}'),)
"""
SCRIPT = f"import subprocess\n\nsubprocess.run(['touch', '{MARKER}'])\n\n\ndef build():\n    return None\n"


def link_outside(root: Path) -> Path:
    write_good_bundle(root)
    (root / "models").symlink_to("../../elsewhere")
    return root


def seal(root: Path) -> Path:
    """Write a manifest of all files."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root).as_posix()}" for path in files]
    return add(root, "evidence/manifest.sha256", "\n".join(lines) + "\n")


def tampered(root: Path) -> Path:
    write_good_bundle(root)
    add(root, "models/model.pt", torch_archive(**{"data.pkl": pickle.dumps({})}))
    return add(seal(root), "models/model.pt", torch_archive(**{"data.pkl": pickle.dumps({"other": 1})}))


# name -> how to make it below a folder, the code of the finding, and a text that the finding must name
HOSTILE: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "traversal": (
        lambda root: zip_bundle(root, lambda archive: archive.writestr("bundle/../../evil.py", SCRIPT)),
        "entry-outside",
        "../../evil.py",
    ),
    "backslash traversal": (
        lambda root: zip_bundle(root, lambda archive: archive.writestr("bundle\\..\\..\\evil.py", SCRIPT)),
        "entry-outside",
        "evil.py",
    ),
    "absolute path": (
        lambda root: zip_bundle(root, lambda archive: archive.writestr("/tmp/evil.py", SCRIPT)),
        "entry-absolute",
        "/tmp/evil.py",
    ),
    "drive letter": (
        lambda root: zip_bundle(root, lambda archive: archive.writestr("C:/evil.py", SCRIPT)),
        "entry-absolute",
        "C:/evil.py",
    ),
    "link in a zip": (lambda root: zip_bundle(root, zip_link), "entry-link", "bundle/models"),
    "link outside in a folder": (link_outside, "link-outside", "../../elsewhere"),
    "duplicated entry": (
        lambda root: zip_bundle(root, lambda archive: archive.writestr("bundle/configs/inference.json", "{}")),
        "entry-twice",
        "configs/inference.json",
    ),
    "zip bomb": (
        lambda root: zip_bundle(root, lambda archive: archive.writestr("bundle/models/zeros.bin", bytes(64 << 20))),
        "size-bomb",
        "zeros.bin",
    ),
    "bomb in a nested zip": (
        lambda root: add(write_good_bundle(root), "docs/more.zip", zip_of("in.zip", zip_of("zeros", bytes(64 << 20)))),
        "size-bomb",
        "more.zip!in.zip!zeros",
    ),
    "pickle in model.pt": (
        lambda root: add(
            write_good_bundle(root), "models/model.pt", torch_archive(**{"data.pkl": pickle.dumps(Touches())})
        ),
        "pickle-unsafe",
        "posix.system",
    ),
    "legacy pickle": (
        lambda root: add(write_good_bundle(root), "models/model.pt", pickle.dumps(Touches(), protocol=2)),
        "pickle-unsafe",
        "posix.system",
    ),
    "text pickle": (
        lambda root: add(write_good_bundle(root), "models/model.pkl", pickle.dumps(Touches(), protocol=0)),
        "pickle-unsafe",
        "posix.system",
    ),
    "pickle broken behind its payload": (
        lambda root: add(write_good_bundle(root), "models/model.pt", pickle.dumps(Touches())[:-1] + b"\xff"),
        "pickle-unsafe",
        "posix.system",
    ),
    "array with a pickle": (
        lambda root: add(write_good_bundle(root), "models/atlas.npy", object_array()),
        "array-of-objects",
        "atlas.npy",
    ),
    "arrays with a pickle": (
        lambda root: add(write_good_bundle(root), "models/atlas.npz", zip_of("a.npy", object_array())),
        "pickle-unsafe",
        "posix.system",
    ),
    "TorchScript that maps a file": (
        lambda root: add(
            write_good_bundle(root),
            "models/model.ts",
            torch_archive(
                **{
                    "data.pkl": pickle.dumps({}, protocol=2),
                    "constants.pkl": pickle.dumps((), protocol=2),
                    "code____torch__.py": f"def forward(self, x):\n  return torch.from_file('{MARKER}', True, 4)\n".encode(),
                }
            ),
        ),
        "torchscript-operation",
        "torch.from_file",
    ),
    "import in an expression": (
        lambda root: write_good_bundle(root, first=f"$__import__('os').system('{TOUCH}')"),
        "expression-outside",
        "__import__",
    ),
    "eval": (
        lambda root: write_good_bundle(root, first=f"$eval(\"open('{MARKER}', 'w')\")"),
        "expression-outside",
        "eval",
    ),
    "classes of a tuple": (
        lambda root: write_good_bundle(root, first="$().__class__.__base__.__subclasses__()"),
        "expression-outside",
        "__subclasses__",
    ),
    "variable that hides a module": (
        lambda root: write_good_bundle(root, first="$[torch for torch in []] + [torch.load('x.pt')]"),
        "expression-outside",
        "torch.load",
    ),
    "import under another name": (
        lambda root: write_good_bundle(root, first="$from os import system as mean", then=f"$mean('{TOUCH}')"),
        "expression-outside",
        "mean",
    ),
    "builtins.open": (
        lambda root: write_good_bundle(root, first={"_target_": "builtins.open", "file": MARKER, "mode": "w"}),
        "target-outside",
        "builtins.open",
    ),
    "open": (
        lambda root: write_good_bundle(root, first={"_target_": "open", "file": MARKER, "mode": "w"}),
        "target-outside",
        "open",
    ),
    "subprocess": (
        lambda root: write_good_bundle(root, first={"_target_": "subprocess.check_call", "args": ["touch", MARKER]}),
        "target-outside",
        "subprocess.check_call",
    ),
    "attribute chain": (
        lambda root: write_good_bundle(root, first={"_target_": "monai.utils.misc.os.system", "command": TOUCH}),
        "target-outside",
        "monai.utils.misc.os.system",
    ),
    "attribute chain in an expression": (
        lambda root: write_good_bundle(root, first=f"$monai.utils.misc.subprocess.check_call(['touch', '{MARKER}'])"),
        "expression-outside",
        "subprocess",
    ),
    "module under another name": (
        lambda root: write_good_bundle(root, first="$monai.transforms.utils.np.load('x.npy', allow_pickle=True)"),
        "expression-outside",
        "monai.transforms.utils.np.load",
    ),
    "builtins under another name": (
        lambda root: write_good_bundle(root, first="$import enum", then=f"$enum.bltns.open('{MARKER}', 'w')"),
        "expression-outside",
        "enum.bltns.open",
    ),
    "module behind os.path": (
        lambda root: write_good_bundle(root, first="$import os", then=f"$os.path.os.system('{TOUCH}')"),
        "expression-outside",
        "os.path.os.system",
    ),
    "module by its name": (
        lambda root: write_good_bundle(
            root, first="$getattr(monai.utils.misc, 'os')", then=f"$@first.system('{TOUCH}')"
        ),
        "expression-outside",
        "$getattr(monai.utils.misc, 'os')",
    ),
    "annotations that are evaluated": (
        lambda root: write_good_bundle(
            root, first={"_target_": "types.SimpleNamespace", "__annotations__": {"x": f"open('{MARKER}', 'w')"}}
        ),
        "text-names-code",
        "__annotations__",
    ),
    "config among the results": (
        lambda root: add(
            write_good_bundle(root, first="%evidence/more.json#a"), "evidence/more.json", '{"a": "$eval(1)"}'
        ),
        "text-names-code",
        "evidence/more.json",
    ),
    "many small bombs": (
        lambda root: zip_bundle(
            root,
            lambda archive: [archive.writestr(f"bundle/models/{name}", bytes(30 << 20)) for name in range(10)] and None,
        ),
        "size-bomb",
        "314,5",
    ),
    "torch.load": (
        lambda root: write_good_bundle(root, first={"_target_": "torch.load", "f": "x.pt", "weights_only": False}),
        "target-outside",
        "torch.load",
    ),
    "torch.hub": (
        lambda root: write_good_bundle(root, first="$torch.hub.load('somebody/something', 'model')"),
        "expression-outside",
        "torch.hub.load",
    ),
    "another bundle's config": (
        lambda root: write_good_bundle(root, first={"_target_": "monai.bundle.scripts.run", "config_file": "x.json"}),
        "target-outside",
        "monai.bundle.scripts.run",
    ),
    "reader that is a function": (
        lambda root: write_good_bundle(
            root, first={"_target_": "monai.transforms.LoadImage", "reader": "subprocess.check_call"}
        ),
        "text-names-code",
        "subprocess.check_call",
    ),
    "config of another folder": (
        lambda root: write_good_bundle(root, first="%../other/configs/train.json#network"),
        "text-names-code",
        "../other",
    ),
    "payload in YAML": (
        lambda root: add(
            write_good_bundle(root), "configs/train.yaml", f"first: !!python/object/apply:os.system ['{TOUCH}']\n"
        ),
        "config-unreadable",
        "os.system",
    ),
    "logging.conf": (
        lambda root: add(write_good_bundle(root), "configs/logging.conf", LOGGING),
        "logging-code",
        "__import__",
    ),
    "script": (
        lambda root: add(write_good_bundle(root), "scripts/network.py", SCRIPT),
        "module-outside",
        "subprocess.run",
    ),
    "module that shadows another": (
        lambda root: add(write_good_bundle(root), "random.py", "value = 1\n"),
        "module-outside",
        "random.py",
    ),
    "library": (lambda root: add(write_good_bundle(root), "scripts/fast.so", b"\x7fELF"), "native-code", "fast.so"),
    "weights that were changed": (tampered, "file-changed", "models/model.pt"),
}
