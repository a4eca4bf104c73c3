"""Whether both engines of a bundle give the same label maps, on real images: what users run is then what stock MONAI gives."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.dataset.image import read_image
from unet_pipeline.errors import BundleError
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.handover.verify import write_phantom
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.prediction.engine import Case, Engine
from unet_pipeline.prediction.engines import Engines, build_engines
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.text_files import read_model

NUM_IMAGES = 3
MOST_DIFFERENT = 1e-5  # of the voxels: ties of two classes, which sums in another order break otherwise


@dataclass(frozen=True)
class ImageParity:
    """Label maps of both engines for one image."""

    image: str
    num_voxels: int
    num_different: int


@dataclass(frozen=True)
class EngineParity:
    """What was compared.

    Attributes:
        made_of: SHA-256 of weights, inference config and network modules, by path in the bundle.
        reason: why there is one engine only; empty where both were compared.
        images: none where there is one engine only.
    """

    made_of: dict[str, str]
    reason: str
    images: tuple[ImageParity, ...]

    def describe(self) -> str:
        """In a line."""
        if self.reason:
            return f"images go through MONAI's own transforms alone ({self.reason})"
        different, total = sum(one.num_different for one in self.images), sum(one.num_voxels for one in self.images)
        return (
            f"both engines give the same label in {total - different:,} of {total:,} places of {len(self.images)} image(s): "
            f"{', '.join(one.image for one in self.images)}"
        )


def compare_engines(folder: BundleFolder) -> EngineParity:
    """Predict validation images with both engines, and write evidence/engines.json; one that is up to date stays.

    Args:
        folder: with weights and configs as they will be handed over.

    Raises:
        BundleError: the label maps differ by more than ties.
    """
    made_of = {
        path.relative_to(folder.root).as_posix(): compute_sha256(path)
        for path in (folder.weights, folder.config("inference"), *sorted(folder.modules.glob("*.py")))
    }
    known = read_model(folder.engines, EngineParity) if folder.engines.is_file() else None
    if known is not None and known.made_of == made_of:
        return known
    with tempfile.TemporaryDirectory() as temporary:
        engines = build_engines(folder, (folder.weights,), Path(temporary), PredictOptions(device="cpu"))
        images: tuple[ImageParity, ...] = ()
        if engines.volumes is not None:
            listed = list_images(folder, read_plan(folder.plan), Path(temporary), NUM_IMAGES)
            images = tuple(_compare(engines, shown, path, Path(temporary)) for shown, path in listed.items())
    for one in images:
        if one.num_different > MOST_DIFFERENT * one.num_voxels:
            raise BundleError(
                f"The engines volumes and transforms give label maps of {one.image} that differ in {one.num_different} of {one.num_voxels} "
                f"places; expected at most {MOST_DIFFERENT:g} of them. `unet-pipeline plan --refresh` writes the configs anew; if that "
                "does not help, report it."
            )
    parity = EngineParity(made_of, engines.reason, images)
    write_json(folder.engines, asdict(parity))
    return parity


def list_images(folder: BundleFolder, plan: Plan, temporary: Path, count: int = 1) -> dict[str, Path]:
    """Validation images, by what they are called; the phantom where the dataset is not at hand."""
    fold = folder.fold_of_weights(plan.fold)
    paths = {
        f"case {entry.case}": folder.root / plan.dataset_dir / entry.image
        for entry in folder.read_split(fold).validation
    }
    there = {shown: path for shown, path in paths.items() if path.is_file()}
    if there:
        return dict(list(there.items())[:count])
    return {"the phantom": write_phantom(temporary / f"phantom{plan.image_suffix}", plan)}


def _compare(engines: Engines, shown: str, path: Path, staging: Path) -> ImageParity:
    image = read_image(path)
    both = (engines.choose(image.grid), engines.transforms)
    expected, other = (_predict(engine, path, staging / f"{number}{path.name}") for number, engine in enumerate(both))
    return ImageParity(shown, int(expected.size), int(np.count_nonzero(expected != other)))


def _predict(engine: Engine, path: Path, final: Path) -> np.ndarray:
    image = read_image(path)
    case = Case(PredictionInput("image", (path,)), engine, (path,), image.affine, image.spatial_shape, image)
    engine.prepare(case)
    engine.write(case, engine.infer(case, False), final, final.parent)
    return np.asarray(read_image(final).array)
