"""The cache never holds more than its bound, and never an old content under a new name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unet_pipeline.locks import InUseError
from unet_pipeline.remote.cache import FOLDER_VARIABLE, SIZE_VARIABLE, Cache, open_cache
from unet_pipeline.remote.store import Store, StoredObject
from unet_pipeline.remote.urls import RemoteUrl, StoreError

PREFIX = RemoteUrl("memory", "cache-tests")


@pytest.fixture
def store() -> Iterator[Store]:
    pytest.importorskip("fsspec")
    store = Store("memory")
    yield store
    store.files.rm("/cache-tests", recursive=True)


def put(store: Store, name: str, content: bytes) -> StoredObject:
    store.write(PREFIX / name, content)
    return store.list_below(PREFIX / name)[0]


def count_bytes(cache: Cache) -> int:
    return sum(path.stat().st_size for path in (cache.root / "objects").iterdir())


def test_provide_fetches_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, item = Cache(tmp_path / "cache", 100, stays=True), put(store, "a", b"content")
    cache.provide(store, item, tmp_path / "one")
    monkeypatch.setattr(store, "fetch", lambda *_: pytest.fail("fetched again"))
    cache.provide(store, item, tmp_path / "two")
    Cache(tmp_path / "cache", 100, stays=True).provide(store, item, tmp_path / "three")  # another run
    assert {(tmp_path / name).read_bytes() for name in ("one", "two", "three")} == {b"content"}


def test_provide_changed_object_is_fetched_anew(store: Store, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 100, stays=True)
    for content in (b"first", b"other"):
        cache.provide(store, put(store, "a", content), tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == content


def test_provide_drops_what_was_not_read_for_longest(store: Store, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 100, stays=True)
    items = {name: put(store, name, name.encode() * 40) for name in "abc"}
    for name in ("a", "b", "a", "c"):
        cache.provide(store, items[name], tmp_path / "target")
        assert count_bytes(cache) == cache.num_bytes <= 100
    kept = {path.read_bytes()[:1] for path in (cache.root / "objects").iterdir()}
    assert kept == {b"a", b"c"}
    assert (tmp_path / "target").read_bytes() == b"c" * 40


def test_provide_what_is_in_use_stays(store: Store, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 100, stays=True)
    for name in "ab":
        cache.provide(store, put(store, name, name.encode() * 40), tmp_path / name)
    with pytest.raises(
        StoreError, match=r"memory://cache-tests/c has .* GiB and does not fit into the cache of .* GiB"
    ):
        cache.provide(store, put(store, "c", b"c" * 40), tmp_path / "c")
    (tmp_path / "a").unlink()
    cache.provide(store, put(store, "c", b"c" * 40), tmp_path / "c")
    assert (tmp_path / "b").read_bytes() == b"b" * 40
    assert count_bytes(cache) == 80


def test_provide_larger_than_the_bound(store: Store, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 100, stays=True)
    with pytest.raises(StoreError, match=f"Set {SIZE_VARIABLE} to more, and {FOLDER_VARIABLE}"):
        cache.provide(store, put(store, "large", bytes(101)), tmp_path / "large")
    assert count_bytes(cache) == cache.num_bytes == 0
    assert not (tmp_path / "large").exists()


@pytest.mark.parametrize("error", [StoreError("cut"), OSError("full"), KeyboardInterrupt()])
def test_provide_that_fails_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    cache, item = Cache(tmp_path / "cache", 100, stays=True), put(store, "a", bytes(60))

    def cut(url: RemoteUrl, target: Path) -> None:
        target.write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(store, "fetch", cut)
        with pytest.raises(type(error)):
            cache.provide(store, item, tmp_path / "a")
    assert count_bytes(cache) == cache.num_bytes == 0
    assert not (tmp_path / "a").exists()
    cache.provide(store, item, tmp_path / "a")
    assert (tmp_path / "a").stat().st_size == 60


def test_provide_shorter_than_listed(store: Store, tmp_path: Path) -> None:
    item = put(store, "a", bytes(60))
    store.write(PREFIX / "a", bytes(50))
    with pytest.raises(StoreError, match="has 50 bytes, and had 60 when the store was listed"):
        Cache(tmp_path / "cache", 100, stays=True).provide(store, item, tmp_path / "a")


def test_open_cache_removed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv(SIZE_VARIABLE, "0.5")
    with open_cache() as cache:
        assert cache.root.is_dir()
        assert cache.limit_bytes == 2**29
        assert cache.describe().endswith(f"at most 0.5 GiB (removed at the end; set {FOLDER_VARIABLE} to keep it)")
    assert not cache.root.exists()


def test_open_cache_that_stays_is_one_process_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept"))
    monkeypatch.delenv(SIZE_VARIABLE, raising=False)
    with open_cache() as cache:
        assert "kept of at most 8 GiB (stays)" in cache.describe()
    assert cache.root == tmp_path / "kept"
    with FileLock(tmp_path / "kept" / ".cache.lock"), pytest.raises(InUseError, match="The cache kept"), open_cache():
        pass


@pytest.mark.parametrize("size", ["much", "0", "-1", "nan", "inf"])
def test_open_cache_no_size(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv(SIZE_VARIABLE, size)
    with (
        pytest.raises(StoreError, match=f"{SIZE_VARIABLE} is '{size}'; expected a number of GiB above 0"),
        open_cache(),
    ):
        pass
