"""Inference configs of external bundles: read in any plain encoding, and each part that cannot be built has its sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError
from unet_pipeline.prediction.external_config import build_part, build_part_device, read_external_config, require_part

CONTENT = {"device": "cpu", "name": "\u00e4"}


@pytest.fixture
def folder(tmp_path: Path) -> BundleFolder:
    (tmp_path / "zoo" / "configs").mkdir(parents=True)
    (tmp_path / "zoo" / "configs" / "metadata.json").write_text('{"required_packages_version": {"einops": "0.7"}}')
    return BundleFolder(tmp_path / "zoo")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_read_external_config_any_plain_encoding(folder: BundleFolder, encoding: str, suffix: str) -> None:
    path = folder.configs / f"inference{suffix}"
    path.write_text(json.dumps(CONTENT, ensure_ascii=False), encoding=encoding)
    assert read_external_config(path, folder) == CONTENT


NO_TABLES = ["[1, 2]", "null", '"text"', "3", '{"a": ', ""]


# the parser of YAML takes seconds for 100,000 brackets, and the audit refuses such a file first
@pytest.mark.parametrize(
    ("text", "suffix"),
    [(text, suffix) for text in NO_TABLES for suffix in (".json", ".yaml")] + [("[" * 100000, ".json")],
)
def test_read_external_config_that_is_no_table_is_named(folder: BundleFolder, text: str, suffix: str) -> None:
    path = folder.configs / f"inference{suffix}"
    path.write_text(text)
    with pytest.raises(BundleError, match=f"configs/inference{suffix} of zoo .*Get the bundle again") as caught:
        read_external_config(path, folder)
    assert str(folder.root) not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("@nothing", "the referring item `@nothing` is not defined in the config content. Correct the config"),
        ("$1 / 0", "division by zero. Correct the config"),
        (
            {"_target_": "NoSuchNetwork"},
            "'NoSuchNetwork'. Install the packages that its metadata.json names (einops 0.7)",
        ),
        ({"_target_": "UNet", "foo": 1}, "unexpected keyword argument 'foo'. Correct the config"),
        ("$exit(3)", "3. Correct the config"),
    ],
)
def test_build_part_says_why_it_cannot_and_what_helps(folder: BundleFolder, part: Any, words: str) -> None:
    with pytest.raises(BundleError) as caught:
        build_part(ConfigParser({"network": part}), folder, "network")
    assert str(caught.value).startswith("'network' of the inference config of zoo cannot be built: ")
    assert words in str(caught.value)


def test_build_part_missing_id_lists_what_is_expected(folder: BundleFolder) -> None:
    with pytest.raises(BundleError, match="has no id 'inferer'; expected device, network or network_def"):
        build_part(ConfigParser({"network": 1}), folder, "inferer")


@pytest.mark.parametrize("part", [None, "x", [1]])
def test_require_part_of_another_kind_is_named(folder: BundleFolder, part: Any) -> None:
    assert require_part(1, int, "n", "a number", folder) == 1
    with pytest.raises(
        BundleError, match=f"'inferer' of the inference config of zoo is {type(part).__name__}; expected"
    ):
        require_part(part, int, "inferer", "something to call", folder)


@pytest.mark.parametrize("device", ["quantum:0", "$[1]"])
def test_build_part_device_that_is_none_points_to_the_option(folder: BundleFolder, device: str) -> None:
    assert build_part_device(ConfigParser({}), folder).type == "cpu"
    assert build_part_device(ConfigParser({"device": "$torch.device('cpu')"}), folder).type == "cpu"
    with pytest.raises(BundleError, match=r"cannot be used here. Choose another with --device"):
        build_part_device(ConfigParser({"device": device}), folder)
