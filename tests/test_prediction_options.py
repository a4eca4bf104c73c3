"""Options of a prediction: which of them a record has, and which of them make a label map another one."""

from __future__ import annotations

from dataclasses import dataclass

from unet_pipeline.prediction.options import PredictOptions


@dataclass(frozen=True)
class LaterOptions(PredictOptions):
    """As `PredictOptions` with one more option, which reaches the label values as far as anybody knows."""

    num_crops: int = 1


def test_settle_has_an_option_that_is_added_later_once_it_is_given() -> None:
    before = PredictOptions("cpu", mirror=True).settle("float32", "cpu")
    assert before == {"mirror": True, "runtime": "torch", "precision": "float32", "device": "cpu"}
    assert LaterOptions("cpu", mirror=True).settle("float32", "cpu") == before  # records of before still hold
    assert LaterOptions("cpu", mirror=True, num_crops=3).settle("float32", "cpu") == {**before, "num_crops": 3}


def test_settle_leaves_out_what_weights_files_and_names_say() -> None:
    told = PredictOptions("cuda:1", False, True, True, "torch", "auto", "nrrd", True).settle("bfloat16", "cuda")
    assert told == {"mirror": False, "runtime": "torch", "precision": "bfloat16", "device": "cuda"}


def test_as_settings_tells_what_was_given_and_makes_the_options_again() -> None:
    plain = {"device": None, "mirror": False, "ensemble": False, "probabilities": False}
    plain |= {"runtime": "torch", "precision": "float32"}
    assert PredictOptions().as_settings() == plain
    options = LaterOptions(format="png", strict=True, num_crops=2)
    assert options.as_settings() == {**plain, "format": "png", "strict": True, "num_crops": 2}
    assert LaterOptions(**options.as_settings()) == options


def test_list_changed_names_what_an_external_bundle_does_not_have() -> None:
    assert PredictOptions("cpu", format="png").list_changed() == []
    assert PredictOptions(mirror=True, strict=True).list_changed() == ["mirror", "strict"]
