"""Where results may be written, so that a bundle stays trusted, and what a file with their name does not get past."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import unet_pipeline
from unet_pipeline.audit.trust import require_place_of_results, require_trusted
from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.errors import BundleError

from .evidence_bundles import write_evaluated


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evaluated(tmp_path_factory.mktemp("trust"), 2)


@pytest.mark.parametrize("place", ["x", "configs", "docs/x", "evidence/../x", "."])
def test_evaluate_into_the_bundle_is_refused_before_anything_is_written(bundle: Path, place: str) -> None:
    before = sorted(bundle.rglob("*"))
    with pytest.raises(BundleError, match=r"every JSON file counts as a config.*evidence/evaluations"):
        unet_pipeline.evaluate(bundle, out=bundle / place)
    assert sorted(bundle.rglob("*")) == before


@pytest.mark.parametrize("verb", [unet_pipeline.predict, unet_pipeline.forecast])
def test_predict_into_the_bundle_is_refused_before_anything_is_written(bundle: Path, verb: Callable) -> None:
    before = sorted(bundle.rglob("*"))
    with pytest.raises(BundleError, match=r"every JSON file counts as a config.*/output"):
        verb(bundle, bundle.parent, bundle / "x")
    assert sorted(bundle.rglob("*")) == before


@pytest.mark.parametrize("place", ["evidence/evaluations/x", "output/x", "../x"])
def test_require_place_of_results_beside_the_configs(bundle: Path, place: str) -> None:
    require_place_of_results(open_bundle(bundle), bundle / place)
    require_trusted(open_bundle(bundle))


def test_a_hostile_summary_is_refused_wherever_it_could_be_a_config(bundle: Path) -> None:
    path = bundle / "x/summary.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"rows": {"_target_": "os.system", "command": "true"}}))
    try:
        with pytest.raises(BundleError, match=r"x/summary\.json would call os\.system"):
            require_trusted(open_bundle(bundle))
    finally:
        path.unlink()
        path.parent.rmdir()
