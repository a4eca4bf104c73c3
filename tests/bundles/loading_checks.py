"""Stock MONAI's ways to a bundle's network, each with the addresses that a user would give, from a working directory elsewhere.

Run by an interpreter that cannot import this project (stock_environment.py), as `python loading_checks.py FOLDER`; FOLDER/bundles has
the bundles, FOLDER/zips the same as archives. Prints a JSON object: for each bundle each way with the file of the network's class
and the bundle_root that it was built with, or the error.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai import bundle as stock


def describe(network: torch.nn.Module) -> str:
    return inspect.getfile(type(network))


def load(bundles: Path, name: str) -> str:
    network = stock.load(name=name, bundle_dir=str(bundles), workflow_type="inference")
    weights = torch.load(bundles / name / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value, weights[key].to(value.dtype)) for key, value in network.state_dict().items())
    return describe(network)


def load_zip(folder: Path, name: str) -> str:
    unpacked = folder / "unpacked"
    address = (folder / "zips" / f"{name}.zip").as_uri()
    stock.download(name=name, bundle_dir=str(unpacked), url=address, progress=False)
    return load(unpacked, name)


def create_workflow(root: Path) -> str:
    workflow = stock.create_workflow(
        config_file=str(root / "configs" / "inference.json"), workflow_type="inference", logging_file=False
    )
    assert Path(workflow.bundle_root).resolve() == root.resolve()
    assert Path(workflow.parser.get_parsed_content("weights_path")).is_file()
    return describe(workflow.network_def)


def list_ways(folder: Path, name: str) -> dict[str, Callable[[], Any]]:
    root = folder / "bundles" / name
    of_network = {
        "net_id": "network_def",
        "config_file": str(root / "configs" / "inference.json"),
        "meta_file": str(root / "configs" / "metadata.json"),
    }
    of_export = {**of_network, "ckpt_file": str(root / "models" / "model.pt"), "use_trace": True}
    return {
        "load": lambda: load(folder / "bundles", name),
        "load of a zip": lambda: load_zip(folder, name),
        "create_workflow": lambda: create_workflow(root),
        "verify_net_in_out": lambda: stock.verify_net_in_out(**of_network, device="cpu"),
        "ckpt_export": lambda: stock.ckpt_export(**of_export, filepath=str(folder / f"{name}.ts")),
        "onnx_export": lambda: stock.onnx_export(
            **of_export, filepath=str(folder / f"{name}.onnx"), converter_kwargs={"dynamo": False}
        ),
    }


def attempt(way: Callable[[], Any]) -> str:
    try:
        return way() or "passed"
    except Exception:
        return traceback.format_exc()[-1500:]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    place = Path(sys.argv[1])
    with contextlib.redirect_stdout(io.StringIO()):
        names = sorted(path.name for path in (place / "bundles").iterdir())
        found = {name: {way: attempt(call) for way, call in list_ways(place, name).items()} for name in names}
    print(json.dumps(found))
