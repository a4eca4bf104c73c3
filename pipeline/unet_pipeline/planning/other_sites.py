"""`plan --for-other-sites`: how far images of other hospitals may be from those of the dataset, by the kind of image.

A kind is told from channel names, DICOM modalities and the dataset's name; stained tissue from its colours. The source of each range is in
docs/explanation/other_sites.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unet_pipeline.dataset.formats import PICTURE_SUFFIXES
from unet_pipeline.planning.presets import Choice

if TYPE_CHECKING:
    from unet_pipeline.dataset.fingerprint import Fingerprint

Share = Annotated[float, Field(ge=0, le=1)]
Quality = Annotated[float, Field(ge=1, le=100)]


class OtherSites(BaseModel):
    """Numbers of `training.sites.SiteAugmentation`, which says what each is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stain_probability: Share = 0.0
    stain_range: Annotated[float, Field(ge=0, le=2)] = 0.0
    colour_probability: Share = 0.0
    colour_range: Annotated[float, Field(ge=0, le=2)] = 0.0
    curve_probability: Share = 0.0
    curve_range: Share = 0.0
    bias_field_probability: Share = 0.0
    bias_field_range: Annotated[float, Field(ge=0, le=2)] = 0.0
    jpeg_probability: Share = 0.0
    jpeg_quality: tuple[Quality, Quality] = (100.0, 100.0)
    mix_probability: Share = 0.0
    mix_range: Share = 0.0

    @model_validator(mode="after")
    def _check_quality(self) -> OtherSites:
        if self.jpeg_quality[0] > self.jpeg_quality[1]:
            raise ValueError(f"jpeg_quality is {self.jpeg_quality}; expected the lower one first")
        return self

    def check(self, num_channels: int, dims: int) -> None:
        """Raise where a change is impossible for such images.

        Raises:
            ValueError: stains without red, green and blue, one channel to mix, or JPEG in 3D.
        """
        if self.mix_probability and num_channels < 2:
            raise ValueError(
                f"other_sites has mix_probability, and there is {num_channels} channel; expected 2 or more"
            )
        if self.stain_probability and num_channels != 3:
            raise ValueError(f"other_sites has stain_probability, and there are {num_channels} channel(s); expected 3")
        if self.jpeg_probability and dims != 2:
            raise ValueError(f"other_sites has jpeg_probability, and spatial_dims is {dims}; expected 2")


