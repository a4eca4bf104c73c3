"""A DICOM network on the loopback address for the tests of the node: senders, the node's process, and an archive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

from .dicom_phantoms import write_series
from .warm_python import find_fork

NODE, ARCHIVE = "NODE", "ARCHIVE"
SIDE = 16
FIRST = "1.2.826.0.1.3680043.10.1"


def name_series(number: int) -> str:
    return f"{FIRST}.{number + 1}"


def write_numbered(folder: Path, number: int, **options: Any) -> list[Dataset]:
    """A series of 16 slices of noise around a ball."""
    generator = np.random.default_rng(number)
    grid = np.indices((SIDE,) * 3) - SIDE / 2
    volume = 100 * (np.sqrt((grid**2).sum(0)) < generator.uniform(3, 7)) + generator.normal(200, 12, (SIDE,) * 3)
    path = folder / f"series_{number}"
    write_series(path, volume.astype(np.uint16), uid=name_series(number), **options)
    return [pydicom.dcmread(file) for file in sorted(path.iterdir())]


@dataclass
class Archive:
    """What an archive has stored: SOP Instance UIDs by the series that they refer to, and how often each came."""

    results: dict[str, set[str]] = field(default_factory=dict)
    arrivals: Counter[str] = field(default_factory=Counter)
    objects: dict[str, Dataset] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)

    def store(self, event: Any) -> int:
        result = event.dataset
        with self._lock:
            source = str(result.ReferencedSeriesSequence[0].SeriesInstanceUID)
            self.results.setdefault(source, set()).add(str(result.SOPInstanceUID))
            self.arrivals[str(result.SOPInstanceUID)] += 1
            self.objects[source] = result
        return 0


@contextmanager
def serving(archive: Archive, port: int = 0) -> Iterator[int]:
    """An archive on a port while the block runs."""
    entity = AE(ae_title=ARCHIVE)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, archive.store)])
    try:
        yield server.server_address[1]
    finally:
        entity.shutdown()


def associate(
    port: int, title: str = "SENDER", address: str = "127.0.0.1", called: str = NODE, kinds: Sequence[str] = ()
) -> Any:
    """An association with the node; it may be rejected."""
    entity = AE(ae_title=title)
    for kind in kinds or ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7", Verification):
        entity.add_requested_context(kind, pydicom.uid.ExplicitVRLittleEndian)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = 10
    return entity.associate("127.0.0.1", port, ae_title=called, bind_address=(address, 0))


def send(port: int, instances: Sequence[Dataset], title: str = "SENDER", **options: Any) -> list[int | None]:
    """The status of each instance; None where there was no answer."""
    association = associate(port, title, **options)
    statuses: list[int | None] = []
    for instance in instances:
        answer = association.send_c_store(instance) if association.is_established else Dataset()
        statuses.append(answer.Status if "Status" in answer else None)
    if association.is_established:
        association.release()
    return statuses


def send_until_stored(port: int, instances: Sequence[Dataset], title: str, until_s: float = 300.0) -> None:
    """Send as a scanner does: what was not answered with success is sent again."""
    end_s = time.monotonic() + until_s
    left = list(instances)
    while left and time.monotonic() < end_s:
        statuses = send(port, left, title)
        left = [instance for instance, status in zip(left, statuses, strict=True) if status != 0]
        if left:
            time.sleep(0.2)
    assert not left, f"{len(left)} instances were not taken"


@dataclass
class NodeProcess:
    """The node as users start it; restarted after it was killed."""

    bundle: Path
    folder: Path
    port: int
    archive_port: int
    options: Sequence[str] = ()
    lines: list[str] = field(default_factory=list)
    process: Any = None

    def start(self) -> None:
        command = [sys.executable, "-m", "unet_pipeline", "node", self.bundle, "--port", str(self.port), "--aet", NODE]
        command += ["--to", f"{ARCHIVE}@127.0.0.1:{self.archive_port}", "--folder", self.folder, "--device", "cpu"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*command, *self.options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self.lines.append(line.rstrip())

    def kill(self) -> None:
        os.kill(find_fork(sys.executable, self.process.pid), signal.SIGKILL)
        self.process.wait()

    def wait_for(self, condition: Callable[[], bool], until_s: float = 120.0) -> None:
        end_s = time.monotonic() + until_s
        while not condition():
            assert self.process.poll() is None, self.lines[-20:]
            assert time.monotonic() < end_s, self.lines[-20:]
            time.sleep(0.05)

    def says(self, text: str) -> Callable[[], bool]:
        return lambda: any(text in line for line in self.lines)


def find_free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def run_through_kills(work: Path, bundle: Path, num_series: int, num_kills: int) -> tuple[Archive, NodeProcess]:
    """Two senders, one node that is killed again and again, one archive; ends when the archive has every result."""
    archive, generator = Archive(), np.random.default_rng(0)
    series = [write_numbered(work / "sent", number) for number in range(num_series)]
    with serving(archive) as archive_port:
        node = NodeProcess(bundle, work / "node", find_free_port(), archive_port, ["--instances", str(SIDE)])
        node.start()

        def send_half(half: int) -> None:
            for instances in series[half::2]:
                send_until_stored(node.port, instances, f"SENDER{half}", 1800)

        senders = [threading.Thread(target=send_half, args=(half,), daemon=True) for half in range(2)]
        for sender in senders:
            sender.start()
        places = sorted(generator.choice(np.arange(1, num_series), num_kills, replace=False).tolist())
        for place in places:
            node.wait_for(lambda place=place: len(archive.results) >= place, 900)
            time.sleep(float(generator.uniform(0, 0.3)))
            node.kill()
            node.start()
        node.wait_for(lambda: len(archive.results) >= num_series, 900)
        for sender in senders:
            sender.join(timeout=60)
        # an instance whose answer was lost came again, and is a series of its own until the time for further ones is over
        waiting = [work / "node" / "received", work / "node" / "taken"]
        node.wait_for(lambda: not any(list(folder.iterdir()) for folder in waiting), 60)
        node.process.terminate()
        node.process.wait(timeout=30)
    return archive, node
