"""Files over HTTP: a cut connection is taken up where it ended, and a file gets its name when its checksum is right."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from unet_pipeline.errors import DatasetError
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.progress import progress_bar
from unet_pipeline.public_data.card import SourceFile

if TYPE_CHECKING:
    from requests import Response

ATTEMPTS = 6  # in a row that bring no byte
WAIT_S = 2.0  # after the first of them; twice as long after each further one
_TIMEOUT_S = (15.0, 60.0)  # to connect, and without a byte
_CHUNK_BYTES, _MEGABYTE = 1 << 14, 1_000_000  # what a cut connection loses is less than a chunk
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


class DownloadError(DatasetError):
    """A file of a public data set cannot be downloaded, or is another one than expected."""


@dataclass(frozen=True)
class Download:
    """A file that is there.

    Attributes:
        source: where it came from.
        path: where it lies.
        num_bytes: of the file.
        sha256: of the file, 64 hexadecimal digits.
        is_verified: whether it has the publisher's checksum; False where there is none.
        verdict: the same in words, and what else is known of it.
    """

    source: SourceFile
    path: Path
    num_bytes: int
    sha256: str
    is_verified: bool
    verdict: str


def download(source: SourceFile, folder: Path) -> Download:
    """A file in a folder: taken from there if it is complete, otherwise downloaded, or the rest of it.

    Raises:
        DownloadError: the server cannot be reached, refuses the file or cuts it off again and again; the checksum is wrong.
        OSError: it cannot be written; what was received stays and is taken up by the next call.
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # it names files by absolute paths
    path = folder / source.file_name
    if path.is_file() and source.checksum and not pooch.hashes.hash_matches(str(path), source.checksum):
        raise DownloadError(
            f"{path.name} in {folder.name} has not the checksum {source.checksum} that {source.checksum_by} states. "
            "Remove the file, then run the same command again."
        )
    receive = _Receiver(source, folder)
    try:
        pooch.retrieve(source.address, source.checksum or None, fname=source.file_name, path=folder, downloader=receive)
    except ValueError as error:  # pooch's for a wrong checksum
        raise DownloadError(
            f"{source.file_name} was received whole and has another checksum than the {source.checksum} that {source.checksum_by} "
            "states. It was removed. Run the same command again; if that does not help, the file at the address is damaged or another "
            f"one: {source.address}"
        ) from error
    receive.remove_state()
    sha256 = compute_sha256(path)
    return Download(
        source, path, path.stat().st_size, sha256, bool(source.checksum), _describe_checksum(source, path, sha256)
    )


def _describe_checksum(source: SourceFile, path: Path, sha256: str) -> str:
    if source.checksum:
        return f"has the {source.checksum.partition(':')[0].upper()} that {source.checksum_by} states"
    text = f"the publisher states no checksum; SHA-256 received: {sha256}"
    if source.seen_checksum:
        import pooch

        is_same = pooch.hashes.hash_matches(str(path), source.seen_checksum)
        text += f"; {'the same' if is_same else 'ANOTHER ONE'} than {source.seen_by} received ({source.seen_checksum})"
        text = text.replace("the same than", "the same as")
    return text


