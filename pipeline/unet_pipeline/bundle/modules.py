"""The networks, and the steps behind them, that MONAI lacks, as modules inside the bundle, so that inference needs no package."""

from __future__ import annotations

import re
import shutil
from importlib import resources

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.planning.plan import Plan

_SOURCE = resources.files("unet_pipeline.networks")
_RELATIVE_IMPORT = re.compile(r"^from \.(\w+) import", re.MULTILINE)


def list_modules(plan: Plan) -> tuple[str, ...]:
    """Modules that the bundle of a plan needs, without their ending: the network's own, and what they import beside them."""
    target = NETWORKS[plan.network_name].prediction
    modules = set() if target.startswith("monai.") else {target.partition(".")[0]}
    modules |= set() if plan.padded else {"overlap_tile"}
    modules |= set() if plan.instance_targets is None else {"instance_maps"}
    modules |= set() if plan.border_threshold is None else {"closed_borders"}
    while beside := {name for module in modules for name in _RELATIVE_IMPORT.findall(_read(module))} - modules:
        modules |= beside
    return tuple(sorted(modules))


def build_modules(plan: Plan) -> dict[str, str]:
    """Text of each module that the bundle of a plan needs, by its name without the ending."""
    return {name: _read(name) for name in list_modules(plan)}


def write_modules(folder: BundleFolder, plan: Plan) -> None:
    """Put the modules into the bundle, and take away those of an earlier plan.

    The folder has no `__init__.py`: Python then joins the folders of several bundles in one process.
    """
    if folder.modules.is_dir():
        shutil.rmtree(folder.modules)
    for name, text in build_modules(plan).items():
        folder.modules.mkdir(exist_ok=True)
        (folder.modules / f"{name}.py").write_text(text, encoding="utf-8")


def _read(module: str) -> str:
    return (_SOURCE / f"{module}.py").read_text(encoding="utf-8")
