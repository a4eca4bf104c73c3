"""A server of files on the loopback address that cuts connections, refuses ranges, or lies, as told."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from unet_pipeline.public_data.card import SourceFile


@dataclass
class FileServer:
    """What it serves, how it misbehaves, and what it was asked for.

    Attributes:
        address: of the server, without a path.
        files: contents by name.
        cuts: the first answers break off after so many bytes each; 0 brings none.
        statuses: of the next answers, before any file is served.
        has_ranges: whether a Range is honoured.
        has_validator: whether an answer has an ETag.
        has_length: whether an answer has its length.
        ranges: of every request; empty where it had none.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    has_ranges: bool = True
    has_validator: bool = True
    has_length: bool = True
    ranges: list[str] = field(default_factory=list)

    def offer(self, name: str, content: bytes, has_checksum: bool = False, **keys: Any) -> SourceFile:
        """Serve a file; its entry of a card."""
        self.files[name] = content
        if has_checksum:
            keys = {"checksum": f"md5:{hashlib.md5(content).hexdigest()}", "checksum_by": "the publisher"} | keys
        return SourceFile(f"{self.address}/{name}", **keys)


@contextmanager
def serve_files() -> Iterator[FileServer]:
    """The server, while the block runs."""
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.ranges.append(wanted)
            content = state.files.get(self.path.strip("/"))
            status = state.statuses.pop(0) if state.statuses else 200 if content is not None else 404
            if content is None or status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            tag = f'"{hashlib.md5(content).hexdigest()}"'
            begin = int(wanted.removeprefix("bytes=").rstrip("-") or 0) if state.has_ranges else 0
            if self.headers.get("If-Range", tag) != tag:
                begin = 0
            if begin >= len(content) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            if state.has_validator:
                self.send_header("ETag", tag)
            if state.has_length:
                self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            length = state.cuts.pop(0) if state.cuts else len(content)
            self.wfile.write(content[begin : begin + length])

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
