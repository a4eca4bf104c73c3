"""Whether an image comes from the kind of scanner whose images a network was trained on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.messages import WARNING, Message, Problem
from unet_pipeline.text_files import read_json

OTHER_MODALITY = Message(
    "other-modality",
    WARNING,
    "is of the DICOM modality {found}, and the network was trained on {expected}",
    "The label map is made all the same, and is worth nothing if the image is of another kind; look at it before you use it.",
)
_WORDS_OF = {
    "CT": ("ct", "cect", "ncct", "cta", "cbct", "hu", "computed tomography"),
    "MR": (
        "mr", "mri", "t1", "t1w", "t1c", "t1ce", "t1gd", "t1n", "t2", "t2w", "t2f", "flair", "dwi", "adc", "swi", "mra", "pdw",
        "magnetic resonance",
    ),
    "PT": ("pt", "pet", "suv"),
    "US": ("us", "ultrasound", "sonography"),
    "DX": ("xray", "x ray", "radiograph", "radiography", "cr", "dx"),
    "MG": ("mg", "mammography", "mammogram"),
}  # fmt: skip
# codes of one kind of image
_SAME_KIND = (
    frozenset(("CR", "DX", "RG", "RF", "PX", "IO")),
    frozenset(("US", "IVUS")),
    frozenset(("MR", "MRA", "MA")),
)


def read_modalities(folder: BundleFolder, channel_names: Sequence[str]) -> tuple[str, ...]:
    """DICOM's codes of the images that a bundle was trained on: of its fingerprint, or as its channels are called; () if neither tells."""
    try:
        recorded = read_json(folder.fingerprint).get("modalities") or ()
    except (OSError, ValueError, AttributeError):
        recorded = ()
    return tuple(map(str, recorded)) or find_modalities(channel_names)


def find_modalities(names: Iterable[str]) -> tuple[str, ...]:
    """DICOM's codes of what names of channels, such as "T1" or "CT", plainly mean."""
    codes = set()
    for name in names:
        text = f" {' '.join(re.findall(r'[a-z0-9]+', name.lower()))} "
        codes |= {code for code, words in _WORDS_OF.items() if any(f" {word} " in text for word in words)}
    return tuple(sorted(codes))


def compare_modality(modality: str, expected: Sequence[str], shown: str) -> tuple[Problem, ...]:
    """A warning where an image is of another modality than the training's.

    Args:
        modality: DICOM's code; "" where the file has none.
        expected: of the training; empty where it is not known.
        shown: the image.
    """
    if not modality or not expected or any(_is_alike(modality, code) for code in expected):
        return ()
    return (OTHER_MODALITY.about(shown, found=modality, expected=" and ".join(expected)),)


def _is_alike(first: str, second: str) -> bool:
    return first == second or any({first, second} <= kind for kind in _SAME_KIND)