class _Receiver:
    """A downloader for pooch: receives into NAME.part and hands the whole file over."""

    def __init__(self, source: SourceFile, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.part, self.state = (folder / f"{source.file_name}{suffix}" for suffix in (".part", ".part.json"))

    def __call__(self, address: str, output: str, _: object) -> None:
        """Receive the file.

        Raises:
            DownloadError: see `download`.
        """
        failures = 0
        while True:
            size = self._size()
            problem = self._receive(address)
            if not problem:
                os.replace(self.part, output)
                return
            failures = 0 if self._size() > size else failures + 1
            if failures >= ATTEMPTS:
                raise DownloadError(self._describe_end(problem))
            time.sleep(WAIT_S * 2 ** max(failures - 1, 0))

    def remove_state(self) -> None:
        for path in (self.part, self.state):
            path.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _describe_end(self, problem: str) -> str:
        received = f" {self._size():,} bytes are kept and the same command goes on from there." if self._size() else ""
        return (
            f"{self.source.file_name} cannot be downloaded from {urlsplit(self.source.address).netloc}: {problem}.{received} Look at the "
            f"network and run the same command again; or download {self.source.address} on another machine and name its folder "
            "with --downloads."
        )

    def _receive(self, address: str) -> str:
        """One request; what went wrong, or nothing when the file is whole."""
        import requests

        try:
            headers, offset = self._request_rest(address)
            with requests.get(address, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
                return self._take(response, offset)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            return "the connection was cut" if self._size() else f"no connection ({type(error).__name__})"
        except requests.RequestException as error:
            raise DownloadError(self._describe_end(type(error).__name__)) from error

    def _request_rest(self, address: str) -> tuple[dict[str, str], int]:
        """Headers that ask for what is missing, and where that begins: at 0 unless it is sure to be the rest of the same file."""
        from unet_pipeline import __version__

        headers = {"Accept-Encoding": "identity", "User-Agent": f"unet-pipeline/{__version__}"}
        state = self._read_state()
        offset = self._size()
        if not offset or state.get("address") != address or not (state.get("validator") or self.source.checksum):
            return headers, 0
        headers["Range"] = f"bytes={offset}-"
        if state.get("validator"):
            headers["If-Range"] = state["validator"]
        return headers, offset

    def _read_state(self) -> dict[str, str]:
        with contextlib.suppress(OSError, ValueError):
            state = json.loads(self.state.read_text(encoding="utf-8"))
            if isinstance(state, dict):
                return state
        return {}

    def _take(self, response: Response, offset: int) -> str:
        status = response.status_code
        if status == 416 or (status == 206 and _read_start(response) != offset):
            if status == 416 and response.headers.get("Content-Range", "").rpartition("/")[2] == str(self._size()):
                return ""
            self.remove_state()  # no part of what the server has: from the beginning
            return f"the server has not the rest of it (status {status})"
        if status in _TRANSIENT:
            return f"the server answers {status} ({response.reason})"
        if status not in (200, 206):
            raise DownloadError(
                f"{self.source.file_name} is refused by {urlsplit(self.source.address).netloc}, which answers {status} "
                f"({response.reason}). The address may have moved: {self.source.address}. Download the file from the set's own page "
                "and name its folder with --downloads."
            )
        offset = offset if status == 206 else 0
        is_plain = response.headers.get("Content-Encoding", "identity") == "identity"
        length = response.headers.get("Content-Length", "") if is_plain else ""
        total = offset + int(length) if length.isdecimal() else None
        require_space(self.folder, (total or 0) - offset, self.source.file_name)
        write_json(self.state, {"address": self.source.address, "validator": _read_validator(response, is_plain)})
        self._write(response, offset, total)
        if total is not None and self._size() < total:
            return f"the connection was cut after {self._size():,} of {total:,} bytes"
        return ""

    def _write(self, response: Response, offset: int, total: int | None) -> None:
        title = f"{self.source.file_name} (MB)"
        with (
            self.part.open("ab" if offset else "wb", buffering=0) as stream,
            progress_bar(title, max((total or 0) // _MEGABYTE, 1)) as bar,
        ):
            done = offset
            bar.advance(done // _MEGABYTE)
            for chunk in response.iter_content(_CHUNK_BYTES):
                _write_all(stream, chunk, self.part)
                if megabytes := (done + len(chunk)) // _MEGABYTE - done // _MEGABYTE:
                    bar.advance(megabytes)
                done += len(chunk)


def require_space(folder: Path, num_bytes: int, name: str) -> None:
    """Whether a disk has room, before the work.

    Raises:
        DownloadError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise DownloadError(
            f"{name} needs {num_bytes / 1e9:.2f} GB more on the disk of {folder.name}, which has {free / 1e9:.2f} GB free. "
            "Free some space or choose another folder, then run the same command again."
        )


def _write_all(stream: IO[bytes], chunk: bytes, path: Path) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[stream.write(rest) or 0 :]
    except OSError as error:
        error.filename = str(path)
        raise


def _read_start(response: Response) -> int:
    """First byte of a partial answer; -1 where it does not say."""
    start = response.headers.get("Content-Range", "").removeprefix("bytes").strip().partition("-")[0]
    return int(start) if start.isdecimal() else -1


def _read_validator(response: Response, is_plain: bool) -> str:
    """What tells this version of the file from a later one; empty where the server says nothing, or nothing that holds byte for byte."""
    tag = response.headers.get("ETag", "")
    if not is_plain:
        return ""
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
