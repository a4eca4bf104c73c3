"""An option that a verb does not have: the message says what to write instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from unet_pipeline.commands.hints import list_ids

ROOT = Path(__file__).parents[1]
Call = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("train B --epochs 1", "Write it without dashes: unet-pipeline train B num_epochs=1"),
        ("train --epochs=1 B --fold 2", "Write it without dashes: unet-pipeline train B --fold 2 num_epochs=1"),
        ("train B --num-epochs 3", "unet-pipeline train B num_epochs=3"),
        ("train B --lr 0.1", "unet-pipeline train B learning_rate=0.1"),
        ("train B --batch-size", "unet-pipeline train B batch_size=VALUE"),
        ("train B --learning-rat 1", "unet-pipeline train B learning_rate=1"),
        ("train B -e 5", "unet-pipeline train B num_epochs=5"),
        ("train B --folds all", "Did you mean --fold?"),
        ("train B --preset quick", "--preset is an option of plan, learning-curve."),
        ("plan D B --epochs 5", "`unet-pipeline train BUNDLE num_epochs=VALUE` for one training."),
        ("plan D B num_epochs=5", "num_epochs: It is a number of the plan: edit configs/plan.yaml"),
        ("predict B I --output O", "It is an argument and has no name: unet-pipeline predict BUNDLE INPUT OUT"),
        ("predict B I O --gpu 0", "Did you mean --device?"),
        ("evaluate B --output O", "Did you mean --out?"),
        ("check D -v", "Did you mean --version?"),
        ("--qiet check D", "Did you mean --quiet?"),
    ],
)
def test_explain_option_near_miss_says_what_to_write(call_main: Call, words: str, hint: str) -> None:
    status, out, err = call_main(*words.split())
    assert (status, out) == (2, "")
    assert hint in err.splitlines()[-1]


def test_explain_option_unlike_any_other_has_no_hint(call_main: Call) -> None:
    assert call_main("check", "D", "--nonsense")[2].splitlines()[-1] == "Error: No such option: --nonsense"


def test_list_ids_are_those_of_a_training() -> None:
    config = json.loads((ROOT / "bundles/hippocampus_mri/configs/train.json").read_text(encoding="utf-8"))
    assert set(list_ids()) <= config.keys()
    assert {"num_epochs", "learning_rate", "batch_size", "val_interval", "num_threads", "device"} <= set(list_ids())
    assert "preset" not in list_ids()
