"""A folder of results that stands for a prefix: one writer at a time, checksums from metadata, whole files."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from unet_pipeline.files import compute_sha256
from unet_pipeline.locks import InUseError
from unet_pipeline.remote.outputs import LOCK, OutputFolder, open_output
from unet_pipeline.remote.store import Store
from unet_pipeline.remote.urls import RemoteUrl, StoreError

URL, RECORD = RemoteUrl("memory", "output-tests/out"), "record.json"
GONE = 2**22 + 1  # above the largest process number


@pytest.fixture
def store() -> Iterator[Store]:
    pytest.importorskip("fsspec")
    store = Store("memory")
    store.files.mkdir("/output-tests")
    yield store
    store.files.rm("/output-tests", recursive=True)


def list_names(store: Store) -> list[str]:
    return [item.name for item in store.list_below(URL)]


def hold(store: Store, host: str, process: int, hours: float) -> None:
    last = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    store.write(URL / LOCK, json.dumps({"host": host, "process": process, "last": last}).encode())


@pytest.mark.parametrize("holder", [(socket.gethostname(), os.getpid(), 0.0), ("elsewhere", 1, 0.5)])
def test_open_output_that_another_process_has(store: Store, holder: tuple[str, int, float]) -> None:
    hold(store, *holder)
    with pytest.raises(InUseError, match=f"{URL} is in use by another process .*{holder[0]}"), open_output(URL, RECORD):
        pass
    assert list_names(store) == [LOCK]
    with open_output(URL, RECORD, locks=False):
        pass
    assert list_names(store) == [LOCK]


@pytest.mark.parametrize("holder", [(socket.gethostname(), GONE, 0.0), ("elsewhere", 1, 1.5)])
def test_open_output_whose_holder_is_dead(store: Store, holder: tuple[str, int, float]) -> None:
    hold(store, *holder)
    with open_output(URL, RECORD):
        assert str(os.getpid()) in store.read_head(URL / LOCK, 200).decode()
    assert list_names(store) == []


def test_open_output_lock_that_says_nothing_is_kept(store: Store) -> None:
    store.write(URL / LOCK, b"somebody")
    with pytest.raises(InUseError, match="somebody"), open_output(URL, RECORD):
        pass


def test_deliver_remove_and_move(store: Store) -> None:
    with open_output(URL, RECORD) as folder:
        path = folder.local / "a.nii.gz"
        path.write_bytes(b"label map")
        sha256 = compute_sha256(path)
        folder.deliver(path, sha256)
        assert path.stat().st_size == 0
        assert folder.compute_sha256(path) == sha256
        (folder.local / "replaced").mkdir()
        folder.move(path, folder.local / "replaced" / "a.nii.gz")
        assert list_names(store) == [LOCK, "replaced/a.nii.gz"]
        assert not path.exists()
        folder.remove(folder.local / "replaced" / "a.nii.gz")
        assert list_names(store) == [LOCK]


def test_compute_sha256_is_of_the_object_and_not_of_the_placeholder(store: Store, tmp_path: Path) -> None:
    store.write(URL / "a.nii.gz", b"content")
    (tmp_path / "a").write_bytes(b"content")
    with open_output(URL, RECORD) as folder:
        assert (folder.local / "a.nii.gz").stat().st_size == 0
        assert folder.compute_sha256(folder.local / "a.nii.gz") == compute_sha256(tmp_path / "a")
    assert OutputFolder().compute_sha256(tmp_path / "a") == compute_sha256(tmp_path / "a")


def test_deliver_that_fails_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StoreError("full")

    with open_output(URL, RECORD) as folder:
        path = folder.local / "a.nii.gz"
        path.write_bytes(b"label map")
        monkeypatch.setattr(folder.store, "upload", fail)
        with pytest.raises(StoreError, match="full"):
            folder.deliver(path, "")
        assert not path.exists()


@pytest.mark.parametrize("content", ["[]", "{", '{"images": {"a": 3}}', '{"images": {"a": {"label_map": "a.nii.gz"}}}'])
def test_record_is_fetched_changed_and_written_back(store: Store, content: str) -> None:
    store.write(URL / RECORD, content.encode())
    with open_output(URL, RECORD) as folder:
        assert (folder.local / RECORD).read_text() == content
        (folder.local / RECORD).write_text("{}")
        folder.publish()
        assert store.read_head(URL / RECORD, 100) == b"{}"
        (folder.local / RECORD).write_text("{ }")
    assert store.read_head(URL / RECORD, 100) == b"{ }"
    with open_output(URL, RECORD) as folder:
        (folder.local / RECORD).unlink()
    assert list_names(store) == []
