"""What the model zoo and its clients ask of a bundle, checked with stock MONAI alone.

Run by an interpreter that cannot import this project (stock_environment.py):
    python stock_checks.py BUNDLES.json
with the arguments of `Checks` for each bundle. Prints a JSON object: for each bundle each check with "passed" or its error.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai import bundle as stock
from monai.utils import BundleProperty, BundlePropertyConfig

WORKFLOWS = {
    "train": ("train", ["train"]),
    "inference": ("inference", ["inference"]),
    "evaluation": ("evaluation", ["train", "evaluate"]),
    "several GPUs": ("train", ["train", "multi_gpu_train"]),
}
ABSOLUTE = re.compile(r"(?<![\w.@:/])(/(home|root|tmp|work|usr|opt|var|mnt|Users)/|[A-Z]:\\)")
TEXTS = {".json", ".yaml", ".conf", ".md", ".txt", ".py", ".csv", ".sha256"}


class Checks:
    """The checks of one bundle; `folder` takes everything that they write."""

    def __init__(self, root: Path, archive: Path, images: Path, folder: Path) -> None:
        self.root, self.archive, self.images, self.folder = root, archive, images, folder
        self.configs = root / "configs"
        self.weights = root / "models" / "model.pt"
        self.metadata = json.loads((self.configs / "metadata.json").read_text())

    def check_package_is_absent(self) -> None:
        assert not [name for name in sys.modules if name.split(".")[0] == "unet_pipeline"]
        try:
            import unet_pipeline  # noqa: F401
        except ModuleNotFoundError:
            return
        raise AssertionError("the package can be imported")

    def check_changelog_ends_with_the_version(self) -> None:
        assert list(self.metadata["changelog"])[-1] == self.metadata["version"]

    def check_workflow_properties(self) -> None:
        """Ids are looked up; those of inference are also built."""
        for name, (workflow_type, configs) in WORKFLOWS.items():
            workflow = self._workflow(workflow_type, configs)
            for key, description in workflow.properties.items():
                needed = description.get(BundleProperty.REQUIRED)
                assert not needed or description[BundlePropertyConfig.ID] in workflow.parser, f"{name} lacks {key}"
                assert workflow._check_optional_id(name=key, property=description), f"{name} refers wrongly to {key}"
            if name == "inference":
                assert workflow.check_properties() == []

    def check_network_input_and_output(self) -> None:
        self._in_root(
            stock.verify_net_in_out,
            net_id="network_def",
            meta_file="configs/metadata.json",
            config_file="configs/inference.json",
            device="cpu",
            n=1,
        )

    def check_strict_weights(self) -> None:
        network = self._workflow("inference", ["inference"]).network_def
        network.load_state_dict(torch.load(self.weights, weights_only=True), strict=True)

    def check_load_from_a_folder(self) -> None:
        os.chdir(self.folder)
        self._compare_with_weights(
            stock.load(name=self.root.name, bundle_dir=str(self.root.parent), workflow_type="inference")
        )

    def check_load_torchscript_with_its_configs(self) -> None:
        os.chdir(self.folder)
        network, metadata, extra = stock.load(
            name=self.root.name,
            bundle_dir=str(self.root.parent),
            model_file="models/model.ts",
            load_ts_module=True,
            config_files=("inference.json",),
        )
        assert metadata == self.metadata
        assert json.loads(extra["inference.json"]) == json.loads((self.configs / "inference.json").read_text())
        self._compare_with_weights(network)

    def check_load_from_a_zip(self) -> None:
        os.chdir(self.folder)
        unpacked = self.folder / "unpacked"
        stock.download(name=self.root.name, bundle_dir=str(unpacked), url=self.archive.as_uri(), progress=False)
        self._compare_with_weights(stock.load(name=self.root.name, bundle_dir=str(unpacked), workflow_type="inference"))

    def check_run_from_the_root_and_from_elsewhere(self) -> None:
        inputs = {"dataset_dir": str(self.images), "workflow_type": "inference"}
        here, there = self.folder / "here", self.folder / "there"
        self._in_root(stock.run, config_file="configs/inference.json", output_dir=str(here), **inputs)
        os.chdir(self.folder)
        config = str(self.configs / "inference.json")
        stock.run(config_file=config, bundle_root=str(self.root), output_dir=str(there), **inputs)
        names = sorted(path.name for path in self.images.iterdir())
        for out in (here, there):
            assert sorted(path.name for path in out.iterdir()) == names, f"{sorted(out.iterdir())} for {names}"
        for name in names:
            assert (here / name).read_bytes() == (there / name).read_bytes(), name

    def check_ckpt_export(self) -> None:
        self._in_root(
            stock.ckpt_export,
            net_id="network_def",
            filepath=str(self.folder / "stock.ts"),
            ckpt_file="models/model.pt",
            meta_file="configs/metadata.json",
            config_file="configs/inference.json",
            use_trace=True,  # MONAI's DynUNet with supervised heads cannot be scripted
        )
        self._compare_with_weights(torch.jit.load(self.folder / "stock.ts"))

    def check_onnx_export(self) -> None:
        import onnx

        self._in_root(
            stock.onnx_export,
            net_id="network_def",
            filepath=str(self.folder / "stock.onnx"),
            ckpt_file="models/model.pt",
            meta_file="configs/metadata.json",
            config_file="configs/inference.json",
            use_trace=True,
            converter_kwargs={"dynamo": False},  # the other exporter needs onnxscript, and takes much longer
        )
        onnx.checker.check_model(str(self.folder / "stock.onnx"))

    def check_training_asks_for_the_package_by_name(self) -> None:
        """By design: training and the evaluation overlay name `unet_pipeline`, and the metadata says so."""
        assert "unet-pipeline" in self.metadata["required_packages_version"]
        for configs in (["train"], ["train", "evaluate"]):
            try:
                self._workflow("train", configs).parser.get_parsed_content("run")
            except Exception:  # MONAI wraps it in errors of its own
                assert "unet_pipeline" in traceback.format_exc()
            else:
                raise AssertionError(f"{configs} runs without the package; the metadata says that it does not")

    def check_no_absolute_path(self) -> None:
        for path in sorted(self.root.rglob("*")):
            if path.suffix in TEXTS and (found := ABSOLUTE.search(path.read_text(encoding="utf-8"))):
                raise AssertionError(f"{path.relative_to(self.root)} has the path {found[0]}")

    def _workflow(self, workflow_type: str, configs: list[str]) -> Any:
        return stock.create_workflow(
            config_file=[str(self.configs / f"{name}.json") for name in configs],
            meta_file=str(self.configs / "metadata.json"),
            logging_file=False,
            workflow_type=workflow_type,
            init_id="none",
            bundle_root=str(self.root),
            dataset_dir=str(self.images),
        )

    def _in_root(self, function: Callable[..., Any], **arguments: Any) -> None:
        """As `cd ROOT && python -m monai.bundle ...` does, which puts the folder on the path of modules."""
        os.chdir(self.root)
        function(**arguments)

    def _compare_with_weights(self, network: torch.nn.Module) -> None:
        expected = torch.load(self.weights, weights_only=True)
        found = network.state_dict()
        assert found.keys() <= expected.keys()
        assert found
        assert all(torch.equal(found[name], expected[name].to(found[name].dtype)) for name in found)

    def hash_files(self) -> dict[str, str]:
        """Every file of the bundle, byte-compiled modules apart."""
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }


def run_checks(checks: Checks) -> dict[str, str]:
    """Every check in the order of the class; the last one compares the bundle's files with those before."""
    sys.path.insert(0, str(checks.root))
    before = checks.hash_files()
    found = {}
    for name in [name for name in vars(Checks) if name.startswith("check_")]:
        try:
            getattr(checks, name)()
            found[name] = "passed"
        except Exception:
            found[name] = traceback.format_exc()[-2000:]
    after = checks.hash_files()
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    found["check_bundle_is_unchanged"] = f"changed: {changed}" if changed else "passed"
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    bundles = json.loads(Path(sys.argv[1]).read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        results = {
            name: run_checks(Checks(**{key: Path(path) for key, path in paths.items()}))
            for name, paths in bundles.items()
        }
    print(json.dumps(results))
