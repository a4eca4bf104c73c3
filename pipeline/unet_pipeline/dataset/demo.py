"""The embedded cohort: simulated heads made from the MNI152 template that the nilearn wheel carries.

Training cases are seeded smooth deformations of the template with changed contrast, bias and noise; the test case is
the template itself. The cohort shows that the pipeline works and says nothing about generalisation.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from unet_pipeline.errors import DatasetError
from unet_pipeline.files import write_json
from unet_pipeline.progress import progress_bar

LABELS = {"background": 0, "grey_matter": 1, "white_matter": 2}
RESOLUTION_MM = 2
_TEMPLATE_FILES = {
    "image": "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    "grey": "mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
    "white": "mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
}
NUM_TRAINING_CASES = 8
SEED = 0
REFERENCE = "Fonov et al. 2011, NeuroImage 54(1):313-327; ICBM 152 nonlinear 2009a, through nilearn"


@dataclass(frozen=True)
class DemoCohort:
    """Two dataset folders in the layout of the Medical Segmentation Decathlon."""

    training: Path
    test: Path


@dataclass(frozen=True)
class _Head:
    image: np.ndarray  # (i, j, k), float32, 0 to 1
    tissues: np.ndarray  # (3, i, j, k), float32, shares of background, grey and white matter
    affine: np.ndarray


def write_demo_cohort(folder: Path, num_cases: int = NUM_TRAINING_CASES, seed: int = SEED) -> DemoCohort:
    """Write the cohort below `folder`; a cohort that is already complete there is kept.

    Args:
        folder: gets `demo_heads/` (training) and `demo_real_head/` (the unchanged template).
        num_cases: simulated heads.
        seed: of the simulation; case n depends on (seed, n) only.

    Raises:
        DatasetError: nilearn is not installed.
    """
    cohort = DemoCohort(folder / "demo_heads", folder / "demo_real_head")
    if (cohort.training / "dataset.json").is_file() and (cohort.test / "dataset.json").is_file():
        return cohort
    for dataset in (cohort.training, cohort.test):
        shutil.rmtree(dataset, ignore_errors=True)
    template = _load_template()
    _write_dataset(cohort.test, {"mni152": template})
    heads = {}
    with progress_bar("cohort", num_cases) as bar:
        for index in range(num_cases):
            heads[f"head_{index + 1:02d}"] = simulate_head(template, np.random.default_rng((seed, index)))
            bar.advance()
    _write_dataset(cohort.training, heads)
    return cohort


def _load_template() -> _Head:
    """The template at 2 mm: means of 2x2x2 voxels.

    The files are read from the wheel directly, because importing nilearn takes longer than the rest of this module.
    """
    package = find_spec("nilearn")
    if package is None or package.origin is None:
        raise DatasetError(
            "The demo cohort needs the package nilearn, which is not installed. Install `unet-pipeline[demo]`."
        )
    folder = Path(package.origin).parent / "datasets" / "data"
    volumes = {}
    for tissue, file in _TEMPLATE_FILES.items():
        if not (folder / file).is_file():
            raise DatasetError(
                f"The installed nilearn has no datasets/data/{file}; expected version 0.11 or newer. Update it."
            )
        volumes[tissue] = nib.load(folder / file)
    affine = volumes["image"].affine @ np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]])
    halved = {tissue: _halve(volume.get_fdata(dtype=np.float32) / 255) for tissue, volume in volumes.items()}
    background = (1 - halved["grey"] - halved["white"]).clip(0, 1)
    return _Head(halved["image"], np.stack([background, halved["grey"], halved["white"]]), affine)


def _halve(volume: np.ndarray) -> np.ndarray:
    """Means of blocks of 2x2x2 voxels; a last odd plane is dropped."""
    blocks = [size // 2 for size in volume.shape]
    trimmed = volume[tuple(slice(2 * size) for size in blocks)]
    return trimmed.reshape(blocks[0], 2, blocks[1], 2, blocks[2], 2).mean(axis=(1, 3, 5))


def simulate_head(template: _Head, generator: np.random.Generator) -> _Head:
    """A new head: the template warped, with other contrast, bias field and noise.

    Rotations up to 8 degrees, scaling by up to 8 %, smooth displacements of a few mm with control points 24 mm apart.
    """
    coordinates = _draw_coordinates(template.image.shape, generator)
    tissues = np.stack(
        [ndimage.map_coordinates(share, coordinates, order=1, mode="nearest") for share in template.tissues]
    )
    image = ndimage.map_coordinates(template.image, coordinates, order=1, mode="constant").clip(0, None)
    image = image ** generator.uniform(0.9, 1.12)
    # another weighting of the tissues, as another scanner or sequence would show it
    image = image + generator.uniform(-0.03, 0.03) * tissues[1] + generator.uniform(-0.03, 0.03) * tissues[2]
    image = image * np.exp(_draw_smooth_field(image.shape, 48, generator) * 0.07)
    image = image + generator.normal(0, generator.uniform(0.0, 0.01), image.shape)
    return _Head(image.clip(0, None).astype(np.float32), tissues, template.affine)


def _draw_coordinates(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Voxel coordinates (3, i, j, k) in the template for every voxel of the new head."""
    grid = np.stack(np.meshgrid(*(np.arange(size, dtype=np.float32) for size in shape), indexing="ij"))
    centre = (np.array(shape, dtype=np.float32) - 1)[:, None, None, None] / 2
    angles = np.deg2rad(generator.uniform(-8, 8, size=3))
    matrix = np.diag(generator.uniform(0.92, 1.08, size=3))
    for axis, angle in enumerate(angles):
        first, second = [other for other in range(3) if other != axis]
        rotation = np.eye(3)
        rotation[[first, first, second, second], [first, second, first, second]] = [
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        ]
        matrix = matrix @ rotation
    moved = np.tensordot(matrix.astype(np.float32), grid - centre, axes=1) + centre
    displacement_voxel = np.stack([_draw_smooth_field(shape, 24, generator) for _ in shape]) * (3.0 / RESOLUTION_MM)
    return moved + displacement_voxel


