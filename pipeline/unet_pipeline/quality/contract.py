"""The input contract of a bundle: evidence/contract.json, and the verdict about an image.

It says what the images of the training look like, before the network and to its encoder, and from where on an image is unlike them. All of
it is numbers, so that others can apply it; docs/contract.schema.json has their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import ContractVerdict
from unet_pipeline.dataset.missing_channels import COLUMN as MISSING_COLUMN
from unet_pipeline.prediction.modality import compare_modality
from unet_pipeline.quality.distribution import Distribution
from unet_pipeline.quality.layout import measure_layout
from unet_pipeline.quality.properties import ImageProperties, find_group, show_number
from unet_pipeline.quality.sealed import read_sealed

CONTRACT_FILE = "contract.json"
VERSION = 1
INSIDE, UNUSUAL, OUTSIDE = "inside", "unusual", "outside"
VERDICTS = (INSIDE, UNUSUAL, OUTSIDE)
# times the threshold, from where on an image is outside: measured in benchmarks/results/contract.md
OUTSIDE_FACTOR = 1.3
IMAGE_STAGE, ENCODER_STAGE = "image", "encoder"


class PropertyRecord(BaseModel):
    """A property of the training's images; `lowest`, `highest`, `centre` and `spread` in the numbers that distances are measured in,
    which for sizes and spreads are natural logarithms. `unit` is what its deviation, in spreads, is divided by."""

    name: str
    lowest: float
    highest: float
    centre: float
    spread: float
    unit: float


class GroupRecord(BaseModel):
    """Properties that are judged together; their correlations are mixed with none by `shrinkage`, and the distance divided by `unit`."""

    name: str
    properties: list[str]
    shrinkage: float
    unit: float


class StageRecord(BaseModel):
    """A comparison. An image whose largest deviation or distance, in units, is above `threshold` is unusual.

    `num_cases` were compared as if they were new; `false_alarm_rate` of images like them come above the threshold at most: what was asked
    for, or one in `num_cases` and one, which is the least that so few can promise. `scores` are theirs, ascending.
    """

    model_config = ConfigDict(frozen=True)

    properties: list[PropertyRecord]
    groups: list[GroupRecord]
    correlation: list[list[float]]
    threshold: float
    num_cases: int
    false_alarm_rate: float
    scores: list[float]

    @cached_property
    def distribution(self) -> Distribution:
        """The same as arrays."""
        names = tuple(one.name for one in self.properties)
        groups = {group.name: tuple(map(names.index, group.properties)) for group in self.groups}
        units = [one.unit for one in self.properties] + [group.unit for group in self.groups]
        centre, spread = (np.array([getattr(one, key) for one in self.properties]) for key in ("centre", "spread"))
        shrinkage = tuple(group.shrinkage for group in self.groups)
        return Distribution(names, groups, centre, spread, np.array(self.correlation), shrinkage, np.array(units))


class EncoderRecord(BaseModel):
    """How one network's encoder sees the images: its features, standardised, along `components`, and what lies beside those."""

    model_config = ConfigDict(frozen=True)

    weights_sha256: str
    fold: int | None
    layer: str
    num_training: int
    centre: list[float]
    spread: list[float]
    components: list[list[float]]
    comparison: StageRecord

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centre, spread and components, shape (components, features)."""
        return np.array(self.centre), np.array(self.spread), np.array(self.components)

    def project(self, features: np.ndarray) -> np.ndarray:
        """Properties of an image by its features, shape (features,)."""
        return project_features(features, *self.arrays)


class ContractRecord(BaseModel):
    """evidence/contract.json.

    `weights_sha256` are the networks' whose cases it was fitted on, fold by fold. `words` has the values that each property without numbers
    has among the training's images; `template` is their mean, standardised, in cells. `outside_factor` times the threshold is where an
    image is no longer unusual but outside. `notes` say what cannot be judged.
    """

    model_config = ConfigDict(frozen=True)

    version: int = VERSION
    dataset: str
    counts_pixels: bool
    weights_sha256: list[str]
    words: dict[str, list[str]]
    template: list[object]
    image: StageRecord
    encoders: list[EncoderRecord]
    outside_factor: float = OUTSIDE_FACTOR
    notes: list[str]

    @cached_property
    def template_array(self) -> np.ndarray:
        """Shape (cells, cells) or (cells, cells, cells)."""
        return np.array(self.template, dtype=np.float64)

    def find_encoder(self, weights_sha256: Sequence[str]) -> EncoderRecord | None:
        """Of the first network that predicts, if it was looked at."""
        return next((one for one in self.encoders if one.weights_sha256 == weights_sha256[0]), None)


@dataclass(frozen=True)
class Verdict:
    """Whether an image is like those of the training.

    Attributes:
        word: one of `VERDICTS`.
        name: of the property that says the most about it.
        value: the image's, as text.
        seen: the training's, as text.
        ratio: the largest deviation by the threshold; above 1 is unusual. None for properties without numbers.
        stage: image, or encoder.
    """

    word: str
    name: str
    value: str
    seen: str
    ratio: float | None
    stage: str = IMAGE_STAGE

    @property
    def rank(self) -> tuple[int, float]:
        """Larger for what is less like the training."""
        return VERDICTS.index(self.word), self.ratio if self.ratio is not None else float("inf")

    def as_record(self, compared: str, contract_sha256: str) -> ContractVerdict:
        """For predictions_run.json."""
        return ContractVerdict(
            verdict=self.word,
            property=self.name,
            value=self.value,
            seen=self.seen,
            ratio=None if self.ratio is None else round(self.ratio, 3),
            stage=self.stage,
            compared=compared,
            contract_sha256=contract_sha256,
        )


def project_features(
    features: np.ndarray, centre: np.ndarray, spread: np.ndarray, components: np.ndarray
) -> np.ndarray:
    """Coordinates along the components, and the logarithm of the root mean square of what they leave."""
    standard = (features - centre) / spread
    along = components @ standard
    rest = standard - components.T @ along
    return np.append(along, np.log(np.sqrt(np.mean(rest**2)) + 1e-6))


def read_contract(folder: BundleFolder) -> ContractRecord | None:
    """The bundle's contract; None where it has none.

    Raises:
        BundleError: see `read_sealed`.
    """
    return read_sealed(folder, CONTRACT_FILE, ContractRecord, VERSION, "package")


def judge_image(contract: ContractRecord, image: ImageProperties, modalities: Sequence[str] = ()) -> Verdict:
    """Compare an image before the network.

    Args:
        contract: of the bundle.
        image: its properties.
        modalities: DICOM's codes of the training's images.
    """
    verdicts = list(_judge_words(contract.words, image.words, modalities))
    distribution, numbers = contract.image.distribution, dict(image.numbers)
    if image.thumbnail.shape == contract.template_array.shape:
        numbers |= measure_layout(image.thumbnail, contract.template_array)
    if not image.is_whole:  # how the channels go together cannot be judged, and counts as usual
        kept = ("grid", "intensity")
        usual = dict(zip(distribution.names, distribution.centre.tolist(), strict=True))
        numbers = usual | {name: value for name, value in numbers.items() if find_group(name) in kept}
    if missing := [name for name in distribution.names if name not in numbers]:
        return Verdict(OUTSIDE, missing[0], "not measurable", "measured in every image", None)
    values = np.array([numbers[name] for name in distribution.names])
    return max([*verdicts, judge_values(contract.image, values, contract.outside_factor)], key=lambda one: one.rank)


def judge_values(stage: StageRecord, values: np.ndarray, factor: float, name: str = IMAGE_STAGE) -> Verdict:
    """Compare the properties of an image with a stage's."""
    score, place = stage.distribution.score(values)
    ratio, one = score / stage.threshold, stage.properties[place]
    word = INSIDE if ratio <= 1 else UNUSUAL if ratio <= factor else OUTSIDE
    seen = f"{show_number(one.name, one.lowest)} to {show_number(one.name, one.highest)}"
    if one.lowest <= values[place] <= one.highest and word != INSIDE:
        seen += ", but not together with its other properties"
    return Verdict(word, one.name, show_number(one.name, float(values[place])), seen, ratio, name)


def _judge_words(
    expected: Mapping[str, Sequence[str]], words: Mapping[str, str], modalities: Sequence[str]
) -> list[Verdict]:
    """What an image has that none of the training's had; another way round is unusual only, because images are turned by their headers,
    and so are other missing channels, of which the training drops all sets."""
    verdicts = []
    for name, value in words.items():
        if name == "modality":
            if compare_modality(value, modalities, ""):
                verdicts.append(Verdict(OUTSIDE, name, value, " and ".join(modalities), None))
        elif (seen := expected.get(name)) and value not in seen:
            word = UNUSUAL if name in ("orientation", MISSING_COLUMN) else OUTSIDE
            verdicts.append(Verdict(word, name, value, ", ".join(seen), None))
    return verdicts
