"""Work for tasks of a Slurm, which import this file and nothing heavy with it."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

from unet_pipeline.cohort.items import Arguments, Function, Item, Share, Work
from unet_pipeline.errors import PredictionError
from unet_pipeline.files import write_text

FATES = ("bad", "kill", "kill once", "memory")


def build_work(folder: Path, **arguments: object) -> Work:
    """Work that writes an output per item, and a line per attempt to the file `attempts`."""
    folder.mkdir(exist_ok=True)
    return Work(f"{__name__}:open_work", {"folder": str(folder), **arguments})


def build_items(count: int, seconds: float = 0.0, **fates: str) -> list[Item]:
    """Items item_0, item_1, ...; `item_1="kill"` says what becomes of one."""
    names = [f"item_{number}" for number in range(count)]
    return [Item(name, f"key of {name}", {"name": name, "seconds": seconds, "fate": fates.get(name)}) for name in names]


def count_attempts(folder: Path) -> Counter[str]:
    """How often each item was begun."""
    path = folder / "attempts"
    return Counter(path.read_text().split() if path.is_file() else ())


def open_work(arguments: Arguments, share: Share) -> Function:
    """See `build_work`."""
    if arguments.get("cannot_open"):
        raise PredictionError("The network is not there. Train one.")
    if arguments.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    folder = Path(arguments["folder"])

    def do(item: Arguments, smaller: bool) -> Arguments:
        name, fate = item["name"], item["fate"]
        with (folder / "attempts").open("a") as stream:
            stream.write(f"{name}\n")
        if fate == "bad":
            raise PredictionError(f"{name}.nii.gz holds no voxels. Restore it.")
        if fate == "memory" and not smaller:
            raise MemoryError("no room")
        if fate == "kill" or (fate == "kill once" and count_attempts(folder)[name] == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(item["seconds"])
        write_text(folder / f"{name}.txt", name)
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        threads = os.environ.get("OMP_NUM_THREADS")
        return {"outputs": {f"{name}.txt": sha256}, "threads": threads, "cpus": os.environ.get("SLURM_CPUS_PER_TASK")}

    return do
