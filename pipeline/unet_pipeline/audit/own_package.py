"""Parts of this package that a bundle names: its own, or those of an earlier version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from unet_pipeline.messages import NOTE, WARNING, Message, Problem

OWN_PACKAGE = Message.of_bundle(
    "needs-this-package",
    NOTE,
    "uses parts of this package",
    "It runs only where unet-pipeline is installed.",
    "Nothing to do.",
)
EARLIER_VERSION = Message.of_bundle(
    "earlier-version",
    WARNING,
    "names parts of an earlier version of unet-pipeline, such as {text}",
    "The package was called pipeline then: stock MONAI takes whatever has that name, and `train` refuses the config.",
    "Write the configs again with `unet-pipeline plan --refresh BUNDLE`.",
)
# what those versions wrote into the configs of a training; those of an inference never named the package
EARLIER_NAME = re.compile(r"pipeline\.training\.\w+\.\w+")
_OF_TRAINING = ("train.json", "evaluate.json", "multi_gpu_train.json")


def is_earlier(file: str, name: str) -> bool:
    """Whether a `_target_` is a part of an earlier version, in a config that only a training runs."""
    return file.rpartition("/")[2] in _OF_TRAINING and EARLIER_NAME.fullmatch(name) is not None


def judge_targets(file: str, names: Iterable[str]) -> Iterator[Problem]:
    """What is to be known about a config whose targets are parts of this package."""
    names = list(names)
    if any(name.startswith("unet_pipeline.") for name in names):
        yield OWN_PACKAGE.about(file)
    if found := next((name for name in names if is_earlier(file, name)), None):
        yield EARLIER_VERSION.about(file, text=found)
