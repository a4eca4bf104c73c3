"""Archives that would write elsewhere, or more than they say, are refused before anything is written."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from unet_pipeline.public_data import download
from unet_pipeline.public_data.download import DownloadError
from unet_pipeline.public_data.unpack import unpack


def write_tar(path: Path, *members: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 3, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, size if kind == tarfile.REGTYPE else 0, link
    return member


def write_zip(path: Path, *names: str | zipfile.ZipInfo) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"xxx")
    return path


def zip_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def list_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_unpack_tar(tmp_path: Path, mode: str) -> None:
    names = ("Task/dataset.json", "./Task/imagesTr/a.nii.gz", "Task/._dataset.json", "Task/imagesTr/._a.nii.gz")
    members = [tar_member("Task", tarfile.DIRTYPE), *map(tar_member, names)]
    assert unpack(write_tar(tmp_path / "a.tar", *members, mode=mode), tmp_path / "out") == 2
    assert list_files(tmp_path / "out") == ["Task/dataset.json", "Task/imagesTr/a.nii.gz"]


def test_unpack_zip(tmp_path: Path) -> None:
    names = ("a/images/a.png", "a/.DS_Store", "__MACOSX/a/images/._a.png", "a/Thumbs.db")
    assert unpack(write_zip(tmp_path / "a.zip", *names), tmp_path) == 1
    assert (tmp_path / "a" / "images" / "a.png").read_bytes() == b"xxx"


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "zip, parent": (lambda path: write_zip(path, "ok.png", "../out.png"), "would be unpacked outside of its folder"),
    "zip, parent inside": (lambda path: write_zip(path, "a/../../out.png"), "would be unpacked outside of its folder"),
    "zip, absolute": (lambda path: write_zip(path, "/tmp/out.png"), "has an absolute name"),
    "zip, drive": (lambda path: write_zip(path, "C:/out.png"), "has an absolute name"),
    "zip, backslash": (lambda path: write_zip(path, "a\\..\\..\\out.png"), "outside of its folder"),
    "zip, link": (lambda path: write_zip(path, zip_link("a")), "is a link"),
    "zip, twice": (lambda path: write_zip(path, "a.png", "./a.png"), "is there 2 times"),
    "tar, parent": (lambda path: write_tar(path, tar_member("ok"), tar_member("../out")), "outside of its folder"),
    "tar, absolute": (lambda path: write_tar(path, tar_member("/tmp/out")), "has an absolute name"),
    "tar, symbolic link": (
        lambda path: write_tar(path, tar_member("a", tarfile.SYMTYPE, link="/etc"), tar_member("a/b")),
        "is a link to /etc",
    ),
    "tar, hard link": (lambda path: write_tar(path, tar_member("a", tarfile.LNKTYPE, link="../b")), "is a link to"),
    "tar, device": (lambda path: write_tar(path, tar_member("a", tarfile.CHRTYPE)), "is a device"),
    "tar, pipe": (lambda path: write_tar(path, tar_member("a", tarfile.FIFOTYPE)), "is a device, a pipe"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_unpack_hostile_archive_is_refused_whole(tmp_path: Path, name: str) -> None:
    write, words = HOSTILE[name]
    archive = write(tmp_path / "a.archive")
    (tmp_path / "inner" / "out").mkdir(parents=True)
    with pytest.raises(DownloadError, match=words) as error:
        unpack(archive, tmp_path / "inner" / "out")
    assert str(error.value).startswith(f"{tmp_path.name}/a.archive is refused: ")
    assert list_files(tmp_path) == ["a.archive"]


def test_unpack_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.tif", bytes(33 << 20))
    with pytest.raises(DownloadError, match="grows from"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"), [(b"<!DOCTYPE html><p>Log in", "a web page"), (b"", "something else"), (b"PK\x03\x04", "")]
)
def test_unpack_no_archive_says_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DownloadError, match=rf"a\.zip cannot be unpacked: it holds .*{words}.*expected a zip or a tar"):
        unpack(tmp_path / "a.zip", tmp_path)


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_unpack_cut_off_archive_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    archive = write_zip(path, "a.png") if name == "a.zip" else write_tar(path, tar_member("a.png", size=5000))
    archive.write_bytes(archive.read_bytes()[: 2000 if name == "a.tar" else 40])
    with pytest.raises(DownloadError, match="damaged"):
        unpack(archive, tmp_path / "out")


def test_unpack_damaged_entry_is_named(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", "b.png")
    content = bytearray(archive.read_bytes())
    content[36] ^= 0xFF  # the first byte of the packed data
    archive.write_bytes(content)
    with pytest.raises(DownloadError, match=r"a\.zip is damaged: b\.png cannot be read"):
        unpack(archive, tmp_path)


def test_unpack_without_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=2))
    with pytest.raises(DownloadError, match=r"a\.zip needs .* GB free"):
        unpack(write_zip(tmp_path / "a.zip", "a.png"), tmp_path)
