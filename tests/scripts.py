"""Scripts of the repository that are in no package, as modules."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import jsonschema

ROOT = Path(__file__).parents[1]


def load_script(path: str) -> ModuleType:
    """The script at a path below the repository's root, such as "benchmarks/ablation.py"."""
    name = "script_" + Path(path).with_suffix("").as_posix().replace("/", "_")
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses ask for it
    spec.loader.exec_module(module)
    return module


def require_schema(content: object, name: str) -> None:
    """`content` follows docs/NAME.schema.json.

    Raises:
        jsonschema.ValidationError: it does not.
    """
    path = ROOT / "docs" / f"{name}.schema.json"
    jsonschema.validate(content, json.loads(path.read_text(encoding="utf-8")))
