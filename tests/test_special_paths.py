"""The way from data to label maps under paths that mean something to MONAI's configs or to a shell."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

import unet_pipeline
from unet_pipeline.audit.audit import audit_bundle
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.config_values import quote_paths
from unet_pipeline.training.run import build_settings, build_stock_command, parse_override

from . import phantom_bundles as phantoms

LABELS = {"background": 0, "cell": 255}
PLACES = ("user@lab.org", "#1 50% of $HOME", "a@#b%#c [x]", "%run", "$__import__('os').abort()")
TINY = {"num_epochs": 1, "iterations_per_epoch": 1}


def write_bundle(place: Path) -> BundleFolder:
    dataset = phantoms.write_pictures(place / "$data #1", num_cases=5)
    for number, name in enumerate(("p@1", "p#2", "$p 3", "%p4", "p(5)'s")):
        for side in ("images", "labels"):
            (dataset / side / f"cell_{number:02d}.png").rename(dataset / side / f"{name}.png")
    return BundleFolder(phantoms.plan_small(dataset, place / "#b", labels=LABELS, **phantoms.SMALL_2D))


@pytest.mark.parametrize("place", PLACES)
def test_every_verb_takes_the_path_as_it_is(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_bundle(Path(place))
    assert audit_bundle(folder.root).passed
    phantoms.silently(unet_pipeline.train, folder.root, overrides=TINY)
    phantoms.silently(unet_pipeline.predict, folder.root, Path(place) / "$data #1" / "images", Path(place) / "%out")
    names = [path.name for path in phantoms.list_label_maps(Path(place) / "%out")]
    assert names == sorted(["p@1.png", "p#2.png", "$p 3.png", "%p4.png", "p(5)'s.png"])
    found = phantoms.silently(unet_pipeline.evaluate, folder.root)
    assert len(set(found.rows["case"])) == 2
    record = json.loads((folder.runs / "fold_0-001" / "run.json").read_text())
    assert record["command"].startswith("cd BUNDLE && python -m monai.bundle run --config_file configs/train.json ")
    assert record["overrides"]["weights_path"] == "BUNDLE/models/model_fold_0.pt"
    assert str(tmp_path) not in json.dumps(record)


def test_printed_stock_command_runs_in_a_shell_as_it_stands(tmp_path: Path, warm_python: Path) -> None:
    """Of the whole way the shell is new here; tests/bundles/test_stock_monai.py has a process with all that MONAI can find."""
    folder = write_bundle(tmp_path / "#1 50% of $HOME `x` it's")
    elsewhere = tmp_path / "[a] @#$(touch danger)"
    (tmp_path / "#1 50% of $HOME `x` it's" / "$data #1").rename(elsewhere)
    overrides = {**TINY, "dataset_dir": str(elsewhere)}
    run_dir = folder.runs / "fold_0-001"
    command = build_stock_command(folder, build_settings(folder, 0, run_dir, False, overrides))
    subprocess.run(
        ["bash", "-c", command.replace("python -m", f"{warm_python} -m")],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert folder.fold_weights(0).is_file()
    assert not list(tmp_path.rglob("danger"))


def test_parse_override_a_path_stays_text() -> None:
    assert parse_override("dataset_dir=2024") == ("dataset_dir", "2024")
    assert parse_override("dataset_dir=['a']") == ("dataset_dir", "['a']")
    assert parse_override("initial_weights=null") == ("initial_weights", None)
    assert parse_override("num_epochs=2024") == ("num_epochs", 2024)


def test_stock_inference_finds_the_images_of_a_folder_with_brackets(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "plain")
    images = tmp_path / "#1 [a] $x?*" / "images"
    shutil.copytree(tmp_path / "plain" / "$data #1" / "images", images)
    parser = ConfigParser()
    parser.read_config(str(folder.config("inference")))
    parser.update(quote_paths({"bundle_root": folder.root, "dataset_dir": images}))
    assert parser.get_parsed_content("image_files") == sorted(map(str, images.iterdir()))
