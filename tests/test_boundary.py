"""What the system says about files, in one sentence with file, cause and remedy."""

from __future__ import annotations

import errno
import inspect
import io
import json
import os
import pwd
import sys
import tempfile
from pathlib import Path

import pytest

import unet_pipeline
from unet_pipeline.boundary import (
    describe_failure,
    explain,
    guard,
    guarded,
    let_streams_print,
    list_sentences,
    name_unknown_user,
    show_place,
)
from unet_pipeline.errors import DatasetError, FileContentError, FileError, PipelineError
from unet_pipeline.files import PARTIAL_PREFIX


def refuse(name: str, file: str | None = "out/report.html") -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), file)


def raise_from(error: BaseException, cause: BaseException) -> BaseException:
    """The error as one that was raised from another."""
    error.__cause__ = cause
    return error


def fail_twice(first: BaseException, second: BaseException) -> None:
    """The second error while the first is on its way, as from a `finally`."""
    try:
        raise first
    finally:
        raise second


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "the system gave no more"),
        (MemoryError("Unable to allocate 3.00 TiB for an array"), "Unable to allocate 3.00 TiB for an array"),
        (RuntimeError("CUDA out of memory.\nTried 2 GiB"), "CUDA out of memory. Tried 2 GiB"),
        (ValueError("it failed"), None),
    ],
)
def test_guarded_memory_that_runs_out_is_said(error: Exception, cause: str | None) -> None:
    wanted = rf"There is not enough memory \({cause}\)\. Close other programs" if cause else "it failed"
    with pytest.raises(PipelineError if cause else ValueError, match=wanted), guarded():
        raise error


@pytest.mark.parametrize(("name", "cause", "remedy"), list_sentences(), ids=lambda value: str(value)[:12])
def test_explain_every_error_of_the_system_has_file_cause_and_remedy(name: str, cause: str, remedy: str) -> None:
    explained = explain(refuse(name))
    assert isinstance(explained, FileError)
    assert explained.file in ("out/report.html", "out", ".")
    assert str(explained) == f"{explained.file} {explained.cause}. {explained.remedy}"
    assert explained.remedy.endswith(".")
    assert "{" not in str(explained)
    if name not in ("EACCES", "EPERM"):  # where the folder may be the one
        assert explained.cause == cause.format(system=os.strerror(getattr(errno, name)).rstrip("."))
        assert explained.remedy == remedy


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ENOSPC", "the disk is full"),
        ("EDQUOT", "quota"),
        ("EFBIG", "ulimit -f"),
        ("EROFS", "read-only"),
        ("ELOOP", "leads to itself"),
        ("EISDIR", "is a folder; expected a file"),
        ("ENOTDIR", "no folder"),
        ("ENOMEDIUM", "cannot be read or written"),
    ],
)
def test_explain_known_and_unknown_numbers_say_what_it_is(name: str, words: str) -> None:
    assert words in str(explain(refuse(name)))


def test_explain_error_without_a_file_says_so_much() -> None:
    assert str(explain(refuse("ENOSPC", None))).startswith(
        "A file cannot be written: the disk is full. Free some space"
    )


def test_explain_file_that_cannot_be_made_names_the_folder_that_refuses(tmp_path: Path) -> None:
    explained = explain(refuse("EACCES", str(tmp_path / "a" / "b.json")))
    assert str(explained).startswith(
        f"{'/'.join(tmp_path.parts[-3:])} is a folder in which this user may not make or open"
    )
    (tmp_path / "there.json").touch()
    assert "there.json may not be read or written by this user" in str(
        explain(refuse("EACCES", str(tmp_path / "there.json")))
    )


def test_explain_own_error_below_those_of_libraries_is_the_one() -> None:
    own = DatasetError("case a is damaged. Remove it.")
    assert explain(raise_from(RuntimeError("applying transform"), raise_from(ValueError("x"), own))) is own


def test_explain_full_disk_is_not_hidden_by_what_fails_while_cleaning_up() -> None:
    with pytest.raises(FileError, match=r"^out/map\.nii\.gz cannot be written: the disk is full"), guarded():
        fail_twice(refuse("ENOSPC", "out/map.nii.gz"), refuse("EACCES", "out"))


def test_explain_permission_is_not_hidden_by_a_file_that_is_missing_therefore() -> None:
    with pytest.raises(FileError, match="may not be read or written"), guarded():
        fail_twice(refuse("EACCES", "/"), refuse("ENOENT", "out"))


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail] PytorchStreamWriter failed: No space left on device",
        "SaveImage cannot find a suitable writer: OSError: [Errno 28] No space left",
    ],
)
def test_explain_full_disk_in_the_words_of_a_library(text: str) -> None:
    assert "the disk is full" in str(explain(RuntimeError(text)))


def test_explain_link_that_leads_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(FileError, match="is a symbolic link that leads to itself"), guarded():
        (tmp_path / "a").read_bytes()
    with pytest.raises(FileError, match=f"^{'/'.join((tmp_path / 'a').parts[-3:])} is a symbolic link"), guarded():
        (tmp_path / "a").resolve(strict=True)
    for path in (tmp_path / "it's", tmp_path / "a\nb"):  # as pathlib quotes them
        assert path.name.replace("\n", "") in str(explain(RuntimeError(f"Symlink loop from {str(path)!r}"))).replace(
            "\n", ""
        )
    assert str(explain(RuntimeError("Symlink loop"))).startswith("A path is a symbolic link that leads to itself")


