"""moto's S3 on the loopback address, with faults that a test asks for; no network, and no account."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",  # those of botocore; s3fs tries five times
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
_SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@dataclass
class Fault:
    """What happens to the first `times` requests whose "METHOD /path?query" has the pattern: "slow", "denied", or "cut"."""

    pattern: str
    kind: str
    times: int


@dataclass
class StoreServer:
    """The server's address, its faults, and every request that it got. There is a bucket `bucket`."""

    address: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def wrap(self, app: Callable[..., Any]) -> Callable[..., Any]:
        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
            request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}"
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, request):
                    fault.times -= 1
                    if fault.kind == "cut":
                        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                        return []
                    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                    status, body = ("503 Slow Down", _SLOW_DOWN) if fault.kind == "slow" else ("403 Forbidden", _DENIED)
                    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]
            return app(environ, start)

        return answer

    def count(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, request)) for request in self.requests)


@contextmanager
def serve_store() -> Iterator[StoreServer]:
    import logging

    import pytest

    s3fs = pytest.importorskip("s3fs", reason="pip install 'unet-pipeline[test]' brings s3fs")
    pytest.importorskip("moto", reason="pip install 'unet-pipeline[test]' brings moto")
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = StoreServer()
    app = server.wrap(DomainDispatcherApplication(create_backend_app))
    listening = make_server("127.0.0.1", 0, app, threaded=True)
    server.address = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": server.address}.items():
                patch.setenv(name, value)
            s3fs.S3FileSystem.clear_instance_cache()  # those of another server
            # moto keeps the buckets of its process, whichever server made them
            with urlopen(Request(f"{server.address}/moto-api/reset", method="POST")):
                pass
            s3fs.S3FileSystem(use_listings_cache=False).mkdir("bucket")
            yield server
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        listening.shutdown()
        thread.join()
