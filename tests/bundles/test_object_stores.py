"""From bucket to bucket: the same label maps as from folder to folder, resumed, and with a store that fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import store_server

import unet_pipeline
from unet_pipeline.errors import PredictionError
from unet_pipeline.files import compute_sha256
from unet_pipeline.remote.cache import FOLDER_VARIABLE, SIZE_VARIABLE

from .conftest import TrainedBundle

RECORD, TABLE = "predictions_run.json", "predictions.csv"
NUM_IMAGES = 5


@pytest.fixture(scope="module")
def started() -> Iterator[store_server.StoreServer]:
    with store_server.serve_store() as server:
        yield server


class Bucket:
    """A bucket with the images of a bundle's dataset below `in`; what `predict` writes is below `out`."""

    def __init__(self, server: store_server.StoreServer, images: list[Path]) -> None:
        import s3fs

        self.server, self.files = server, s3fs.S3FileSystem(use_listings_cache=False)
        if self.list():
            self.files.rm("bucket/", recursive=True)
            self.files.mkdir("bucket")
        for path in images:
            self.files.put_file(str(path), f"bucket/in/{path.name}")
        server.faults.clear()
        server.requests.clear()

    def list(self, prefix: str = "") -> list[str]:
        return sorted(self.files.find(f"bucket/{prefix}"))

    def hash(self, name: str, folder: Path) -> str:
        self.files.get_file(f"bucket/out/{name}", str(folder / "fetched"))
        return compute_sha256(folder / "fetched")

    def read_record(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.files.cat_file(f"bucket/out/{RECORD}"))
        return content


@pytest.fixture
def images(bundle_3d: TrainedBundle) -> list[Path]:
    return sorted((bundle_3d.dataset / "imagesTr").glob("*.nii.gz"))[:NUM_IMAGES]


