"""A DICOMweb server of a few lines on the loopback address, for the tests: it has what it is given, and answers wrongly when told."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pydicom

_BOUNDARY = "a1b2c3"
_QUERY = ("Modality", "SeriesNumber", "SeriesInstanceUID", "SeriesDescription", "PatientName")


@dataclass
class Answer:
    """What is sent; `cut` closes the connection before the last bytes."""

    body: bytes = b""
    content_type: str = "application/dicom+json"
    status: int = 200
    cut: bool = False
    headers: dict[str, str] = field(default_factory=dict)


Spoil = Callable[[str, str, Answer], Answer]


@dataclass
class Archive:
    """Instances by their UIDs; `spoil` changes an answer to a method and a path; every request is kept in `seen`."""

    instances: dict[str, pydicom.Dataset] = field(default_factory=dict)
    spoil: Spoil = lambda method, path, answer: answer
    credentials: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""

    def add(self, folder: Path) -> None:
        """The files of a folder."""
        for path in folder.iterdir():
            header = pydicom.dcmread(path)
            self.instances[header.SOPInstanceUID] = header

    def get(self, path: str, query: dict[str, list[str]]) -> Answer:
        """QIDO-RS of series and instances, WADO-RS of series and of the header of an instance."""
        words = path.removeprefix("/dicom-web/").split("/")
        chosen = [item for item in self.instances.values() if item.StudyInstanceUID == words[1]]
        if words[2:] == ["series"]:
            series = {item.SeriesInstanceUID: item for item in chosen}
            wanted = query.get("SeriesInstanceUID") or list(series)
            return _as_json([_describe(item, chosen) for uid, item in series.items() if uid in wanted])
        chosen = [item for item in chosen if item.SeriesInstanceUID == words[3]]
        if words[4:] == ["instances"]:
            return _as_json([_pick(item, ("SOPInstanceUID", "SOPClassUID")) for item in chosen])
        if words[-1] == "metadata":
            (item,) = (item for item in chosen if item.SOPInstanceUID == words[5])
            header = pydicom.dcmread(BytesIO(_encode(item)), stop_before_pixels=True)
            return _as_json([header.to_json_dict()])
        parts = (
            b"\r\n--%s\r\nContent-Type: application/dicom\r\n\r\n%s" % (_BOUNDARY.encode(), _encode(item))
            for item in chosen
        )
        body = b"".join(parts) + b"\r\n--%s--" % _BOUNDARY.encode()
        return Answer(body, f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}')

    def post(self, body: bytes, content_type: str) -> Answer:
        """STOW-RS."""
        marker = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
        stored = []
        for part in body.split(b"\r\n" + marker)[1:-1]:
            header = pydicom.dcmread(BytesIO(part.partition(b"\r\n\r\n")[2]))
            self.instances[header.SOPInstanceUID] = header
            stored.append({"00081155": {"vr": "UI", "Value": [header.SOPInstanceUID]}})
        return Answer(json.dumps({"00081199": {"vr": "SQ", "Value": stored}}).encode())


def refuse(uid: str, reason: int) -> bytes:
    """The body of an answer of STOW-RS that refuses an instance."""
    item = {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}
    return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


@contextmanager
def serve(archive: Archive) -> Iterator[Archive]:
    """The archive on a free port, as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize, disable_nagle_algorithm = 1 << 16, True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._send("GET", parts.path, lambda: archive.get(parts.path, parse_qs(parts.query)))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._send("POST", self.path, lambda: archive.post(body, self.headers["Content-Type"]))

        def _send(self, method: str, path: str, answer: Callable[[], Answer]) -> None:
            archive.seen.append((method, path))
            expected = f"Basic {base64.b64encode(archive.credentials.encode()).decode()}"
            if archive.credentials and self.headers.get("Authorization") != expected:
                sent = Answer(b"Doe^Jane may not", status=401)
            else:
                sent = archive.spoil(method, path, answer())
            self.send_response(sent.status)
            for name, value in sent.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", sent.content_type)
            self.send_header("Content-Length", str(len(sent.body)))
            self.end_headers()
            self.wfile.write(sent.body[:-40] if sent.cut else sent.body)
            self.close_connection = sent.cut

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        archive.address = f"dicomweb://127.0.0.1:{server.server_port}/dicom-web"
        try:
            yield archive
        finally:
            server.shutdown()


def _encode(item: pydicom.Dataset) -> bytes:
    with BytesIO() as stream:
        item.save_as(stream, enforce_file_format=True)
        return stream.getvalue()


def _pick(item: pydicom.Dataset, keywords: tuple[str, ...]) -> dict[str, object]:
    picked = pydicom.Dataset()
    for keyword in keywords:
        if keyword in item:
            picked.add(item[keyword])
    return picked.to_json_dict()


def _describe(item: pydicom.Dataset, others: list[pydicom.Dataset]) -> dict[str, object]:
    count = sum(other.SeriesInstanceUID == item.SeriesInstanceUID for other in others)
    return _pick(item, _QUERY) | {"00201209": {"vr": "IS", "Value": [count]}}


def _as_json(items: list[dict[str, object]]) -> Answer:
    return Answer(json.dumps(items).encode())
