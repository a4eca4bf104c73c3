"""Work that is not about images: its items say what becomes of them. Workers import this, so it imports little."""

from __future__ import annotations

import hashlib
import importlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from unet_pipeline.cohort.items import Arguments, Function, Share
from unet_pipeline.errors import PredictionError

TOY = f"{__name__}:open_toy"


def open_toy(arguments: Arguments, share: Share) -> Function:
    """Work whose items say what becomes of them; each attempt adds a line to the file `attempts` in `folder`."""
    folder = Path(arguments["folder"])
    if arguments.get("with_torch"):
        importlib.import_module("torch")
    if arguments.get("cannot_open"):
        raise PredictionError("The network is not there. Train one.")

    def do(item: Arguments, smaller: bool) -> Arguments:
        with (folder / "attempts").open("a") as stream:
            stream.write(f"{item['name']}\n")
        time.sleep(item.get("seconds", 0.0))
        match item.get("fate"):
            case "bad":
                raise PredictionError(f"{item['name']}.nii.gz holds no voxels. Restore it.")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill once" if not (folder / item["name"]).exists():
                (folder / item["name"]).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            case "memory" if not smaller:
                raise MemoryError("no room")
            case "disk":
                raise OSError(28, os.strerror(28), str(folder / "label.nii.gz"))
            case "defect":
                raise KeyError("x")
        sha256 = hashlib.sha256(item["name"].encode()).hexdigest()
        return {
            "outputs": {item["name"]: sha256},
            "pid": os.getpid(),
            "threads": _count_threads(),
            "device": share.device,
        }

    return do


def _count_threads() -> list[Any]:
    torch = sys.modules.get("torch")
    return [os.environ.get("OMP_NUM_THREADS"), *([torch.get_num_threads()] if torch else [])]
