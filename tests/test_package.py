"""What the package offers: each verb by its name, without the others."""

from __future__ import annotations

import ast
import subprocess
import sys
import types
from pathlib import Path

import pytest

import unet_pipeline


def test_the_package_offers_every_verb() -> None:
    for name in (name for names in unet_pipeline.VERBS.values() for name in names):
        found = getattr(unet_pipeline, name)
        assert found.__name__ == name
        assert found.__module__.startswith("unet_pipeline.verbs.")
    assert set(unet_pipeline.__all__) <= set(dir(unet_pipeline))


def test_type_checkers_see_what_the_table_offers() -> None:
    tree = ast.parse(Path(unet_pipeline.__file__).read_text(encoding="utf-8"))
    seen = {
        (node.module, name.name, name.asname)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("unet_pipeline.verbs.")
        for name in node.names
    }
    verbs = unet_pipeline.VERBS.items()
    types_of_verbs = {
        (f"unet_pipeline.{home}", name, name) for name, home in unet_pipeline.TYPES.items() if home.startswith("verbs.")
    }
    functions = {(f"unet_pipeline.verbs.{verb}", name, name) for verb, names in verbs for name in names}
    beside = unet_pipeline.FUNCTIONS.items()
    functions |= {(f"unet_pipeline.{home}", name, name) for name, home in beside if home.startswith("verbs.")}
    assert seen == functions | types_of_verbs


def test_a_verb_is_not_replaced_by_the_folder_of_its_name() -> None:
    from unet_pipeline.audit import configs

    assert isinstance(configs, types.ModuleType)
    assert isinstance(unet_pipeline.audit, types.FunctionType)


def test_an_unknown_verb_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'unet_pipeline' has no attribute 'segment'"):
        unet_pipeline.segment  # noqa: B018


def test_predict_comes_without_planner_and_training() -> None:
    code = (
        "import sys\n"
        "import unet_pipeline\n"
        "unet_pipeline.predict\n"
        "names = ('bundle.write', 'planning.planner', 'dataset.check', 'verbs.train', 'verbs.reproduce', 'shapes')\n"
        "print([name for name in names if f'unet_pipeline.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