def _draw_smooth_field(shape: tuple[int, ...], distance_mm: float, generator: np.random.Generator) -> np.ndarray:
    """Smooth field of standard normal control values `distance_mm` apart, cubic in between."""
    coarse = [max(4, int(np.ceil(size * RESOLUTION_MM / distance_mm)) + 1) for size in shape]
    field = generator.standard_normal(coarse)
    for axis, (size, small) in enumerate(zip(shape, coarse, strict=True)):
        # one matrix per axis: far faster than interpolating at every voxel, with the same result
        weights = ndimage.zoom(np.eye(small), (size / small, 1), order=3)
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
    return field.astype(np.float32)


def _write_dataset(root: Path, heads: dict[str, _Head]) -> None:
    for name, head in heads.items():
        for folder, array, dtype in (
            ("imagesTr", head.image * 1000, np.int16),
            ("labelsTr", head.tissues.argmax(0), np.uint8),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            volume = nib.Nifti1Image(np.rint(array).astype(dtype), head.affine)
            nib.save(volume, root / folder / f"{name}.nii.gz")
    # written last: its presence says that the cohort is complete
    write_json(
        root / "dataset.json",
        {
            "name": root.name,
            "description": "Simulated T1 heads made from the MNI152 template"
            if "mni152" not in heads
            else "The MNI152 template",
            "reference": REFERENCE,
            "licence": "ICBM 152 licence (free use with notice), see data/mni152_demo.yaml",
            "modality": {"0": "T1 MRI"},
            "labels": {str(value): name for name, value in LABELS.items()},
            "training": [
                {"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in sorted(heads)
            ],
        },
    )
