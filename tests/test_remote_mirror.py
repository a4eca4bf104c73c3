"""A folder of names that stands for a prefix: the images of a store are those that the folder would have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from unet_pipeline.prediction.inputs import PredictionInput, list_inputs
from unet_pipeline.prediction.passed_over import list_passed_over
from unet_pipeline.remote.cache import Cache
from unet_pipeline.remote.mirror import Mirror, iterate_portions, mirror
from unet_pipeline.remote.store import Store
from unet_pipeline.remote.urls import RemoteUrl, StoreError

from .dicom_phantoms import write_series

URL = RemoteUrl("memory", "mirror-tests/data")


@pytest.fixture
def store() -> Iterator[Store]:
    pytest.importorskip("fsspec")
    store = Store("memory")
    yield store
    store.files.rm("/mirror-tests", recursive=True)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 1 << 30, stays=False)


def put_folder(store: Store, folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.write(URL / path.relative_to(folder).as_posix(), path.read_bytes())


def as_names(inputs: list[PredictionInput], root: Path) -> list[tuple[str, list[str]]]:
    return [(source.name, [path.relative_to(root).as_posix() for path in source.files]) for source in inputs]


def build(kind: str, folder: Path, write_nifti: Callable[..., Path]) -> tuple[int, tuple[str, ...]]:
    """A folder of images of a kind; channels that the network has."""
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    if kind == "channels":
        for case in ("a", "b"):
            for channel in range(2):
                write_nifti(folder / f"{case}_{channel:04d}.nii.gz", array + channel)
        return 2, ("t1", "t2")
    if kind == "case folders":
        for case in ("p1", "p2"):
            for channel in ("t1", "t2"):
                write_nifti(folder / case / f"{channel}.nii.gz", array)
        return 2, ("t1", "t2")
    if kind == "header and voxels":
        import SimpleITK

        folder.mkdir()
        for case in ("a", "b"):
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(folder / f"{case}.mhd"))
        return 1, ()
    if kind == "series":
        for number, case in enumerate(("p1/ct", "p2/ct")):
            write_series(folder / case, array + number)
        (folder / "p1" / "notes.txt").write_text("nothing")
        return 1, ()
    for case in ("a", "b"):
        write_nifti(folder / f"{case}.nii.gz", array)
    (folder / "left_out.xyz").write_text("nothing")
    write_nifti(folder / "deeper" / "c.nii.gz", array)
    return 1, ()


@pytest.mark.parametrize("kind", ["files", "channels", "case folders", "header and voxels", "series"])
def test_mirror_has_the_images_of_the_folder(
    store: Store, cache: Cache, tmp_path: Path, write_nifti: Callable[..., Path], kind: str
) -> None:
    channels = build(kind, tmp_path / "data", write_nifti)
    put_folder(store, tmp_path / "data")
    local = list_inputs(tmp_path / "data", *channels)
    with mirror(URL, cache) as made:
        inputs = list_inputs(made.source, *channels)
        assert as_names(inputs, made.root) == as_names(local, tmp_path / "data")
        assert len(inputs) == 2
        assert list_passed_over(made.source, inputs) == list_passed_over(tmp_path / "data", local)
        with closing(iterate_portions(made, inputs, lambda source: source.files)) as portions:
            read = [np.asarray(source.read().array) for portion in portions for source in portion.items]
        np.testing.assert_array_equal(read, [source.read().array for source in local])
        assert not any(file.stat().st_size for source in inputs for file in source.files if file.is_file())
    assert not made.root.exists()


def test_mirror_of_one_object_has_what_belongs_to_it(store: Store, cache: Cache) -> None:
    for name in ("a.mhd", "a.raw", "b.mhd", "b.raw", "deeper/a.raw"):
        store.write(URL / name, b"x")
    with mirror(URL / "a.mhd", cache) as made:
        assert made.source == made.root / "a.mhd"
        assert made.root.name == "data"
        assert sorted(path.name for path in made.root.iterdir()) == ["a.mhd", "a.raw"]


def test_mirror_of_a_list_has_all_beside_it(store: Store, cache: Cache) -> None:
    for name in ("cases.csv", "images/a.png"):
        store.write(URL / name, b"x")
    with mirror(URL / "cases.csv", cache) as made:
        assert (made.root / "images" / "a.png").is_file()


def test_mirror_of_nothing(store: Store, cache: Cache) -> None:
    store.write(URL, b"x")
    with (
        pytest.raises(StoreError, match="memory://mirror-tests/nothing has no object"),
        mirror(URL.parent / "nothing", cache),
    ):
        pass


def fill(store: Store, sizes: list[int]) -> None:
    for number, size in enumerate(sizes):
        store.write(URL / f"{number}.png", bytes(size))


def walk(made: Mirror) -> Iterator[tuple[list[str], dict[str, str], int]]:
    """Names in each portion and failures, with the bytes in the cache while it is there; all files are whole."""
    files = sorted(made.objects)
    with closing(iterate_portions(made, files, lambda path: [path])) as portions:
        for portion in portions:
            assert [path.stat().st_size for path in portion.items] == [
                made.objects[path].num_bytes for path in portion.items
            ]
            yield (
                [path.stem for path in portion.items],
                {path.stem: str(error) for path, error in portion.failures.items()},
                made.cache.num_bytes,
            )


def test_iterate_portions_stay_below_the_bound(store: Store, tmp_path: Path) -> None:
    fill(store, [40, 40, 90, 30, 30, 101, 10])
    with mirror(URL, Cache(tmp_path, 100, stays=False)) as made:
        portions = list(walk(made))
    assert [names for names, _, _ in portions if names] == [["0"], ["1"], ["2"], ["3"], ["4"], ["6"]]
    assert max(num_bytes for _, _, num_bytes in portions) <= 100
    failures = {name: text for _, failed, _ in portions for name, text in failed.items()}
    assert list(failures) == ["5"]
    assert "does not fit into the cache" in failures["5"]


def test_iterate_portions_grow(store: Store, cache: Cache) -> None:
    fill(store, [1] * 30)
    with mirror(URL, cache) as made:
        assert [len(names) for names, _, _ in walk(made)] == [4, 8, 16, 2]


def test_iterate_portions_reads_ahead(store: Store, cache: Cache) -> None:
    fill(store, [1] * 12)
    with mirror(URL, cache) as made:
        portions = iterate_portions(made, sorted(made.objects), lambda path: [path])
        with closing(portions):
            next(portions)
            for _ in range(500):
                if cache.num_bytes == 12:
                    break
                __import__("time").sleep(0.01)
            assert cache.num_bytes == 12


def test_iterate_portions_one_that_fails_does_not_stop_the_others(
    store: Store, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, [1] * 6)
    fetch = store.fetch

    def fail(url: RemoteUrl, target: Path) -> None:
        if url.name == "1.png":
            raise StoreError(f"{url} cannot be read")
        fetch(url, target)

    with mirror(URL, cache) as made:
        monkeypatch.setattr(made.store, "fetch", fail)
        portions = list(walk(made))
    assert [names for names, _, _ in portions] == [["0", "2", "3"], ["4", "5"]]
    assert portions[0][1] == {"1": "memory://mirror-tests/data/1.png cannot be read"}


def test_keys_that_lead_out_of_the_folder_are_passed_over(store: Store, cache: Cache) -> None:
    store.write(URL / "a.png", b"x")
    objects = store.list_below(URL)
    described = store._describe(URL, f"/{URL.path}/../../b.png", {"size": 1})
    assert described.name == "../../b.png"
    assert [item.name for item in objects] == ["a.png"]
    from unet_pipeline.remote.store import _is_plain

    assert [_is_plain(name) for name in ("a/b", "a//b", "../b", "a/", ".", "/a", "a\0")] == [True, *[False] * 6]
