"""The losses that a plan may name: every file `loss_NAME.yaml` of the wiring is one."""

from __future__ import annotations

import re
from importlib import resources

_FILE = re.compile(r"loss_(\w+)\.yaml")


def _list_ids(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.findall(r"@(\w+)", text)))


# ids that each loss refers to, such as numbers of the plan
LOSSES = {
    match[1]: _list_ids(file.read_text(encoding="utf-8"))
    for file in sorted(resources.files("unet_pipeline.wiring").iterdir(), key=lambda file: file.name)
    if (match := _FILE.fullmatch(file.name))
}
