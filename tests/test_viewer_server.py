"""The server: only on the loopback address, and nothing without the token."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.viewer.page import Looks
from unet_pipeline.viewer.results import open_result
from unet_pipeline.viewer.server import ViewerServer

from .viewer.evaluations import LABELS, SHAPE, draw_oblique, write_evaluation


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewerServer]:
    root = tmp_path_factory.mktemp("served") / "data"
    draw_oblique(root, "case_0")
    dataset = read_dataset(root)
    out = write_evaluation(root.parent / "out", dataset, dataset.cases, LABELS)
    with ViewerServer(Looks((open_result(out, root),), ("case_0",))) as running:
        yield running


def ask(address: str, host: str | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def split(server: ViewerServer) -> tuple[str, str]:
    base, _, token = server.url.partition("/?token=")
    return base, token


def test_server_page_and_case_with_the_token(server: ViewerServer) -> None:
    base, token = split(server)
    status, page = ask(server.url)
    assert status == 200
    assert b"<title>out</title>" in page
    status, case = ask(f"{base}/case/0?token={token}")
    assert status == 200
    content = json.loads(case)
    assert content["facts"]["start"] == [0, 0, 0]  # the whole image
    assert content["facts"]["shape"] == list(SHAPE)


@pytest.mark.parametrize("path", ["/", "/case/0", "/?token=", "/case/0?token=wrong", "/anything", "/?token=%C3%A4"])
def test_server_without_the_token_is_403(server: ViewerServer, path: str) -> None:
    status, body = ask(split(server)[0] + path)
    assert status == 403
    assert b"case_0" not in body


def test_server_another_host_name_is_403(server: ViewerServer) -> None:
    assert ask(server.url, host="evil.example:80")[0] == 403


@pytest.mark.parametrize("path", ["/case/1", "/case/-1", "/case/x", "/../secret", "/case/"])
def test_server_unknown_path_is_404(server: ViewerServer, path: str) -> None:
    base, token = split(server)
    assert ask(f"{base}{path}?token={token}")[0] == 404


def test_server_listens_on_the_loopback_address_only(server: ViewerServer) -> None:
    port = urlsplit(server.url).port
    assert urlsplit(server.url).hostname == "127.0.0.1"
    with socket.socket() as other:  # another address of the machine is free, so the server does not have it
        other.bind(("127.0.0.2", int(port or 0)))


def test_server_tokens_differ_and_are_long(server: ViewerServer, tmp_path: Path) -> None:
    assert len(split(server)[1]) >= 32
