"""The folder of a node. A file is in one place at a time and moves by renaming, so that a process can be killed at any point.

incoming/ has instances that are whole, received/ those of series that may not be complete, taken/ those of series that are, results/ what
is not sent yet, quarantine/ what cannot be used, each with its reason beside it. All names are hashes of UIDs.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Lock

from unet_pipeline.clinical.uids import hash_uid
from unet_pipeline.errors import PredictionError
from unet_pipeline.files import compute_sha256, remove_partial, write_atomically, write_text

LATE = "-late"  # ends the name of instances that came after the result of their series was sent
_PRIVATE = 0o700  # of folders with patients' images
_MEASURED_S = 10.0  # for so long the size of the quarantine is remembered, unless the node itself puts something there
_MIB, _GIB = 2**20, 2**30


@dataclass(frozen=True)
class Limits:
    """What a node takes.

    Attributes:
        instance_mib: size of an instance.
        num_instances: of a series.
        num_series: that wait for the rest of them, for the network, or for the destination.
        quarantine_gib: size of the quarantine at which nothing more is taken, so that nothing in it is ever lost.
    """

    instance_mib: float = 1024.0
    num_instances: int = 5000
    num_series: int = 1000
    quarantine_gib: float = 20.0

    @property
    def instance_bytes(self) -> int:
        """Size of an instance."""
        return int(self.instance_mib * _MIB)


class OutOfResourcesError(PredictionError):
    """A limit of the node is reached; the sender may try again later."""


@dataclass
class Spool:
    """What a node has on its disk; its methods may be called from any thread.

    Attributes:
        folder: of the node.
        limits: of what is taken.
    """

    folder: Path
    limits: Limits = field(default_factory=Limits)
    _arrived_s: dict[str, float] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _quarantined: tuple[float, int] | None = None  # when it was measured, and its bytes

    @property
    def taken(self) -> Path:
        """Series that are complete, a folder each."""
        return self.folder / "taken"

    @property
    def results(self) -> Path:
        """Objects that are to be sent."""
        return self.folder / "results"

    @property
    def quarantine(self) -> Path:
        """What cannot be used."""
        return self.folder / "quarantine"

    @property
    def _incoming(self) -> Path:
        return self.folder / "incoming"

    @property
    def _received(self) -> Path:
        return self.folder / "received"

    @property
    def _sent(self) -> Path:
        return self.folder / "sent"

    def open(self) -> None:
        """Make the folders, for nobody else to read, and finish what a process that was killed had begun."""
        for folder in (self._incoming, self._received, self.taken, self.results, self.quarantine, self._sent):
            if folder != self._sent:
                folder.mkdir(parents=True, exist_ok=True)
            if folder.is_dir():
                folder.chmod(_PRIVATE)  # also those that an earlier version made for everyone
        remove_partial(self._incoming)
        remove_partial(self.results)
        self.remove_staging()
        for path in self._incoming.iterdir():
            self._join(path, *path.stem.split("-"))
        for path in self._received.iterdir():
            self._arrived_s[path.name] = time.monotonic()

    def remove_staging(self) -> None:
        """Remove the folders in results/ in which a network worked, with copies of images; none works now."""
        for folder in self.results.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)

    def receive(self, data: bytes, instance_uid: str) -> None:
        """Keep an instance; it is on the disk when this returns.

        Args:
            data: a DICOM file.
            instance_uid: as the sender called it.

        Raises:
            PredictionError: it cannot be read, and is in quarantine.
            OutOfResourcesError: a limit is reached; nothing is kept.
            OSError: the disk is full, or another problem of it.
        """
        instance = hash_uid(instance_uid)
        self._require_room_in_quarantine()
        try:
            series = hash_uid(_read_series_uid(data))
        except (
            Exception
        ) as error:  # whatever pydicom raises for bytes that are no dataset; its text may show some of them
            reason = f"The instance cannot be read as DICOM ({type(error).__name__}). Send it again from its source."
            with write_atomically(self.quarantine / instance / f"{instance}.dcm") as partial:
                partial.write_bytes(data)
            write_text(self.quarantine / f"{instance}.txt", reason + "\n")
            self._quarantined = None
            raise PredictionError(reason) from None
        self._require_room(series, instance)
        path = self._incoming / f"{series}-{instance}.dcm"
        with write_atomically(path) as partial:
            partial.write_bytes(data)
        self._join(path, series, instance)

    def _require_room_in_quarantine(self) -> None:
        """Whatever comes may have to be put there, and what was taken is not removed unseen."""
        if self._quarantined is None or time.monotonic() - self._quarantined[0] > _MEASURED_S:
            self._quarantined = time.monotonic(), measure_folder(self.quarantine)
        if self._quarantined[1] >= self.limits.quarantine_gib * _GIB:
            raise OutOfResourcesError(
                f"The quarantine has {self._quarantined[1] / _GIB:.1f} GiB, and the limit is {self.limits.quarantine_gib:g} GiB. Read the "
                "reasons in its .txt files and delete what is not needed, let `jobs FOLDER --again` try it again, or raise "
                "--max-quarantine-gib."
            )

    def _require_room(self, series: str, instance: str) -> None:
        folder = self._received / series
        if not folder.is_dir():
            waiting = {path.name for place in (self._received, self.taken) for path in place.iterdir()}
            if len(waiting | {series}) > self.limits.num_series:
                raise OutOfResourcesError(
                    f"{len(waiting)} series wait, which is the limit. Raise --max-series, or see why nothing is sent."
                )
        elif (
            not (folder / f"{instance}.dcm").exists() and sum(1 for _ in folder.iterdir()) >= self.limits.num_instances
        ):
            raise OutOfResourcesError(
                f"The series {series} has {self.limits.num_instances} instances, which is the limit. Raise --max-instances."
            )

    def _join(self, path: Path, series: str, instance: str) -> None:
        folder = self._received / series
        with self._lock:
            folder.mkdir(exist_ok=True)
            with suppress(
                FileNotFoundError
            ):  # the same instance came twice at once, and the other one was renamed with it
                os.replace(path, folder / f"{instance}.dcm")
            self._arrived_s[series] = time.monotonic()

    def refuse(self, instance_uid: str, reason: str) -> None:
        """Leave a reason for an instance that was not taken in."""
        write_text(self.quarantine / f"{hash_uid(instance_uid)}.txt", reason + "\n")

    def take_complete(self, wait_s: float, num_instances: int | None) -> list[str]:
        """Let the series that are complete wait for the network; their names.

        Args:
            wait_s: a series without another instance for so long is complete.
            num_instances: so is one with so many.
        """
        names = []
        with self._lock:  # instances come meanwhile
            arrivals = sorted(self._arrived_s.items(), key=lambda pair: pair[1])
        for name, arrived_s in arrivals:
            folder = self._received / name
            has_all = num_instances is not None and sum(1 for _ in folder.glob("*.dcm")) >= num_instances
            if not has_all and time.monotonic() - arrived_s < wait_s:
                continue
            with self._lock:
                # another instance has just come; or an earlier series of this name is on its way
                if self._arrived_s[name] != arrived_s or (self.taken / name).exists():
                    continue
                os.replace(folder, self.taken / name)
                del self._arrived_s[name]
            names.append(name)
        return names

    def list_taken(self) -> list[str]:
        """Names of complete series, whatever is known about them."""
        return sorted(path.name for path in self.taken.iterdir())

    def join_quarantined(self, name: str) -> None:
        """Let a series have those of its instances that are in quarantine; what came again replaces them."""
        for kind in (name, name + LATE):
            folder = self.quarantine / kind
            if folder.is_dir():
                (self.taken / name).mkdir(exist_ok=True)
                for path in folder.iterdir():
                    if not (self.taken / name / path.name).exists():
                        os.replace(path, self.taken / name / path.name)
                self._forget(folder)

    def _forget(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_name(f"{folder.name}.txt").unlink(missing_ok=True)
        self._quarantined = None

    def hash_instances(self, name: str) -> dict[str, str]:
        """SHA-256 of the files of a complete series by their names."""
        return {path.name: compute_sha256(path) for path in sorted((self.taken / name).iterdir())}

    def list_results(self, name: str) -> list[Path]:
        """The objects of a series that are there: the result, and what refers to it."""
        return sorted(
            path for path in self.results.glob(f"{name}*.dcm") if path.name.startswith((f"{name}.", f"{name}_"))
        )

    def set_aside(self, name: str, reason: str, ending: str = "") -> None:
        """Put a series into quarantine."""
        write_text(self.quarantine / f"{name}{ending}.txt", reason + "\n")
        target = self.quarantine / f"{name}{ending}"
        target.mkdir(exist_ok=True)
        for path in list((self.taken / name).iterdir()):
            os.replace(path, target / path.name)
        (self.taken / name).rmdir()
        self._quarantined = None

    def drop(self, name: str, keep: bool) -> None:
        """Remove the files of a series and its result, or keep them in the folder sent/.

        Args:
            name: of the series.
            keep: do not remove them.
        """
        if keep:
            target = self._sent / name
            target.mkdir(parents=True, exist_ok=True)
            self._sent.chmod(_PRIVATE)
            for path in [*(self.taken / name).glob("*"), *self.list_results(name)]:
                os.replace(path, target / path.name)
        for path in self.list_results(name):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.taken / name, ignore_errors=True)


def measure_folder(folder: Path) -> int:
    """Bytes of all files below a folder; what goes away meanwhile counts as nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.lstat().st_size if path.is_file() else 0
    return total


def _read_series_uid(data: bytes) -> str:
    from pydicom import dcmread

    from unet_pipeline.clinical.source import keep_quiet

    with keep_quiet():
        header = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        return str(header.SeriesInstanceUID)
