"""The record of a run: written when it starts and again when it ends, so that a crash leaves one too."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

from pipeline.bundle_folder import BundleFolder
from pipeline.files import compute_sha256, write_json

_PACKAGES = (
    "unet-pipeline",
    "monai",
    "torch",
    "pytorch-ignite",
    "numpy",
    "scipy",
    "nibabel",
    "pillow",
    "tensorboard",
)
# what changes the numbers or the speed of a training
_ENVIRONMENT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "LD_PRELOAD")


@contextmanager
def record_run(
    folder: BundleFolder, run_dir: Path, command: str, settings: Mapping[str, Any], fold: int
) -> Iterator[dict[str, Any]]:
    """Keep `run_dir`/run.json while a training runs.

    Args:
        folder: the bundle; paths below it are written relative to it.
        run_dir: of this run.
        command: the stock command that does the same.
        settings: ids of the config that this run sets.
        fold: of the cross-validation.

    Yields:
        The record; what the caller adds under "result" is kept.
    """
    record: dict[str, Any] = {
        "id": run_dir.name,
        "state": "running",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command.replace(str(folder.root), "BUNDLE"),
        "settings": {key: str(value).replace(str(folder.root), "BUNDLE") for key, value in settings.items()},
        "plan_sha256": compute_sha256(folder.plan),
        "config_sha256": compute_sha256(folder.config("train")),
        "dataset_manifest_sha256": compute_sha256(folder.dataset_manifest),
        "split_sha256": compute_sha256(folder.split(fold)),
        "code": read_code_version(),
        "versions": {name: distributions.version(name) for name in _PACKAGES},
        "environment": {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        "machine": describe_machine(),
    }
    path = run_dir / "run.json"
    write_json(path, record)
    started_s, started_processor_s = time.monotonic(), time.process_time()
    try:
        yield record
        record["state"] = "finished"
    except BaseException as error:
        record["state"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        record["error"] = f"{type(error).__name__}: {error}".replace(str(folder.root), "BUNDLE")
        raise
    finally:
        record["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
        record["duration_s"] = round(time.monotonic() - started_s, 1)
        # of all threads: what the clock would have shown on a quiet machine, times the cores that were busy
        record["processor_s"] = round(time.process_time() - started_processor_s, 1)
        record["peak_memory_gib"] = round(read_peak_memory_gib(), 2)
        write_json(path, record)


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory and GPU of this machine."""
    import psutil
    import torch

    return {
        "processor": _read_processor_name(),
        "num_cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": sys.version.split()[0],
    }


def _read_processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def read_code_version() -> dict[str, Any]:
    """Commit of the source tree and whether it was changed since; None for an installed package without one."""
    source = Path(__file__).parent

    def ask_git(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", *arguments], cwd=source, capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.strip()

    commit = ask_git("rev-parse", "HEAD") if ask_git("ls-files", "--error-unmatch", Path(__file__).name) else None
    return {"commit": commit, "changed": bool(ask_git("status", "--porcelain", "--", "..")) if commit else None}


def read_peak_memory_gib() -> float:
    """Most resident memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20  # bytes there, KiB elsewhere
