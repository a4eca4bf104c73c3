"""One pure function per rule of what is measured; each returns its value with the reason that plan.yaml shows."""

from __future__ import annotations

import re

import numpy as np

from unet_pipeline.dataset.fingerprint import Fingerprint
from unet_pipeline.dataset.formats import PICTURE_SUFFIXES
from unet_pipeline.planning.presets import Choice

# beginnings of words in the names of labels; of structures that come in any number, and are found or missed one by one
LESION_WORDS = (
    "lesion",
    "tumor",
    "tumour",
    "metastas",
    "nodule",
    "polyp",
    "aneurysm",
    "microbleed",
    "bleed",
    "haemorrhage",
    "hemorrhage",
    "plaque",
    "infarct",
    "cyst",
    "abscess",
)
THIN_WORDS = (
    "vessel",
    "vascul",
    "arter",
    "vein",
    "venous",
    "capillar",
    "membrane",
    "nerve",
    "airway",
    "bronch",
    "neurite",
    "axon",
    "dendrite",
    "duct",
    "crack",
)


BORDER_WORDS = ("membrane", "border", "boundary", "boundaries")


def choose_tolerances(fingerprint: Fingerprint) -> Choice[dict[str, float]]:
    """Distance that counts as agreement of two surfaces, for every label and region: one voxel along the coarsest axis."""
    in_pixels = fingerprint.suffix in PICTURE_SUFFIXES and not all(case.pixel_spacing_mm for case in fingerprint.cases)
    spacings = [
        case.spacing_mm if in_pixels else case.pixel_spacing_mm or case.spacing_mm for case in fingerprint.cases
    ]
    tolerance = max(float(np.median([spacing[axis % len(spacing)] for spacing in spacings])) for axis in range(3))
    names = (*fingerprint.labels, *fingerprint.regions)
    unit = "pixels, because the pictures have no spacing" if in_pixels else "mm"
    return Choice(
        dict.fromkeys(names, float(f"{tolerance:.4g}")),
        f"in {unit}: distance of two surfaces that counts as agreement in the normalised surface dice; one voxel along the "
        "coarsest axis of the median grid, because less cannot be drawn. Where it is known how far two experts lie apart, "
        "write that (Nikolov 2018)",
    )


def name_part_unit(suffix: str, spatial_dims: int) -> str:
    """Unit of the size of a connected part, as `tune` measures it: pixels where the files of the images have no spacing."""
    return "pixels" if suffix in PICTURE_SUFFIXES else f"mm^{spatial_dims}"


def choose_lesion_labels(fingerprint: Fingerprint) -> Choice[tuple[str, ...]]:
    """Labels and regions that are found or missed part by part, by their names."""
    return _choose_by_name(fingerprint, LESION_WORDS, "labels whose connected parts are counted and matched one by one")


def choose_thin_labels(fingerprint: Fingerprint) -> Choice[tuple[str, ...]]:
    """Labels and regions that are measured by their centre lines too, by their names."""
    return _choose_by_name(
        fingerprint, THIN_WORDS, "thin labels, whose centre lines are compared too (clDice, Shit 2021)"
    )


def choose_separated_labels(fingerprint: Fingerprint) -> Choice[tuple[str, ...]]:
    """Labels whose parts a label of thin borders separates, by the names of the borders: all the others."""
    borders = _choose_by_name(fingerprint, BORDER_WORDS, "").value
    names = tuple(name for name in fingerprint.labels if name not in borders) if borders else ()
    return Choice(
        names,
        "labels whose connected parts borders tell apart, as membranes do with cells: V_rand and V_info (Arganda-Carreras 2015); chosen by "
        "the names of the borders",
    )


def _choose_by_name(fingerprint: Fingerprint, words: tuple[str, ...], purpose: str) -> Choice[tuple[str, ...]]:
    pattern = re.compile(rf"(^|[^a-z])({'|'.join(words)})")
    names = tuple(name for name in (*fingerprint.regions, *fingerprint.labels) if pattern.search(name.lower()))
    return Choice(names, f"{purpose}; chosen by their names, add or remove some as it suits the question")
