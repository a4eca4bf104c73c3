"""URLs are told from paths, and none with a secret gets into a record or a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unet_pipeline.remote.urls import RemoteUrl, StoreError, is_url, parse_place, require_local


@pytest.mark.parametrize(
    ("text", "scheme", "path"),
    [
        ("s3://bucket/a/b.nii.gz", "s3", "bucket/a/b.nii.gz"),
        ("S3://bucket/a/", "s3", "bucket/a"),
        ("gs://bucket", "gs", "bucket"),
        ("az://container@account/x", "az", "container@account/x"),
        ("memory://a/b", "memory", "a/b"),
        ("s3://bucket/a@b/what?.png", "s3", "bucket/a@b/what?.png"),
    ],
)
def test_parse_place_url(text: str, scheme: str, path: str) -> None:
    assert parse_place(text) == RemoteUrl(scheme, path)
    assert parse_place(Path(text)) == RemoteUrl(scheme, path)  # which has one slash
    assert str(parse_place(text)) == f"{scheme}://{path}"


@pytest.mark.parametrize("text", ["/data/in", "in", "C:/data", "c:\\data", "a:b", ".", "file:///data/in"])
def test_parse_place_local(text: str) -> None:
    assert parse_place(text) == Path(text.removeprefix("file://"))


def test_parse_place_folder_of_an_odd_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)
    assert not is_url("s3://bucket")
    assert parse_place(Path("s3://bucket")) == Path("s3:/bucket")


@pytest.mark.parametrize(
    "text",
    [
        "s3://user:hunter2@bucket/a",
        "s3://hunter2@bucket/a",
        "gs://hunter2@bucket/a",
        "az://user:hunter2@container/a",
        "s3://bucket/a.nii.gz?X-Amz-Signature=hunter2",
        "az://container/a?sv=2024&sig=hunter2",
        "ftp:/" + "/user:hunter2@bucket/a",
    ],
)
def test_parse_place_secrets_are_refused_and_not_shown(text: str) -> None:
    for place in (text, Path(text)):
        with pytest.raises(StoreError, match=r"expected (none|bucket and key alone)") as caught:
            parse_place(place)
        assert "hunter2" not in str(caught.value)
        assert "user" not in str(caught.value).replace("a user or", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "https://example.org/a",
            "https:// is no store that is known; expected s3://, gs://, az://, memory://, file://",
        ),
        ("simplecache::s3://bucket/a", "is no store that is known"),
        ("s3://", "s3:// names no bucket"),
    ],
)
def test_parse_place_no_store(text: str, words: str) -> None:
    with pytest.raises(StoreError, match=words.replace("?", r"\?")):
        parse_place(text)


def test_require_local() -> None:
    for place in (None, 3, "KEY=s3://bucket/a", "folder", Path("/folder"), "https://example.org"):
        require_local(place, "--out")
    with pytest.raises(StoreError, match="--out is a s3:// URL; expected a local file or folder"):
        require_local(Path("s3://bucket/secret"), "--out")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "s3://bucket/bundle"],
        ["check", "data", "--out", "s3://bucket/out"],
        ["check", "data", "--json", "s3://bucket/x.json"],
        ["plan", "data", "gs://bucket/bundle"],
        ["evaluate", "bundle", "--out", "az://bucket/x"],
        ["report", "s3://bucket/bundle"],
    ],
)
def test_commands_refuse_urls_where_they_make_no_sense(
    call_main: Callable[..., tuple[int, str, str]], tmp_path: Path, words: list[str]
) -> None:
    status, out, error = call_main(*words)
    assert (status, out) == (1, "")
    assert "URL; expected a local file or folder" in error
    assert not list(tmp_path.iterdir())
