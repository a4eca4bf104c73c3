"""The networks that MONAI lacks, as modules inside the bundle, so that inference needs nothing of this package."""

from __future__ import annotations

import shutil
from importlib import resources

from pipeline.bundle_folder import BundleFolder
from pipeline.planning.plan import Plan

MODULES = {
    "dynunet": (),
    "resenc": ("blocks", "residual_encoder"),
    "unet2015": ("blocks", "unet"),
    "unet3d2016": ("blocks", "unet"),
    "unetplusplus": ("blocks", "unetplusplus"),
    "attention_unet": ("blocks", "attention_unet"),
}
_SOURCE = resources.files("pipeline.training.networks")


def list_modules(plan: Plan) -> tuple[str, ...]:
    """Modules that the bundle of a plan needs, without their ending."""
    return (*MODULES[plan.network_name], *(() if plan.padded else ("overlap_tile",)))


def write_modules(folder: BundleFolder, plan: Plan) -> None:
    """Put the modules into the bundle, and take away those of an earlier plan.

    The folder has no `__init__.py`: Python then joins the folders of several bundles in one process.
    """
    if folder.modules.is_dir():
        shutil.rmtree(folder.modules)
    for name in list_modules(plan):
        folder.modules.mkdir(exist_ok=True)
        source = (_SOURCE / f"{name}.py").read_text(encoding="utf-8")
        (folder.modules / f"{name}.py").write_text(source, encoding="utf-8")
