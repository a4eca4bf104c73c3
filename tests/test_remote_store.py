"""A store through fsspec: what is listed, fetched and uploaded, and what each failure is called."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unet_pipeline.remote import store as module
from unet_pipeline.remote.store import Store
from unet_pipeline.remote.urls import LIBRARIES, RemoteUrl, StoreError

from .store_server import Fault, StoreServer, serve_store

BUCKET = RemoteUrl("s3", "bucket")
SHA256 = "ab" * 32


@pytest.fixture(scope="module")
def started() -> Iterator[StoreServer]:
    with serve_store() as server:
        yield server


@pytest.fixture
def server(started: StoreServer) -> StoreServer:
    started.faults.clear()
    started.requests.clear()
    return started


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "local.bin"
    path.write_bytes(b"content" * 100)
    return path


def test_upload_list_fetch(server: StoreServer, local: Path, tmp_path: Path) -> None:
    store, url = Store("s3"), BUCKET / "there/a.bin"
    store.upload(local, url, SHA256)
    (item,) = store.list_below(BUCKET / "there")
    assert (item.name, item.url, item.num_bytes) == ("a.bin", url, 700)
    assert item.stamp == item.tag != ""
    assert store.list_below(url) == [item]
    assert store.read_sha256(url) == SHA256
    assert store.read_head(url, 7) == b"content"
    store.fetch(url, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == local.read_bytes()
    store.remove(url)
    store.remove(url)  # of nothing
    assert store.list_below(BUCKET / "there") == []


def test_list_below_one_level(server: StoreServer, local: Path) -> None:
    store = Store("s3")
    for name in ("deep/a.bin", "deep/b/c.bin", "deeper/d.bin"):
        store.upload(local, BUCKET / name)
    assert [item.name for item in store.list_below(BUCKET / "deep")] == ["a.bin", "b/c.bin"]
    assert [item.name for item in store.list_below(BUCKET / "deep", deep=False)] == ["a.bin"]


@pytest.mark.parametrize("scheme", ["s3", "memory"])
def test_create_only_once(server: StoreServer, scheme: str) -> None:
    store, url = Store(scheme), RemoteUrl(scheme, "bucket/lock")
    assert [store.create(url, b"one"), store.create(url, b"two")] == [True, False]
    assert store.read_head(url, 3) == b"one"
    store.remove(url)


def test_create_is_conditional_in_the_store(server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store, url = Store("s3"), BUCKET / "race"
    assert store.create(url, b"first")
    monkeypatch.setattr(store.files, "exists", lambda path: False)  # the other writer came after the question
    assert not store.create(url, b"second")
    assert store.read_head(url, 6) == b"first"


def test_upload_after_503(server: StoreServer, local: Path) -> None:
    server.faults.append(Fault("PUT /bucket/slow", "slow", 2))
    Store("s3").upload(local, BUCKET / "slow", SHA256)
    assert server.count("PUT /bucket/slow") == 3
    assert Store("s3").list_below(BUCKET / "slow")[0].num_bytes == 700


def test_fetch_after_a_cut(server: StoreServer, local: Path, tmp_path: Path) -> None:
    Store("s3").upload(local, BUCKET / "cut")
    server.faults.append(Fault("GET /bucket/cut", "cut", 2))
    Store("s3").fetch(BUCKET / "cut", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == local.read_bytes()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("slow", "the store failed, or the connection was cut, in every one of several tries"),
        ("cut", "the store failed, or the connection was cut, in every one of several tries"),
        ("denied", "the store refuses it"),
    ],
)
def test_upload_that_always_fails_leaves_nothing(server: StoreServer, local: Path, kind: str, words: str) -> None:
    store, url = Store("s3"), BUCKET / f"never/{kind}"
    server.faults.append(Fault("PUT /bucket/never", kind, 1000))
    with pytest.raises(StoreError, match=words) as caught:
        store.upload(local, url)
    assert str(caught.value).startswith(f"s3://bucket/never/{kind} cannot be written: ")
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
    assert store.list_below(url) == []
    assert 1 <= server.count("PUT") <= 10  # bounded


def test_upload_in_parts_that_is_cut_is_aborted(server: StoreServer, local: Path) -> None:
    store, url = Store("s3"), BUCKET / "parts"
    local.write_bytes(bytes(11 << 20))
    server.faults.append(Fault("PUT /bucket/parts.*partNumber=2", "cut", 1000))
    put_file = store.files.put_file
    store.files.put_file = lambda *paths, **keywords: put_file(*paths, chunksize=5 << 20, **keywords)
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            store.upload(local, url)
    finally:
        store.files.put_file = put_file
    assert store.list_below(url) == []
    assert server.count("DELETE /bucket/parts.*uploadId") == 1


def test_upload_that_is_another_file_afterwards(
    server: StoreServer, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store("s3")
    monkeypatch.setattr(store, "read_sha256", lambda url: "cd" * 32)
    with pytest.raises(StoreError, match="is not the file of 700 bytes that was sent"):
        store.upload(local, BUCKET / "other", SHA256)


def test_no_bucket(server: StoreServer, local: Path, tmp_path: Path) -> None:
    store, url = Store("s3"), RemoteUrl("s3", "nowhere/a")
    assert store.list_below(url) == []
    for act in (lambda: store.fetch(url, tmp_path / "a"), lambda: store.upload(local, url)):
        with pytest.raises(StoreError, match=r"s3://nowhere/a cannot be .*: there is no such bucket or object"):
            act()


def test_no_credentials(server: StoreServer, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    store = Store("s3")
    store.files = type(store.files)(skip_instance_cache=True, use_listings_cache=False)
    with pytest.raises(StoreError, match=r"there are no credentials for it .*AWS_PROFILE"):
        store.upload(local, BUCKET / "a")


def test_local_disk_is_not_the_store(server: StoreServer, local: Path, tmp_path: Path) -> None:
    error = OSError(28, "No space left on device", "x")
    with pytest.raises(OSError, match="No space") as caught, module.explaining(BUCKET, "read"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "'unet-pipeline[remote]'"), ("gs", "gcsfs"), ("az", "adlfs")])
def test_missing_library(monkeypatch: pytest.MonkeyPatch, scheme: str, extra: str) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] in ("fsspec", *LIBRARIES.values()):
            raise ImportError(name)
        return original(name, *rest, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(StoreError) as caught:
        Store(scheme)
    assert f"Install it: pip install {extra}" in str(caught.value)
