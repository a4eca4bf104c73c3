"""MONAI Label serves bundles over HTTP on the loopback address; its label maps are those of `predict`, in values and geometry."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import phantom_bundles as phantoms
import pytest
import SimpleITK
from PIL import Image as PillowImage

import unet_pipeline

from .conftest import TrainedBundle
from .monai_label_environment import MONAI_VERSIONS, find_monai, find_python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.monai_label,
    pytest.mark.skipif(sys.version_info >= (3, 12), reason="MONAI Label 0.8.5 imports distutils"),
]

START_LIMIT_S = 300  # on a busy machine
OBLIQUE = np.array([[0.0, -1.4, 0.5, 13.0], [0.0, 0.5, 1.87, -41.0], [-1.6, 0.0, 0.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
OBLIQUE[:3, 2] = np.cross(OBLIQUE[:3, 0], OBLIQUE[:3, 1]) / np.linalg.norm(
    OBLIQUE[:3, 1]
)  # ITK takes right angles only
VOLUME, TURNED, PICTURE = "organ.nii.gz", "turned.nii.gz", "cell.png"
MODELS = {VOLUME: "organ_bundle", TURNED: "organ_bundle", PICTURE: "cell_bundle"}


@dataclass(frozen=True)
class Server:
    """A server that runs, and what it serves.

    Attributes:
        address: of its HTTP interface.
        studies: folder of the images.
        expected: folder with what `predict` makes of each.
        models: folder with the bundles.
    """

    address: str
    studies: Path
    expected: Path
    models: Path

    def ask(self, image: str, output: str = "image", **params: str) -> tuple[int, bytes]:
        """Status and body of POST /infer/{model}."""
        query = urllib.parse.urlencode({"image": image.split(".")[0], "output": output})
        body = urllib.parse.urlencode({"params": json.dumps(params)}).encode()
        request = urllib.request.Request(f"{self.address}/infer/{MODELS[image]}?{query}", data=body, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/info/", timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


@contextmanager
def serve(python: Path, monai: Path, app: Path, studies: Path, log: Path) -> Iterator[str]:
    """Start a server, give its address once it answers, and stop it."""
    port = find_free_port()
    names = ",".join(sorted(path.name for path in (app / "model").iterdir()))
    # any source of bundles but the default is asked for those only that are not in the app's folder
    options = ["--host", "127.0.0.1", "--port", str(port), "--conf", "models", names, "--conf", "zoo_source", "ngc"]
    start = ["start_server", "--app", str(app), "--studies", str(studies), *options]
    environment = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(monai),
        "HOME": str(log.parent),  # it keeps sessions there
        "OMP_NUM_THREADS": "1",
    }
    address = f"http://127.0.0.1:{port}"
    with log.open("w") as stream:
        command = [str(python), "-m", "monailabel.main", *start]
        process = subprocess.Popen(command, cwd=log.parent, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + START_LIMIT_S
            while not answers(address):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.5)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    assert not answers(address), "the server is stopped"


@pytest.fixture(scope="module")
def served(
    bundle_3d: TrainedBundle, bundle_2d: TrainedBundle, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Path]:
    """Folders with the app and its bundles, with the images, and with what `predict` makes of them."""
    root = tmp_path_factory.mktemp("monai_label")
    command = [str(find_python()), "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(find_monai(MONAI_VERSIONS[0])), "HOME": str(root)}
    subprocess.run([*command, "--output", str(root / "apps")], check=True, env=environment, capture_output=True)
    studies, models = root / "studies", root / "apps" / "monaibundle" / "model"
    phantoms.write_volume(studies / VOLUME, phantoms.draw_organ(41)[0])
    phantoms.write_volume(studies / TURNED, phantoms.draw_organ(42)[0], OBLIQUE)
    shutil.copyfile(sorted((bundle_2d.dataset / "images").iterdir())[0], studies / PICTURE)
    for bundle in (bundle_3d, bundle_2d):
        shutil.copytree(bundle.root, models / bundle.root.name)
    for name, model in MODELS.items():
        phantoms.silently(unet_pipeline.predict, models / model, studies / name, root / "expected", device="cpu")
    return root / "apps" / "monaibundle", studies, root / "expected"


@pytest.fixture(scope="module", params=MONAI_VERSIONS)
def server(
    request: pytest.FixtureRequest, served: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    app, images, expected = served
    home = tmp_path_factory.mktemp(f"server_{request.param}")
    studies = shutil.copytree(images, home / "studies")  # it writes an index there
    with serve(find_python(), find_monai(request.param), app, studies, home / "server.log") as address:
        yield Server(address, studies, expected, app / "model")


def hash_files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_info_names_the_bundles_and_their_labels(server: Server) -> None:
    with urllib.request.urlopen(f"{server.address}/info/", timeout=60) as answer:
        models = json.load(answer)["models"]
    assert {name: (model["dimension"], model["labels"]) for name, model in models.items()} == {
        "organ_bundle": (3, {"organ": 1, "tumour": 2}),
        "cell_bundle": (2, {"cell": 1}),
    }


@pytest.mark.parametrize("image", [VOLUME, TURNED])
def test_infer_volume_is_the_label_map_of_predict(server: Server, image: str, tmp_path: Path) -> None:
    before = hash_files(server.models)
    status, body = server.ask(image)
    assert status == 200, body[:500]
    (tmp_path / image).write_bytes(body)
    found, expected, source = (nib.load(folder / image) for folder in (tmp_path, server.expected, server.studies))
    assert found.shape == source.shape
    np.testing.assert_allclose(found.affine, source.affine, rtol=0, atol=1e-5)
    values = np.asarray(found.dataobj)
    assert values.dtype == np.uint8
    assert set(np.unique(values)) == {0, 1, 2}
    np.testing.assert_array_equal(values, np.asarray(expected.dataobj))
    assert hash_files(server.models) == before, "the bundles are left as they were"


def test_infer_picture_is_the_label_map_of_predict(server: Server, tmp_path: Path) -> None:
    status, body = server.ask(PICTURE)
    assert status == 200, body[:500]
    (tmp_path / PICTURE).write_bytes(body)
    found, expected = (np.asarray(PillowImage.open(folder / PICTURE)) for folder in (tmp_path, server.expected))
    assert found.shape == phantoms.PICTURE_SIZE[::-1]
    assert set(np.unique(found)) == {0, 255}
    np.testing.assert_array_equal(found, expected)


def test_infer_nrrd_as_slicer_and_ohif_ask_lies_on_the_image(server: Server, tmp_path: Path) -> None:
    status, body = server.ask(TURNED, result_extension=".nrrd", result_dtype="uint8")
    assert status == 200, body[:500]
    (tmp_path / "answer.nrrd").write_bytes(body)
    found = SimpleITK.ReadImage(str(tmp_path / "answer.nrrd"))
    expected = SimpleITK.ReadImage(str(server.expected / TURNED))
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(found, name)(), getattr(expected, name)(), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(found), SimpleITK.GetArrayFromImage(expected))


def test_infer_json_names_the_labels(server: Server) -> None:
    status, body = server.ask(VOLUME, output="json")
    assert status == 200, body[:500]
    assert json.loads(body)["label_names"] == {"organ": 1, "tumour": 2}