def test_explain_no_folder_for_temporary_files() -> None:
    error = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']")
    assert str(explain(error)).startswith(
        "No folder for temporary files can be written. Free some space, or set TMPDIR"
    )


def test_explain_temporary_file_of_python_points_to_tmpdir() -> None:
    place = Path(tempfile.gettempdir()) / "tmpab12_3yz" / "result.npy"
    assert "set TMPDIR" in str(explain(refuse("ENOSPC", str(place)))) or "Set TMPDIR" in str(
        explain(refuse("ENOSPC", str(place)))
    )


@pytest.mark.parametrize("error", [ValueError("a"), RuntimeError("b"), KeyError("c"), TypeError("d")])
def test_explain_defects_stay_what_they_are(error: Exception) -> None:
    assert explain(error) is None
    with pytest.raises(type(error)) as caught, guarded():
        raise error
    assert caught.value is error


def test_guarded_damaged_text_and_depth_are_explained() -> None:
    with pytest.raises(FileContentError, match="is damaged or not in UTF-8"), guarded():
        b"\xff".decode("utf-8")
    with pytest.raises(FileContentError, match="not valid JSON"), guarded():
        json.loads("{")
    with pytest.raises(FileContentError, match="nested too deeply"), guarded():
        json.loads("[" * 100_000)
    with pytest.raises(FileError, match=r"cannot be written as ascii: 'Ö'"), guarded():
        "Ö".encode("ascii")


def test_guarded_keeps_the_cause_for_debugging() -> None:
    error = refuse("ENOSPC")
    with pytest.raises(FileError) as caught, guarded():
        raise error
    assert caught.value.__cause__ is error


def test_guard_keeps_name_signature_and_identity() -> None:
    def work(path: Path, depth: int = 3) -> None:
        """Works."""
        raise refuse("EROFS", str(path))

    assert guard(work) is guard(work)
    assert (guard(work).__name__, guard(work).__doc__) == ("work", "Works.")
    assert inspect.signature(guard(work)) == inspect.signature(work)
    with pytest.raises(FileError, match="read-only"):
        guard(work)(Path("a"))


@pytest.mark.parametrize("name", [name for names in unet_pipeline.VERBS.values() for name in names if name != "draw"])
def test_every_function_of_the_package_runs_inside_of_the_boundary(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function = getattr(unet_pipeline, name)
    assert getattr(unet_pipeline, name) is function
    if name in unet_pipeline.__all__:
        assert getattr(unet_pipeline, name) is function
    assert function.__wrapped__.__name__ == name


def test_function_of_the_package_gives_one_sentence(tmp_path: Path, nifti_folders: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match=r"file(/found)? (exists already and is no folder|lies below something)"):
        unet_pipeline.check(nifti_folders, out=tmp_path / "file" / "found")


def test_show_place_is_what_the_user_would_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert show_place(tmp_path / "a" / "b.json") == "a/b.json"
    assert show_place("a/b.json") == "a/b.json"
    assert show_place("/srv/data/set/images/p.png") == "set/images/p.png"
    assert show_place("/dev/full") == "/dev/full"
    assert show_place(f"a/{PARTIAL_PREFIX}0a1b2c3d-b.nii.gz") == "a/b.nii.gz"
    assert show_place(f"a/{PARTIAL_PREFIX}x7_k2abc/configs/plan.yaml") == "a"
    assert show_place(b"a/\xff.png") == "a/\\udcff.png"


def test_describe_failure_is_one_line_unless_the_system_refused_a_file() -> None:
    assert describe_failure(ValueError("two\n  lines")) == "two lines"
    assert describe_failure(ValueError()) == "ValueError"
    assert describe_failure(ValueError("x" * 500), 50) == "x" * 50
    with pytest.raises(FileError, match="the disk is full"):
        describe_failure(raise_from(ValueError("x"), refuse("ENOSPC")))


def test_name_unknown_user_gives_a_name_only_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "LNAME", "USERNAME", "USER", "HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    name_unknown_user()
    if os.getuid() in [entry.pw_uid for entry in pwd.getpwall()]:
        assert "USER" not in os.environ
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    name_unknown_user()
    assert os.environ["USER"] == f"user-{os.getuid()}"
    assert Path(os.environ["HOME"]).is_dir()
    monkeypatch.setenv("USER", "ada")
    name_unknown_user()
    assert os.environ["USER"] == "ada"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_let_streams_print_never_fails(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    stream = io.TextIOWrapper(printed, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    let_streams_print()
    print("Ω \udcff é", flush=True)
    monkeypatch.undo()
    expected = {"cp1252": b"\\u03a9 \\udcff \xe9", "ascii": b"\\u03a9 \\udcff \\xe9", "utf-8": "Ω \\udcff é".encode()}
    assert printed.getvalue().rstrip() == expected[encoding]
    stream.detach()
