"""Downloads from a server on the loopback address: cut connections, wrong checksums, full disks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unet_pipeline.boundary import guarded
from unet_pipeline.errors import FileError
from unet_pipeline.public_data import download as module
from unet_pipeline.public_data.card import SourceFile
from unet_pipeline.public_data.download import DownloadError, download

from .data_server import FileServer, serve_files

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve_files() as state:
        yield state


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_download_whole_file_is_there_with_hash_and_nothing_else(server: FileServer, tmp_path: Path) -> None:
    result = download(server.offer("a.zip", CONTENT, has_checksum=True), tmp_path)
    assert result.path.read_bytes() == CONTENT
    assert result.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert result.num_bytes == len(CONTENT)
    assert result.is_verified
    assert result.verdict == "has the MD5 that the publisher states"
    assert list_files(tmp_path) == ["a.zip"]


def test_download_file_that_is_there_is_not_asked_for(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(CONTENT)
    assert download(server.offer("a.zip", CONTENT, has_checksum=True), tmp_path).is_verified
    assert not server.ranges


def test_download_cut_connection_goes_on_where_it_ended(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [98_304, 49_152]
    result = download(server.offer("a.zip", CONTENT, has_checksum=True), tmp_path)
    assert result.path.read_bytes() == CONTENT
    assert server.ranges == ["", "bytes=98304-", "bytes=147456-"]


@pytest.mark.parametrize("has_checksum", [True, False])
def test_download_next_call_goes_on(server: FileServer, tmp_path: Path, has_checksum: bool) -> None:
    source = server.offer("a.zip", CONTENT, has_checksum)
    server.cuts = [98_304] + [0] * module.ATTEMPTS
    with pytest.raises(DownloadError, match=r"a\.zip cannot be downloaded from 127.*98,304 bytes are kept"):
        download(source, tmp_path)
    assert (tmp_path / "a.zip.part").stat().st_size == 98_304
    assert download(source, tmp_path).path.read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=98304-"


@pytest.mark.parametrize(("has_ranges", "has_validator"), [(False, True), (True, False)])
def test_download_rest_that_may_be_of_another_file_begins_anew(
    server: FileServer, tmp_path: Path, has_ranges: bool, has_validator: bool
) -> None:
    server.has_ranges, server.has_validator, server.cuts = has_ranges, has_validator, [98_304]
    assert download(server.offer("a.zip", CONTENT), tmp_path).path.read_bytes() == CONTENT


def test_download_file_that_changed_meanwhile_begins_anew(server: FileServer, tmp_path: Path) -> None:
    source = server.offer("a.zip", CONTENT)
    server.cuts = [98_304] + [0] * module.ATTEMPTS
    with pytest.raises(DownloadError):
        download(source, tmp_path)
    changed = CONTENT[::-1]
    server.offer("a.zip", changed)
    assert download(source, tmp_path).path.read_bytes() == changed


def test_download_part_that_is_longer_than_the_file_begins_anew(server: FileServer, tmp_path: Path) -> None:
    source = server.offer("a.zip", CONTENT, has_checksum=True)
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"more")
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"address": source.address, "validator": ""}))
    assert download(source, tmp_path).path.read_bytes() == CONTENT


def test_download_part_that_is_whole_is_taken(server: FileServer, tmp_path: Path) -> None:
    source = server.offer("a.zip", CONTENT, has_checksum=True)
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"address": source.address, "validator": ""}))
    assert download(source, tmp_path).path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


def test_download_without_length_is_taken(server: FileServer, tmp_path: Path) -> None:
    server.has_length = False
    assert download(server.offer("a.zip", CONTENT, has_checksum=True), tmp_path).path.read_bytes() == CONTENT


def test_download_busy_server_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert download(server.offer("a.zip", CONTENT), tmp_path).path.read_bytes() == CONTENT
    assert len(server.ranges) == 3


@pytest.mark.parametrize("has_checksum", [True, False])
def test_download_missing_file_is_one_error_and_one_request(
    server: FileServer, tmp_path: Path, has_checksum: bool
) -> None:
    source = server.offer("a.zip", CONTENT, has_checksum)
    del server.files["a.zip"]
    with pytest.raises(DownloadError, match=r"a\.zip is refused by 127.*answers 404.*--downloads"):
        download(source, tmp_path)
    assert len(server.ranges) == 1
    assert list_files(tmp_path) == []


def test_download_no_server_names_address_and_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve_files() as state:
        source = state.offer("a.zip", CONTENT)
    with pytest.raises(DownloadError, match=rf"no connection.*{source.address}.*--downloads"):
        download(source, tmp_path)


def test_download_wrong_checksum_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    source = server.offer("a.zip", CONTENT, has_checksum=True)
    server.files["a.zip"] = CONTENT[:-1] + b"?"
    with pytest.raises(DownloadError, match=r"another checksum than the md5:\w{32} that the publisher states"):
        download(source, tmp_path)
    assert not (tmp_path / "a.zip").exists()
    assert not (tmp_path / "a.zip.part").exists()


def test_download_own_file_with_wrong_checksum_is_named_and_kept(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"a\.zip in .* has not the checksum"):
        download(server.offer("a.zip", CONTENT, has_checksum=True), tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == b"mine"
    assert not server.ranges


def test_download_without_checksum_says_so_and_gives_its_own(server: FileServer, tmp_path: Path) -> None:
    result = download(server.offer("a.zip", CONTENT), tmp_path)
    assert not result.is_verified
    expected = hashlib.sha256(CONTENT).hexdigest()
    assert result.verdict == f"the publisher states no checksum; SHA-256 received: {expected}"


@pytest.mark.parametrize(("content", "words"), [(CONTENT, "the same as somebody"), (b"x", "ANOTHER ONE than somebody")])
def test_download_compares_with_what_somebody_received(
    server: FileServer, tmp_path: Path, content: bytes, words: str
) -> None:
    seen = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    result = download(server.offer("a.zip", content, seen_checksum=seen, seen_by="somebody"), tmp_path)
    assert words in result.verdict
    assert not result.is_verified


def test_download_that_does_not_fit_is_refused_before_it_begins(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DownloadError, match=r"a\.zip needs 0\.00 GB more on the disk.*Free some space"):
        download(server.offer("a.zip", CONTENT), tmp_path)


def test_download_full_disk_keeps_what_is_there_and_goes_on(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def write(self, data: memoryview) -> int:
            if self.stream.tell() >= 98_304:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(self.stream.write(data[: 98_304 - self.stream.tell()]))

    write_all = module._write_all
    monkeypatch.setattr(
        module,
        "_write_all",
        lambda stream, chunk, path: write_all(FullDisk(stream), chunk, path),  # type: ignore[arg-type]
    )
    source = server.offer("a.zip", CONTENT)
    with pytest.raises(FileError, match=r"a\.zip\.part cannot be written: the disk is full"), guarded():
        download(source, tmp_path)
    assert (tmp_path / "a.zip.part").stat().st_size == 98_304
    monkeypatch.setattr(module, "_write_all", write_all)
    assert download(source, tmp_path).path.read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=98304-"


def test_file_name_is_the_end_of_the_address_or_the_given_one() -> None:
    assert SourceFile("https://a.org/x/b%20c.zip?download=1").file_name == "b c.zip"
    assert SourceFile("https://a.org/x/b.zip/content", name="b.zip").file_name == "b.zip"
