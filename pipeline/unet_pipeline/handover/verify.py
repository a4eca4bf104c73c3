"""Does a bundle do what it says? Each check runs stock MONAI on the bundle's own files, without a network."""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from unet_pipeline.boundary import describe_failure
from unet_pipeline.bundle.configs import find_differences
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.metadata import Metadata
from unet_pipeline.config_values import quote_paths
from unet_pipeline.dataset.formats import PICTURE_SUFFIXES
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.writing import write_image
from unet_pipeline.errors import BundleError, PipelineError
from unet_pipeline.files import write_json
from unet_pipeline.handover.stale_evidence import check_evidence
from unet_pipeline.messages import name_elements
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.prediction.weights import load_weights
from unet_pipeline.text_files import read_json

# name, MONAI's type, configs
WORKFLOWS = (
    ("train", "train", ("train",)),
    ("inference", "inference", ("inference",)),
    ("evaluation", "evaluation", ("train", "evaluate")),
    ("several GPUs", "train", ("train", "multi_gpu_train")),
)
_ABSOLUTE_PATH = re.compile(r"^(/|~|[A-Za-z]:[\\/])")


@dataclass(frozen=True)
class Verification:
    """One passed check and what it saw."""

    check: str
    detail: str


def verify_bundle(folder: BundleFolder) -> tuple[Verification, ...]:
    """Run every check and keep the result as evidence/verification.json.

    Raises:
        BundleError: the first check that fails, with its cause.
    """
    checks: tuple[tuple[str, Callable[[BundleFolder], str]], ...] = (
        ("configs follow the plan", _check_plan),
        ("no absolute path", _check_paths),
        ("evidence", check_evidence),
        ("metadata", _check_metadata),
        ("workflow properties", _check_properties),
        ("network input and output", _check_network),
        ("strict weights", _check_weights),
        ("one prediction", _check_prediction),
    )
    folder.make_modules_importable()
    passed = []
    for name, check in checks:
        try:
            with _quiet():
                passed.append(Verification(name, check(folder)))
        except PipelineError:
            raise
        except Exception as error:  # whatever MONAI raises, the check has failed
            cause = describe_failure(error, 500)
            raise BundleError(f"Bundle {folder.name} fails the check {name!r}: {cause}.") from error
    write_json(folder.verification, [asdict(verification) for verification in passed])
    return tuple(passed)


