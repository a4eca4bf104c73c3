"""The engines by their names; what an engine needs beside this package is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from unet_pipeline.cohort.engine import Engine
from unet_pipeline.cohort.items import Share
from unet_pipeline.errors import CohortError, suggest

LOCAL, RAY, SLURM = "local", "ray", "slurm"
_HOMES = {LOCAL: ("local", "LocalEngine"), RAY: ("ray_engine", "RayEngine"), SLURM: ("slurm_engine", "SlurmEngine")}
ENGINES = tuple(_HOMES)


def build_engine(name: str, num_workers: int, share: Share, options: Mapping[str, object] | None = None) -> Engine:
    """An engine, not started.

    Args:
        name: local, ray or slurm.
        num_workers: at least 1.
        share: of each worker.
        options: other arguments of the engine: `address` of a Ray cluster; `folder` and `sbatch` of Slurm.

    Raises:
        CohortError: no such engine, fewer than one worker, or its library is not installed.
    """
    if name not in _HOMES:
        raise CohortError(f"There is no engine {name!r}; {suggest(name, ENGINES)}.")
    if num_workers < 1:
        raise CohortError(f"The number of workers is {num_workers}; expected at least 1. Correct --jobs.")
    module, kind = _HOMES[name]
    try:
        build = getattr(import_module(f"unet_pipeline.cohort.{module}"), kind)
    except ImportError as error:
        missing = (error.name or name).partition(".")[0]
        raise CohortError(
            f"The engine {name} needs the library {missing}, which is not installed. Run `pip install 'unet-pipeline[{name}]'`."
        ) from error
    engine: Engine = build(num_workers, share, **(options or {}))
    return engine