class SiteRanges(BaseModel):
    """What a kind of image gets: `sites`, and the ranges of the plan's own numbers that are wider than otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sites: OtherSites
    wider: dict[str, float | tuple[float, float]]


_WIDER: dict[str, float | tuple[float, float]] = {
    "blur_probability": 0.2,
    "blur_sigma_voxel": (0.5, 1.5),
    "low_resolution_probability": 0.25,
    "low_resolution_zoom": (0.35, 1.0),
}
# kind -> its ranges; the order is that in which `name_kind` asks
KINDS = {
    "stained tissue": SiteRanges(
        sites=OtherSites(
            stain_probability=0.8,
            stain_range=0.7,
            colour_probability=0.5,
            colour_range=0.4,
            curve_probability=0.2,
            curve_range=0.6,
            jpeg_probability=0.2,
            jpeg_quality=(30, 95),
            mix_probability=0.5,
            mix_range=1.0,
        ),
        wider={**_WIDER, "scale_range": (0.5, 2.0), "noise_probability": 0.2, "noise_std": 0.2},
    ),
    "colour picture": SiteRanges(
        sites=OtherSites(
            colour_probability=0.5,
            colour_range=0.4,
            curve_probability=0.3,
            curve_range=0.6,
            jpeg_probability=0.2,
            jpeg_quality=(30, 95),
        ),
        wider={**_WIDER, "scale_range": (0.6, 1.7), "noise_probability": 0.2, "noise_std": 0.2},
    ),
    "CT": SiteRanges(
        sites=OtherSites(colour_probability=0.15, colour_range=0.1),
        wider={**_WIDER, "noise_probability": 0.25, "noise_std": 0.3, "scale_range": (0.7, 1.4)},
    ),
    "MR": SiteRanges(
        sites=OtherSites(
            bias_field_probability=0.3,
            bias_field_range=0.4,
            curve_probability=0.3,
            curve_range=0.8,
            colour_probability=0.3,
            colour_range=0.2,
        ),
        wider={**_WIDER, "noise_probability": 0.2, "noise_std": 0.3, "scale_range": (0.7, 1.4)},
    ),
    "ultrasound": SiteRanges(
        sites=OtherSites(
            bias_field_probability=0.3,
            bias_field_range=0.4,
            curve_probability=0.4,
            curve_range=0.8,
            jpeg_probability=0.2,
            jpeg_quality=(40, 95),
        ),
        wider={**_WIDER, "noise_probability": 0.2, "noise_std": 0.3, "scale_range": (0.7, 1.4)},
    ),
    "X-ray": SiteRanges(
        sites=OtherSites(
            bias_field_probability=0.2,
            bias_field_range=0.3,
            curve_probability=0.4,
            curve_range=0.8,
            colour_probability=0.2,
            colour_range=0.3,
            jpeg_probability=0.15,
            jpeg_quality=(50, 95),
        ),
        wider={**_WIDER, "noise_probability": 0.2, "noise_std": 0.2, "scale_range": (0.7, 1.4)},
    ),
    "grey picture": SiteRanges(
        sites=OtherSites(
            bias_field_probability=0.2,
            bias_field_range=0.4,
            curve_probability=0.3,
            curve_range=0.8,
            jpeg_probability=0.1,
            jpeg_quality=(40, 95),
        ),
        wider={**_WIDER, "noise_probability": 0.2, "noise_std": 0.3, "scale_range": (0.5, 2.0)},
    ),
    "volume": SiteRanges(
        sites=OtherSites(curve_probability=0.2, curve_range=0.5, colour_probability=0.2, colour_range=0.2),
        wider={**_WIDER, "noise_probability": 0.2, "noise_std": 0.2, "scale_range": (0.7, 1.4)},
    ),
}
# DICOM's codes, and words of channel and dataset names
_WORDS = {
    "CT": r"ct|computed tomography|hu",
    "MR": r"mri?|t1\w*|t2\w*|flair|adc|dwi|pd|magnetic resonance",
    "ultrasound": r"us|ultrasound|ultrasonography|sonography|echo\w*",
    "X-ray": r"cr|dx|mg|x ?-?ray|radiograph\w*|mammogra\w*|\w*xray\w*",
}


def name_kind(fingerprint: Fingerprint) -> str:
    """The kind of the images, a key of `KINDS`."""
    pictures = fingerprint.spatial_dims == 2
    if pictures and len(fingerprint.channels) == 3 and fingerprint.suffix in PICTURE_SUFFIXES:
        return "stained tissue" if _is_stained(fingerprint) else "colour picture"
    dataset = re.sub(r"[_\W]+", " ", fingerprint.dataset_name).split()
    for words in ([*fingerprint.modalities, *fingerprint.channels], dataset):
        for kind, pattern in _WORDS.items():
            if any(_is_word(word, pattern) for word in words):
                return kind
    return "grey picture" if pictures else "volume"


def _is_word(word: str, pattern: str) -> bool:
    return re.fullmatch(pattern, word.strip().lower().replace("_", " ")) is not None


def _is_stained(fingerprint: Fingerprint) -> bool:
    """Whether the labelled parts are purple, as haematoxylin and eosin are: green is absorbed most, and blue is not far below red."""
    red, green, blue = (channel.mean for channel in fingerprint.intensities)
    return green < 0.9 * min(red, blue) and blue > 0.8 * red


def choose_other_sites(fingerprint: Fingerprint) -> Choice[SiteRanges]:
    """The ranges for the kind of the images; JPEG in 2D only."""
    kind = name_kind(fingerprint)
    ranges = KINDS[kind]
    if fingerprint.spatial_dims != 2 and ranges.sites.jpeg_probability:
        sites = ranges.sites.model_copy(update={"jpeg_probability": 0.0})
        ranges = ranges.model_copy(update={"sites": sites})
    return Choice(ranges, f"for other hospitals, as asked with --for-other-sites; kind of image: {kind}")
