"""The package of the verbs: each is there by its name, and comes without the others."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pipeline
from pipeline import verbs


def test_every_verb_has_a_home() -> None:
    for name in verbs.__all__:
        found = getattr(verbs, name)
        assert found.__name__ == name
        assert found.__module__.startswith("pipeline.verbs.")


def test_the_package_offers_every_verb() -> None:
    own = {name for name in pipeline.__all__ if getattr(pipeline, name).__module__.startswith("pipeline.verbs.")}
    assert own == {name for name in verbs.__all__ if name[0].islower()}
    assert set(verbs.__all__) <= set(dir(verbs))


def test_an_unknown_verb_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"pipeline\.verbs attribute segment"):
        verbs.segment  # noqa: B018


def test_predict_comes_without_planner_and_training() -> None:
    code = (
        "import sys\n"
        "from pipeline import verbs\n"
        "verbs.predict\n"
        "names = ('bundle.write', 'planning.planner', 'dataset.check', 'verbs.training', 'verbs.evidence')\n"
        "print([name for name in names if f'pipeline.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