@contextmanager
def _quiet() -> Iterator[None]:
    """MONAI logs and warns at every parse of a config; here the verdict counts."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def _check_plan(folder: BundleFolder) -> str:
    differences = find_differences(folder, read_plan(folder.plan))
    return f"differs in {', '.join(differences)}" if differences else "no difference"


def _check_paths(folder: BundleFolder) -> str:
    configs = sorted(folder.configs.glob("*.json"))
    for path in configs:
        for key, value in _iterate_strings(read_json(path)):
            if _ABSOLUTE_PATH.match(value):
                raise BundleError(
                    f"configs/{path.name} has an absolute path under {key}: {value}. It exists on one machine only; "
                    "make it relative to @bundle_root."
                )
    return f"{len(configs)} configs"


def _iterate_strings(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, dict | list):
        for part, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _iterate_strings(value, f"{key}#{part}".lstrip("#"))


def _check_metadata(folder: BundleFolder) -> str:
    from monai.bundle import verify_metadata

    with tempfile.TemporaryDirectory() as temporary:
        schema = Path(temporary) / "schema.json"  # present already, so that MONAI does not download it
        schema.write_text(json.dumps(Metadata.model_json_schema(by_alias=True)), encoding="utf-8")
        verify_metadata(meta_file=str(folder.metadata), filepath=str(schema))
    return "has every field of schema 20240725"


def _check_properties(folder: BundleFolder) -> str:
    from monai.bundle import create_workflow

    for shown, workflow_type, names in WORKFLOWS:
        workflow = create_workflow(
            config_file=[str(folder.config(name)) for name in names],
            meta_file=str(folder.metadata),
            logging_file=False,
            workflow_type=workflow_type,
            init_id="none",  # the check reads the config; nothing has to be seeded or started for it
            bundle_root=str(folder.root),
        )
        if missing := find_missing_properties(workflow):
            raise BundleError(f"The {shown} workflow of {folder.name} lacks {', '.join(missing)}.")
    return ", ".join(shown for shown, _, _ in WORKFLOWS)


def find_missing_properties(workflow: Any) -> list[str]:
    """Required properties that a MONAI workflow's config lacks or refers to wrongly.

    Ids are looked up and not built: a bundle is verified where its dataset may not be.
    """
    from monai.utils import BundleProperty, BundlePropertyConfig

    missing = []
    for name, description in workflow.properties.items():
        is_there = description[BundlePropertyConfig.ID] in workflow.parser
        wrong = not workflow._check_optional_id(name=name, property=description)
        if wrong or (description.get(BundleProperty.REQUIRED) and not is_there):
            missing.append(name)
    return missing


def _check_network(folder: BundleFolder) -> str:
    from monai.bundle import verify_net_in_out

    for multiple in (1, 2):
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(folder.metadata),
            config_file=str(folder.config("inference")),
            device="cpu",
            n=multiple,
        )
    return "n = 1 and n = 2"


def load_network(folder: BundleFolder) -> Any:
    """The network of inference.json with the bundle's weights, on the CPU, in evaluation mode.

    Raises:
        BundleError: the weights are not the network's.
    """
    import torch
    from monai.bundle import ConfigParser

    folder.make_modules_importable()
    parser = ConfigParser()
    parser.read_config(folder.read_config("inference"))
    parser.update(quote_paths({"bundle_root": folder.root}))
    network = parser.get_parsed_content("network_def")
    load_weights(network, folder.weights, torch.device("cpu"))
    return network.eval()


def _check_weights(folder: BundleFolder) -> str:
    network = load_network(folder)
    return f"{sum(parameter.numel() for parameter in network.parameters())} parameters"


def _check_prediction(folder: BundleFolder) -> str:
    """Stock MONAI runs inference.json on a phantom; the label map must lie on the phantom's grid."""
    from monai.bundle import ConfigWorkflow

    plan = read_plan(folder.plan)
    temporary = Path(tempfile.mkdtemp())
    try:
        image = write_phantom(temporary / "input" / f"phantom{plan.image_suffix}", plan)
        workflow = ConfigWorkflow(
            config_file=str(folder.config("inference")),
            meta_file=str(folder.metadata),
            logging_file=False,
            workflow_type="inference",
            **quote_paths(
                {"bundle_root": folder.root, "dataset_dir": image.parent, "output_dir": temporary / "output"}
            ),
        )
        workflow.initialize()
        workflow.run()
        label_map = read_image(temporary / "output" / f"phantom{plan.output_suffix}")
        expected = read_image(image)
        if label_map.spatial_shape != expected.spatial_shape:
            raise BundleError(f"The prediction has shape {label_map.spatial_shape}; expected {expected.spatial_shape}.")
        if not np.allclose(label_map.affine, expected.affine, atol=1e-3):
            raise BundleError("The prediction has another affine than its image.")
        if unknown := set(np.unique(label_map.array).tolist()) - set(plan.label_table.values()):
            raise BundleError(f"The prediction has the values {sorted(unknown)}, which the label table lacks.")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    elements = name_elements("voxels", plan.spatial_dims == 2)
    return f"phantom of {'x'.join(map(str, expected.spatial_shape))} {elements}"


def write_phantom(path: Path, plan: Plan) -> Path:
    """A noisy ball in an image that a plan can take: no axis equal to another, and NIfTI off the target grid."""
    shape = [size + 3 + axis for axis, size in enumerate(plan.patch_size)]
    centre = [(size - 1) / 2 for size in shape]
    distance = sum(
        ((axis - middle) / size) ** 2 for axis, middle, size in zip(np.indices(shape), centre, shape, strict=True)
    )
    generator = np.random.default_rng(0)
    channels = [(distance < 0.06) * 100.0 + generator.normal(50, 10, shape) for _ in plan.channel_names]
    array = np.clip(np.stack(channels, axis=-1), 0, 255)
    array = array[..., 0] if len(channels) == 1 else array
    path.parent.mkdir(parents=True, exist_ok=True)
    if plan.image_suffix in PICTURE_SUFFIXES:
        PillowImage.fromarray(np.ascontiguousarray(np.swapaxes(array, 0, 1).astype(np.uint8))).save(path)
    else:
        affine = np.diag([*(size * 1.1 for size in plan.spacing_mm), *([1.0] * (3 - plan.spatial_dims)), 1.0])
        affine[:3, 3] = (-20, 10, 5)
        affine[0] *= -1  # stored the other way round than the network sees it
        channels_first = np.moveaxis(array.reshape(*shape, -1), -1, 0).astype(np.float32)
        write_image(path, MedicalImage(channels_first, affine, plan.spacing_mm))
    return path
