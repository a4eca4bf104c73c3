"""The viewer's page on the loopback address, for data that no single file should hold: each case is read when it is looked at.

Only 127.0.0.1 listens, and every request needs the random token of the address: other users of the machine, and pages of other sites that
the browser has open, get 403.
"""

from __future__ import annotations

import hmac
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from unet_pipeline.viewer.page import Looks, build_page, encode_case

HOST = "127.0.0.1"


class ViewerServer:
    """A running server.

    Attributes:
        url: with the token; whoever has it sees the images.
    """

    def __init__(self, looks: Looks, port: int = 0) -> None:
        """Listen on a free port, or on `port`.

        Raises:
            OSError: the port is taken.
        """
        token = secrets.token_urlsafe(24)
        page = build_page(looks, token=token).encode()
        self._server = ThreadingHTTPServer((HOST, port), _build_handler(looks, page, token))
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_address[1]}/?token={token}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Serve until the process is interrupted."""
        self._thread.join()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> ViewerServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _build_handler(looks: Looks, page: bytes, token: str) -> type[BaseHTTPRequestHandler]:
    lock = Lock()  # one case at a time: a volume may take much memory

    class Handler(BaseHTTPRequestHandler):
        """Answers GET of the page and of a case."""

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            given = parse_qs(address.query).get("token", [""])[0]
            # a foreign name that resolves to this address would make the browser treat another site's page as this one
            port = self.server.server_port  # type: ignore[attr-defined]  # of HTTPServer
            if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
                return self._answer(403, b"wrong host", "text/plain")
            if not hmac.compare_digest(given.encode(), token.encode()):
                return self._answer(403, b"the address lacks its token", "text/plain")
            if address.path == "/":
                return self._answer(200, page, "text/html; charset=utf-8")
            kind, _, number = address.path.removeprefix("/").partition("/")
            if kind != "case" or not number.isdecimal() or int(number) >= len(looks.cases):
                return self._answer(404, b"no such case", "text/plain")
            with lock:
                content = encode_case(looks, looks.cases[int(number)], crop=False, exact=True)
            return self._answer(200, content.encode(), "application/json")

        def _answer(self, status: int, content: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            """The address has the token, so that nothing is logged."""

    return Handler
