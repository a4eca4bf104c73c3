"""What a worker of `tune --jobs` does with a case for which memory did not suffice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.cohort.items import Attempt, Item, Share, State, carry_out
from unet_pipeline.evaluation.groups import ReferencedImage
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.transforms import TransformsEngine
from unet_pipeline.tuning import choose
from unet_pipeline.tuning.choose import CaseSample
from unet_pipeline.verbs.tune_jobs import open_tuning

from .cohort_phantoms import build_bundle


def test_sample_item_takes_one_window_at_a_time_when_asked_for_less_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_case, windows = choose.sample_case, list[int]()

    def need_little(engine: TransformsEngine, case: ReferencedImage, *rest: Any) -> CaseSample:
        windows.append(engine.parts.inferer.sw_batch_size)
        if windows[-1] > 1:
            raise MemoryError("no room")
        return sample_case(engine, case, *rest)

    monkeypatch.setattr(choose, "sample_case", need_little)
    folder = BundleFolder(build_bundle(tmp_path, window_batch_size=4))
    label = next((tmp_path / "dataset" / "labelsTr").iterdir())
    source = PredictionInput("case", (tmp_path / "dataset" / "imagesTr" / label.name,))
    arguments = {
        "bundle": str(folder.root),
        "out": str(tmp_path),
        "weights": [[str(folder.weights)]],
        "sizes": [],
        "device": "cpu",
        "mirror": False,
    }
    function = open_tuning(arguments, Share())
    facts = {"group": 0, "label": str(label), "pixel_spacing_mm": None, "missing_values": [], "key": "key"}
    item = Item("case", "key", {"source": {"name": source.name, "files": [str(source.files[0])]}, **facts})
    first, second = carry_out(function, Attempt(item)), carry_out(function, Attempt(item, 2, smaller=True))
    assert (first.state, second.state, second.message) == (State.OUT_OF_MEMORY, State.FINISHED, "")
    assert windows == [4, 1]
    assert carry_out(function, Attempt(item)).state == State.OUT_OF_MEMORY, "the next case has all windows again"
