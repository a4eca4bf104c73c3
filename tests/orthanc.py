"""Orthanc with its DICOMweb plugin, of Debian's packages orthanc and orthanc-dicomweb, in a temporary folder, on the loopback address."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_START_S = 60.0


def is_installed() -> bool:
    """Whether both packages are there."""
    return PROGRAM is not None and PLUGIN.exists()


@contextmanager
def start_orthanc(folder: Path, users: dict[str, str] | None = None) -> Iterator[str]:
    """The host and port of an Orthanc that lasts as long as the block; its DICOMweb service lies at /dicom-web."""
    ports = [_find_free_port(), _find_free_port()]
    settings = {
        "Name": "TEST", "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage"),
        "HttpPort": ports[0], "DicomPort": ports[1], "DicomServerEnabled": False, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": bool(users), "RegisteredUsers": users or {},
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([str(PROGRAM), str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder)
    try:
        _wait(f"http://127.0.0.1:{ports[0]}/dicom-web/studies", process, folder)
        yield f"127.0.0.1:{ports[0]}"
    finally:
        process.terminate()
        process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if requests.get(url, timeout=5).status_code in (200, 204, 401):
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise RuntimeError(f"Orthanc did not start: {(folder / 'log.txt').read_text()[-2000:]}")


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
