"""What the actors of the tests do: small functions that fail as they are told."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_pipeline.cohort.items import Function, Share
from unet_pipeline.errors import DatasetError


def open_work(arguments: Mapping[str, Any], share: Share) -> Function:
    """A function that writes a matrix product of its item's seed; `problem` of the arguments says how it fails."""
    import torch

    if arguments.get("problem") == "missing":
        raise DatasetError("The bundle is not there.")
    if arguments.get("problem") == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if arguments.get("problem") == "dies at first" and len(list(Path(arguments["folder"]).glob("*.begun"))) < 4:
        Path(arguments["folder"], f"{os.getpid()}.begun").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def carry_out(item: Mapping[str, Any], smaller: bool) -> Mapping[str, Any]:
        time.sleep(item.get("sleep_s", 0))
        _fail(item, smaller)
        output = Path(arguments["folder"]) / f"{item['seed']}.bin"
        output.write_bytes(_compute(item["seed"]))
        return {
            "outputs": {output.name: hashlib.sha256(output.read_bytes()).hexdigest()},
            "pid": os.getpid(),
            "threads": [torch.get_num_threads(), int(os.environ["OMP_NUM_THREADS"])],
            "device": share.device,
            "result": object() if item.get("problem") == "result" else None,
        }

    return carry_out


def _fail(item: Mapping[str, Any], smaller: bool) -> None:
    problem = item.get("problem")
    if problem == "input":
        raise DatasetError("image.nii.gz has no voxels.\nRemove it.")
    if problem == "memory" and not smaller:
        raise MemoryError
    if problem == "dies" or (problem == "dies once" and not Path(item["mark"]).exists()):
        if "mark" in item:
            Path(item["mark"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _compute(seed: int) -> bytes:
    import torch

    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(64, 257, generator=generator)
    return bytes((image @ image.T).numpy().tobytes())
