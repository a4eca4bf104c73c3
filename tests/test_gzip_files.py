"""Gzip through either library: the same content, the same errors, nothing of the writer in the file."""

from __future__ import annotations

import gzip
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import unet_pipeline.gzip_files

CONTENT = bytes(range(256)) * 5000


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module with and without `isal`."""
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
    module = importlib.reload(unet_pipeline.gzip_files)
    assert (module._GzipFile is gzip.GzipFile) == (request.param == "zlib")
    yield module
    monkeypatch.undo()
    importlib.reload(unet_pipeline.gzip_files)


def test_write_gzip_python_reads_the_same_content(library: ModuleType, tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        with library.write_gzip(tmp_path / name) as stream:
            stream.write(CONTENT)
    packed = (tmp_path / "a.nii.gz").read_bytes()
    assert gzip.decompress(packed) == CONTENT
    assert packed == (tmp_path / "b.nii.gz").read_bytes(), "no name and no time"
    assert len(packed) < len(CONTENT) / 20


def test_open_gzip_reads_what_python_wrote(library: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(CONTENT[:1000]) + gzip.compress(CONTENT[1000:]))
    with library.open_gzip(path) as stream:
        assert stream.read(10) == CONTENT[:10]
        assert isinstance(stream, gzip.GzipFile)
        assert stream.read() == CONTENT[10:]


@pytest.mark.parametrize("damage", ["truncated", "checksum", "content", "no gzip"])
def test_open_gzip_damage_is_an_error(library: ModuleType, tmp_path: Path, damage: str) -> None:
    packed = bytearray(gzip.compress(CONTENT))
    if damage == "truncated":
        del packed[len(packed) // 2 :]
    elif damage == "no gzip":
        packed[:2] = b"no"
    else:
        packed[-6 if damage == "checksum" else len(packed) // 2] ^= 0xFF
    path = tmp_path / "a.gz"
    path.write_bytes(packed)
    with library.open_gzip(path) as stream, pytest.raises((OSError, EOFError, *library.GZIP_ERRORS)):
        stream.read()
