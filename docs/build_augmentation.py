"""Draws docs/drawings/augmentation_NAME.jpg: what each augmentation does to an image when it is mild, and when it is strong.

    .venv/bin/python docs/build_augmentation.py DATA/nuclei_histology      # the public data set of the bundle's data card

The head is the demo's (the ICBM 152 average brain, which the nilearn package carries), the picture is of the Data Science Bowl 2018
(BBBC038, CC0). The changes are the training's own.
"""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from nilearn import datasets
from PIL import Image as PillowImage

from unet_pipeline.dataset.image import read_image
from unet_pipeline.training.augmentation import PatchAugmentation
from unet_pipeline.training.intensity import IntensityAugmentation
from unet_pipeline.training.sampling import Source
from unet_pipeline.training.sites import SiteAugmentation
from unet_pipeline.training.spatial import SpatialAugmentation

FOLDER = Path(__file__).parent / "drawings"
CASE, SIZE, GAP, SEED = "00ae65c1c663", 96, 4, 7
STILL = SpatialAugmentation((1.0, 1.0), 0.0, (0.0,), (1.0, 1.0), 0.0, 0.0, (5, 5), 0.0, (0.0, 0.0))
PLAIN = IntensityAugmentation(0.0, 0.0, 0.0, (0.5, 0.5), 0.0, 0.0, 0.0, 0.0, 0.0, (1.0, 1.0), 0.0, (1.0, 1.0))
# each column mild and strong; the plan draws from ranges that lie between the two
COLUMNS = {
    "as it is": ({}, {}),
    "rotation": (
        {"affine_probability": 1.0, "rotation_range_rad": (0.5,)},
        {"affine_probability": 1.0, "rotation_range_rad": (3.0,)},
    ),
    "scale": (
        {"affine_probability": 1.0, "scale_range": (1.2, 1.2)},
        {"affine_probability": 1.0, "scale_range": (1.6, 1.6)},
    ),
    "elastic": (
        {"elastic_probability": 1.0, "elastic_sigma_voxel": 2.0},
        {"elastic_probability": 1.0, "elastic_sigma_voxel": 6.0},
    ),
    "noise": ({"noise_probability": 1.0, "noise_std": 0.3}, {"noise_probability": 1.0, "noise_std": 1.0}),
    "blur": (
        {"blur_probability": 1.0, "blur_sigma_voxel": (0.7, 0.7)},
        {"blur_probability": 1.0, "blur_sigma_voxel": (2.0, 2.0)},
    ),
    "brightness": (
        {"brightness_probability": 1.0, "brightness_range": 0.3},
        {"brightness_probability": 1.0, "brightness_range": 0.8},
    ),
    "contrast": (
        {"contrast_probability": 1.0, "contrast_range": 0.5},
        {"contrast_probability": 1.0, "contrast_range": 0.9},
    ),
    "resolution": (
        {"low_resolution_probability": 1.0, "low_resolution_zoom": (0.5, 0.5)},
        {"low_resolution_probability": 1.0, "low_resolution_zoom": (0.2, 0.2)},
    ),
    "gamma": (
        {"gamma_probability": 1.0, "gamma_range": (1.5, 1.5)},
        {"gamma_probability": 1.0, "gamma_range": (3.0, 3.0)},
    ),
    "stain": (
        {"stain_probability": 1.0, "stain_range": 0.3},
        {"stain_probability": 1.0, "stain_range": 1.0},
    ),
    "mixed channels": (
        {"mix_probability": 1.0, "mix_range": 0.5},
        {"mix_probability": 1.0, "mix_range": 1.0},
    ),
    "colour": (
        {"colour_probability": 1.0, "colour_range": 0.3},
        {"colour_probability": 1.0, "colour_range": 0.9},
    ),
    "curve": ({"curve_probability": 1.0, "curve_range": 0.4}, {"curve_probability": 1.0, "curve_range": 1.0}),
    "bias field": (
        {"bias_field_probability": 1.0, "bias_field_range": 0.3},
        {"bias_field_probability": 1.0, "bias_field_range": 1.0},
    ),
    "jpeg": (
        {"jpeg_probability": 1.0, "jpeg_quality": (40.0, 40.0)},
        {"jpeg_probability": 1.0, "jpeg_quality": (5.0, 5.0)},
    ),
}


def read_head() -> np.ndarray:
    """A slice of the demo's head, shape (1, 96, 96), with the face up."""
    template = datasets.load_mni152_template(resolution=2).get_fdata()
    return template[None, 1 : 1 + SIZE, 6 : 6 + SIZE, 40][..., ::-1].copy()


def read_picture(dataset: Path) -> np.ndarray:
    """The middle of the picture, shape (3, 96, 96)."""
    array = read_image(dataset / "images" / f"{CASE}.png").array.astype(float)
    low = [(size - SIZE) // 2 for size in array.shape[1:]]
    return array[:, low[0] : low[0] + SIZE, low[1] : low[1] + SIZE]


def change(image: np.ndarray, settings: dict[str, object]) -> np.ndarray:
    """The image, z-scored, after one augmentation."""
    kinds = (STILL, PLAIN, SiteAugmentation())
    own = [{name: value for name, value in settings.items() if hasattr(kind, name)} for kind in kinds]
    spatial, intensity, sites = (replace(kind, **part) for kind, part in zip(kinds, own, strict=True))  # type: ignore[type-var]
    augmentation = PatchAugmentation((SIZE, SIZE), len(image), (1.0,), spatial, intensity, sites)
    zero_level = np.full(len(image), -image.mean() / image.std())
    values = augmentation.draw(SEED, (SIZE, SIZE), [np.array([SIZE // 2 * SIZE + SIZE // 2])], zero_level)
    low, size = values["lower"].astype(int), values["box_shape"].astype(int)
    box = (slice(None), *(slice(start, start + length) for start, length in zip(low, size, strict=True)))
    whole = torch.tensor((image - image.mean()) / image.std(), dtype=torch.float32)
    classes = torch.zeros((1, SIZE, SIZE), dtype=torch.uint8)
    row = torch.as_tensor(augmentation.layout.encode(values))[None]
    return augmentation(row, [Source(whole[box], classes[box])])[0][0].numpy()


def draw(image: np.ndarray) -> bytes:
    """A column for each augmentation, mild above strong, as JPEG."""
    sheet = np.full((2 * (SIZE + GAP) - GAP, len(COLUMNS) * (SIZE + GAP) - GAP, 3), 255, np.uint8)
    low, high = np.percentile(change(image, {}), (1, 99.5))
    for column, both in enumerate(COLUMNS.values()):
        for row, settings in enumerate(both):
            shown = np.clip((change(image, settings) - low) / (high - low), 0, 1).transpose(2, 1, 0)
            top, left = row * (SIZE + GAP), column * (SIZE + GAP)
            sheet[top : top + SIZE, left : left + SIZE] = np.round(255 * shown)
    file = io.BytesIO()
    PillowImage.fromarray(sheet).save(file, "JPEG", quality=82)
    return file.getvalue()


def main() -> None:
    """Write both pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name, image in (("head", read_head()), ("nuclei", read_picture(Path(sys.argv[1])))):
        (FOLDER / f"augmentation_{name}.jpg").write_bytes(draw(image))


if __name__ == "__main__":
    main()