@pytest.fixture
def bucket(started: store_server.StoreServer, images: list[Path], monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name in (FOLDER_VARIABLE, SIZE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return Bucket(started, images)


@pytest.fixture
def predict(bundle_3d: TrainedBundle) -> Callable[..., Any]:
    def call(source: str = "s3://bucket/in", out: str = "s3://bucket/out", **keywords: Any) -> Any:
        return unet_pipeline.predict(bundle_3d.root, source, out, "cpu", **keywords)

    return call


def test_predict_whole_way_then_resumed(
    bucket: Bucket, predict: Callable[..., Any], images: list[Path], bundle_3d: TrainedBundle, tmp_path: Path
) -> None:
    local = tmp_path / "in"
    local.mkdir()
    for path in images:
        (local / path.name).write_bytes(path.read_bytes())
    expected = unet_pipeline.predict(bundle_3d.root, local, tmp_path / "out", "cpu")
    lines = list[str]()
    result = predict(announce=lines.append)
    assert lines[0].startswith(f"store    s3://bucket/in: {NUM_IMAGES} object(s), ")
    assert [str(path) for path in result.written] == [f"s3://bucket/out/{path.name}" for path in expected.written]
    assert bucket.list("out") == sorted(
        f"bucket/out/{path.name}" for path in (*expected.written, Path(RECORD), Path(TABLE))
    )
    assert [bucket.hash(path.name, tmp_path) for path in result.written] == list(map(compute_sha256, expected.written))
    record = bucket.read_record()
    assert (record["id"], record["state"], len(record["images"])) == ("out", "finished", NUM_IMAGES)
    assert record["images"].keys() == {path.name.removesuffix(".nii.gz") for path in images}
    assert not any(word in json.dumps(record) for word in ("127.0.0.1", "secret-of-a-test", "unet-pipeline-cache"))

    bucket.server.requests.clear()
    again = predict()
    assert (len(again.written), len(again.kept), dict(again.again)) == (0, NUM_IMAGES, {})
    assert bucket.server.count("GET /bucket/(in|out)/.*nii") == 0  # tags and metadata say it all

    bucket.files.cp_file(f"bucket/in/{images[1].name}", f"bucket/in/{images[0].name}")  # a changed image
    bucket.files.put_file(str(images[0]), f"bucket/out/{images[2].name}")  # a label map that was edited
    bucket.files.rm_file(f"bucket/out/{images[3].name}")
    names = [path.name.removesuffix(".nii.gz") for path in images]
    third = predict()
    assert [path.name for path in third.written] == [images[number].name for number in (0, 2, 3)]
    assert third.again.keys() == {names[0], names[2]}
    assert bucket.hash(images[0].name, tmp_path) == compute_sha256(expected.written[1])
    assert bucket.hash(images[3].name, tmp_path) == compute_sha256(expected.written[3])
    assert bucket.hash(f"replaced/{images[2].name}", tmp_path) == compute_sha256(images[0])


def test_predict_each_line_of_the_record_comes_after_its_upload(
    bucket: Bucket, predict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from unet_pipeline.remote.store import Store

    write, seen = Store.write, list[tuple[int, int]]()

    def watch(self: Store, url: Any, content: bytes) -> None:
        if url.name == RECORD:
            names = [entry["label_map"] for entry in json.loads(content)["images"].values()]
            there = [name for name in names if bucket.files.exists(f"bucket/out/{name}")]
            seen.append((len(names), len(there)))
        write(self, url, content)

    monkeypatch.setattr(Store, "write", watch)
    predict(probabilities=True)
    assert seen
    assert all(num_names == num_there for num_names, num_there in seen)
    assert len(bucket.list("out")) == 2 * NUM_IMAGES + 2  # the record, and the table of it
    assert len(predict(probabilities=True).kept) == NUM_IMAGES


def test_predict_in_a_bounded_cache(
    bucket: Bucket, predict: Callable[..., Any], images: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from unet_pipeline.remote.cache import Cache

    largest = max(path.stat().st_size for path in images)
    monkeypatch.setenv(SIZE_VARIABLE, str(2.5 * largest / 2**30))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept"))
    provide, sizes = Cache.provide, list[int]()

    def watch(self: Cache, *arguments: Any) -> None:
        provide(self, *arguments)
        sizes.append(sum(path.stat().st_size for path in (tmp_path / "kept" / "objects").iterdir()))

    monkeypatch.setattr(Cache, "provide", watch)
    assert len(predict().written) == NUM_IMAGES
    assert len(sizes) == NUM_IMAGES
    assert max(sizes) <= 2.5 * largest
    monkeypatch.setenv(SIZE_VARIABLE, str(0.5 * largest / 2**30))
    with pytest.raises(PredictionError, match=r"(?s)UNET_PIPELINE_CACHE_GIB.*does not fit into the cache of"):
        predict(out="s3://bucket/other")


def test_predict_from_a_store_that_is_slow_for_a_while(
    bucket: Bucket, predict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    type(bucket.files).clear_instance_cache()
    bucket.server.faults += [
        store_server.Fault("GET /bucket/in/", "slow", 2),
        store_server.Fault("PUT /bucket/out/.*nii", "cut", 1),
    ]
    assert len(predict().written) == NUM_IMAGES
    type(bucket.files).clear_instance_cache()


def test_predict_one_image_fails_and_one_result_cannot_be_written(
    bucket: Bucket, predict: Callable[..., Any], images: list[Path]
) -> None:
    predict()
    for path in images:  # all are made anew
        bucket.files.put_file(str(images[0]), f"bucket/in/{path.name}")
    bucket.server.faults += [
        store_server.Fault(f"GET /bucket/in/{images[1].name}", "denied", 1000),
        store_server.Fault(f"PUT /bucket/out/{images[2].name}", "denied", 1000),
    ]
    bucket.files.rm_file(f"bucket/out/{images[1].name}")
    with pytest.raises(PredictionError, match=f"2 of {NUM_IMAGES} images could not be predicted") as caught:
        predict()
    message = str(caught.value)
    assert f"s3://bucket/in/{images[1].name} cannot be read: the store refuses it" in message
    assert f"s3://bucket/out/{images[2].name} cannot be written: the store refuses it" in message
    record = bucket.read_record()
    names = {path.name for path in images} - {images[1].name, images[2].name}
    assert {entry["label_map"] for entry in record["images"].values()} == names
    assert record["state"] == "failed"
    assert bucket.list("out") == sorted(f"bucket/out/{name}" for name in {*names, RECORD, TABLE})
    bucket.server.faults.clear()
    assert len(predict().written) == 2


def test_predict_into_the_prefix_of_the_images(bucket: Bucket, predict: Callable[..., Any]) -> None:
    before = bucket.list()
    with pytest.raises(PredictionError, match=r"s3://bucket/in holds the image .*Choose another prefix"):
        predict(out="s3://bucket/in")
    assert bucket.list() == before


def test_predict_other_forms_of_places(
    bucket: Bucket, predict: Callable[..., Any], images: list[Path], bundle_3d: TrainedBundle, tmp_path: Path
) -> None:
    name = images[0].name
    assert [str(path) for path in predict(f"s3://bucket/in/{name}", "memory://stores/out").written] == [
        f"memory://stores/out/{name}"
    ]
    assert len(predict(f"s3://bucket/in/{name}", "memory://stores/out").kept) == 1
    assert predict(f"s3://bucket/in/{name}", f"file://{tmp_path}/out").written == (tmp_path / "out" / name,)
    assert predict(f"file://{images[0]}", str(tmp_path / "local")).written == (tmp_path / "local" / name,)
    hashes = {compute_sha256(tmp_path / folder / name) for folder in ("out", "local")}
    assert len(hashes) == 1
    forecast = unet_pipeline.forecast(bundle_3d.root, "s3://bucket/in", "memory://stores/out", "cpu")
    assert (len(forecast.kept), len(forecast.cases)) == (1, NUM_IMAGES - 1)


def test_dataset_in_a_store(
    bucket: Bucket, bundle_3d: TrainedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unet_pipeline.remote.urls import StoreError

    for path in sorted(bundle_3d.dataset.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            bucket.files.put_file(str(path), f"bucket/data/{path.relative_to(bundle_3d.dataset).as_posix()}")
    lines = list[str]()
    report = unet_pipeline.check("s3://bucket/data", announce=lines.append)
    assert lines[0].startswith("store    s3://bucket/data: ")
    assert not report.errors
    assert len(report.dataset.cases) == len(unet_pipeline.check(bundle_3d.dataset).dataset.cases)
    with pytest.raises(StoreError, match=f"Set {FOLDER_VARIABLE} to a folder that stays"):
        unet_pipeline.plan("s3://bucket/data", tmp_path / "bundle")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept"))
    planned = unet_pipeline.plan("s3://bucket/data", tmp_path / "bundle", preset="demo", folds=2)
    planned.bundle.require_data()
    result = unet_pipeline.evaluate(
        bundle_3d.copy_to(tmp_path / "copy").root, "s3://bucket/data", device="cpu", out=tmp_path / "result"
    )
    assert result.folder == tmp_path / "result"
