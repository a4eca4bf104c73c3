"""What a user may choose about who does the work, in one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from unet_pipeline.cohort.engine import Engine
from unet_pipeline.cohort.engines import LOCAL, RAY, SLURM, build_engine
from unet_pipeline.cohort.items import Share
from unet_pipeline.errors import CohortError

SLURM_FOLDER = ".slurm"  # of scripts and part files, in the output folder
SLURM_STAGING = ".slurm-staging"  # of what its tasks write on the way


class JobArguments(TypedDict):
    """`JobOptions` as the verbs take them."""

    jobs: int
    engine: str
    threads: int | None
    address: str | None
    sbatch: Mapping[str, str] | None


@dataclass(frozen=True)
class JobOptions:
    """Who does the work.

    Attributes:
        num_workers: at least 1.
        engine: local, ray or slurm.
        num_threads: of each worker; its share of the cores, if None.
        address: of a Ray cluster; one is started on this machine, if None.
        sbatch: options of a Slurm job by name, such as {"partition": "gpu"}.
    """

    num_workers: int = 1
    engine: str = LOCAL
    num_threads: int | None = None
    address: str | None = None
    sbatch: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether the work is done in this process, as without any of these options."""
        return self.num_workers == 1 and self.engine == LOCAL and self.num_threads is None

    def as_arguments(self) -> JobArguments:
        """For a verb that is called by another one with the same choice."""
        return {
            "jobs": self.num_workers,
            "engine": self.engine,
            "threads": self.num_threads,
            "address": self.address,
            "sbatch": self.sbatch or None,
        }

    def workers(self) -> JobOptions | None:
        """The same, if the options go together; None where the work is done in this process.

        Raises:
            CohortError: they do not go together.
        """
        return None if self.check().is_plain else self

    def check(self) -> JobOptions:
        """The same, if the options go together.

        Raises:
            CohortError: they do not.
        """
        if self.num_threads is not None and self.num_threads < 1:
            raise CohortError(f"The number of threads is {self.num_threads}; expected at least 1. Correct --threads.")
        if self.address is not None and self.engine != RAY:
            raise CohortError(f"--address is of a Ray cluster, and the engine is {self.engine}. Add --engine ray.")
        if self.sbatch and self.engine != SLURM:
            raise CohortError(f"--sbatch is of Slurm, and the engine is {self.engine}. Add --engine slurm.")
        build_engine(self.engine, self.num_workers, Share(), self._list_options(Path(SLURM_FOLDER)))
        return self

    def share(self, num_cores: int, device: str | None = None) -> Share:
        """What each worker may use.

        Args:
            num_cores: of this machine, which the workers divide among them.
            device: that the user chose.
        """
        return Share(self.num_threads or max(1, num_cores // self.num_workers), device)

    def build(self, share: Share, num_items: int, out: Path) -> Engine:
        """The engine, not started; no more workers than items.

        Args:
            out: output folder, for what Slurm writes on the way.

        Raises:
            CohortError: its library is not installed.
        """
        num_workers = max(1, min(self.num_workers, num_items))
        return build_engine(self.engine, num_workers, share, self._list_options(out / SLURM_FOLDER))

    def _list_options(self, folder: Path) -> dict[str, object]:
        if self.engine == SLURM:
            return {"folder": folder, "sbatch": dict(self.sbatch)}
        return {"address": self.address} if self.engine == RAY else {}
