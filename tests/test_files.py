"""Files are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from unet_pipeline.files import (
    PARTIAL_PREFIX,
    compute_sha256,
    replace_between,
    require_place,
    stage_folder,
    write_atomically,
    write_json,
    write_text,
    write_together,
)


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(path: Path, error: BaseException) -> None:
    """A writer that fails in the middle."""
    with write_atomically(path) as partial:
        partial.write_text("half of the ne")
        raise error


def test_write_atomically_is_on_the_disk_before_it_has_its_name_and_then_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, steps, replace = tmp_path / "a.json", list[str](), os.replace

    def note_sync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("sync of the folder" if is_folder else f"sync of {os.fstat(descriptor).st_size} bytes")

    def note_name(old: Path, new: Path) -> None:
        steps.append(f"name {Path(new).name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_name)
    write_text(path, "12345")
    assert steps == ["sync of 5 bytes", "name a.json", *["sync of the folder"] * (os.name != "nt")]


def test_write_atomically_success_replaces_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_text("old")
    with write_atomically(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"  # nothing is seen before the block ends
    assert path.read_text() == "new"
    assert list_names(tmp_path) == ["report.txt"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_write_atomically_exception_keeps_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "report.txt"
    path.write_text("old")
    with pytest.raises(error):
        write_half(path, error("stop"))
    assert path.read_text() == "old"
    assert list_names(tmp_path) == ["report.txt"]


def test_write_atomically_exception_without_old_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "report.txt", RuntimeError("disk full"))
    assert list_names(tmp_path) == []


def test_write_atomically_block_that_writes_nothing_keeps_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), write_atomically(path):
        pass
    assert path.read_text() == "old"


def test_write_atomically_killed_process_leaves_no_file_under_final_name(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from unet_pipeline.files import write_atomically\n"
        "with write_atomically(pathlib.Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half')\n"
        "    os._exit(9)\n"
    )
    path = tmp_path / "model.pt"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == 9
    assert not path.exists()
    assert [name.startswith(PARTIAL_PREFIX) for name in list_names(tmp_path)] == [True]


def test_write_atomically_temporary_name_keeps_suffix_and_folder(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "case.nii.gz") as partial:
        assert partial.name.startswith(PARTIAL_PREFIX)
        assert partial.name.endswith("case.nii.gz")
        assert partial.parent == tmp_path
        partial.touch()


def test_write_atomically_nested_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    with write_atomically(path) as first, write_atomically(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer block ends last
    assert list_names(tmp_path) == ["report.txt"]


def test_write_atomically_missing_folder_is_made(tmp_path: Path) -> None:
    write_text(tmp_path / "evidence" / "runs" / "note.txt", "there")
    assert (tmp_path / "evidence" / "runs" / "note.txt").read_text() == "there"


def test_write_text_letters_beyond_ascii_are_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "note.txt", "Größe 3 µm")
    assert (tmp_path / "note.txt").read_bytes() == "Größe 3 µm".encode()


def test_write_json_known_content_gives_known_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "table.json", {"Größe": [1, 2.5], "leer": None})
    expected = '{\n  "Größe": [\n    1,\n    2.5\n  ],\n  "leer": null\n}\n'
    assert (tmp_path / "table.json").read_text(encoding="utf-8") == expected


def test_write_json_content_that_is_no_json_keeps_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    write_json(path, {"fold": 0})
    with pytest.raises(TypeError):
        write_json(path, {"fold": object()})
    assert json.loads(path.read_text()) == {"fold": 0}


@pytest.mark.parametrize(
    ("content", "digest"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
)
def test_compute_sha256_published_vectors_agree(tmp_path: Path, content: bytes, digest: str) -> None:
    path = tmp_path / "vector"
    path.write_bytes(content)
    assert compute_sha256(path) == digest


def test_compute_sha256_longer_than_one_chunk_covers_every_byte(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    path = tmp_path / "long"
    path.write_bytes(content)
    assert compute_sha256(path) == hashlib.sha256(content).hexdigest()


def test_replace_between_keeps_the_marks_and_what_is_around_them() -> None:
    text = "above\n<b>\nold\nlines\n<e>\nbelow\n"
    assert replace_between(text, "<b>", "<e>", "new") == "above\n<b>\nnew\n<e>\nbelow\n"
    assert replace_between(replace_between(text, "<b>", "<e>", "new"), "<b>", "<e>", "old\nlines") == text


@pytest.mark.parametrize("text", ["above\n<e>\n", "<b>\nno end", "<b>\n<b>\n<e>\n"])
def test_replace_between_other_than_one_pair_of_marks_raises(text: str) -> None:
    with pytest.raises(ValueError, match="values to unpack"):
        replace_between(text, "<b>", "<e>", "new")


def test_write_text_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    with pytest.raises(OSError, match="Errno 28") as caught:
        write_half(path, OSError(28, "No space left on device"))
    assert caught.value.filename == str(path)


def test_write_text_folders_made_for_a_file_that_fails_are_removed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "a" / "b" / "report.txt", RuntimeError("disk full"))
    assert list_names(tmp_path) == []
    (tmp_path / "a").mkdir()
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "a" / "b" / "report.txt", RuntimeError("disk full"))
    assert list_names(tmp_path) == ["a"]


def test_write_atomically_error_while_cleaning_up_does_not_hide_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(RuntimeError, match="disk full"):
        write_half(tmp_path / "report.txt", RuntimeError("disk full"))


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_write_text_device_is_written_into_and_never_replaced(device: str) -> None:
    before = os.lstat(device)
    if device == "/dev/full":
        with pytest.raises(OSError, match="Errno 28") as caught:
            write_text(Path(device), "content")
        assert caught.value.filename == device
    else:
        write_text(Path(device), "content")
    after = os.lstat(device)
    assert (after.st_mode, after.st_ino, after.st_rdev) == (before.st_mode, before.st_ino, before.st_rdev)
    assert not [path for path in Path("/dev").iterdir() if path.name.startswith(PARTIAL_PREFIX)]


def test_write_text_link_to_a_device_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    write_text(tmp_path / "null", "content")
    assert (tmp_path / "null").is_symlink()


def test_write_text_pipe_gets_the_content_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_text(pipe, "content" * 20_000)
    reader.join(10)
    assert got == [b"content" * 20_000]
    assert pipe.is_fifo()
    assert list_names(tmp_path) == ["pipe"]


def test_write_text_pipe_that_nothing_reads_is_an_error_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_pipeline.files._READER_WAIT_S", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="Errno") as caught:
        write_text(pipe, "content")
    assert (caught.value.errno, caught.value.filename) == (errno.ENXIO, str(pipe))
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("kind", "number"),
    [("folder", errno.EISDIR), ("loop", errno.ELOOP), ("below a file", errno.ENOTDIR), ("far below", errno.ENOTDIR)],
)
def test_require_place_refuses_before_the_work(tmp_path: Path, kind: str, number: int) -> None:
    path = tmp_path / "out"
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to("out")
    else:
        path.write_text("old")
        path = path / "a.json" if kind == "below a file" else path / "a" / "b" / "c.json"
    with pytest.raises(OSError, match="Errno") as caught:
        require_place(path)
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert list_names(tmp_path) == ["out"]


def test_require_place_leaves_what_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("old")
    for path in (tmp_path / "there.json", tmp_path / "a" / "b.json", Path("/dev/null")):
        require_place(path)
    assert list_names(tmp_path) == ["there.json"]


@pytest.mark.parametrize(
    ("kind", "number"), [("folder", errno.EISDIR), ("loop", errno.ELOOP), ("below a file", errno.ENOTDIR)]
)
def test_write_text_what_is_no_place_for_a_file_is_refused_and_stays(tmp_path: Path, kind: str, number: int) -> None:
    path = tmp_path / "out"
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to("out")
    else:
        path.write_text("old")
    with pytest.raises(OSError, match="Errno") as caught:
        write_text(path / "report.txt" if kind == "below a file" else path, "new")
    assert caught.value.errno in (number, errno.EEXIST)
    assert list_names(tmp_path) == ["out"]


def test_write_together_all_files_appear_at_the_end_or_none_does(tmp_path: Path) -> None:
    first, second = tmp_path / "metrics.csv", tmp_path / "a" / "summary.json"
    first.write_text("old")

    def write_both(error: BaseException | None) -> None:
        with write_together():
            write_text(first, "new")
            write_json(second, {"n": 3})
            write_json(second.with_name("notes.json"), [])
            assert (first.read_text(), second.exists()) == ("old", False)
            if error is not None:
                raise error

    with pytest.raises(KeyboardInterrupt):
        write_both(KeyboardInterrupt())
    assert (first.read_text(), list_names(tmp_path)) == ("old", ["metrics.csv"])
    write_both(None)
    assert (first.read_text(), second.read_text()) == ("new", '{\n  "n": 3\n}\n')
    assert (list_names(tmp_path), list_names(tmp_path / "a")) == (["a", "metrics.csv"], ["notes.json", "summary.json"])


def test_write_together_inside_of_another_waits_for_the_outer_one(tmp_path: Path) -> None:
    with write_together():
        with write_together():
            write_text(tmp_path / "a.txt", "a")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "a"


def test_stage_folder_is_gone_afterwards_with_the_folder_made_for_it(tmp_path: Path) -> None:
    def fail() -> None:
        with stage_folder(tmp_path / "out") as staging:
            (staging / "half").write_text("x")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        fail()
    assert list_names(tmp_path) == []
    with stage_folder(tmp_path / "out") as staging:
        (staging / "whole").write_text("x")
        (staging / "whole").rename(tmp_path / "out" / "whole")
    assert list_names(tmp_path / "out") == ["whole"]


def test_write_json_name_with_bytes_that_are_no_utf8_is_escaped_and_comes_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"p\xff.png")
    write_json(tmp_path / "list.json", [name, "Größe"])
    assert json.loads((tmp_path / "list.json").read_text(encoding="ascii")) == [name, "Größe"]


@pytest.mark.parametrize("name", ["a" * 248 + ".nii.gz", "\u00fc" * 124 + ".nii.gz"])
def test_write_atomically_longest_name_that_a_file_may_have(tmp_path: Path, name: str) -> None:
    with write_atomically(tmp_path / name) as partial:
        assert partial.name.endswith(".nii.gz")
        assert partial.name.startswith(PARTIAL_PREFIX)
        assert len(os.fsencode(partial.name)) <= 255
        partial.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_compute_sha256_of_a_pipe_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a device or a pipe"):
        compute_sha256(tmp_path / "pipe")
