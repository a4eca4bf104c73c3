"""Makes the input contract of a bundle from the images that it was trained on, and from its out-of-fold cases."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.records import ListedCase
from unet_pipeline.evaluation.groups import Group
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.planning.plan import Plan
from unet_pipeline.prediction.engines import Engines, build_engines
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.reuse import without_record
from unet_pipeline.prediction.run import CaseLoop
from unet_pipeline.progress import progress_bar
from unet_pipeline.quality.contract import (
    CONTRACT_FILE,
    ContractRecord,
    EncoderRecord,
    GroupRecord,
    PropertyRecord,
    StageRecord,
    project_features,
)
from unet_pipeline.quality.distribution import Distribution, choose_units, find_rank, find_rate, fit_distribution
from unet_pipeline.quality.encoder import EncoderListener, find_bottleneck
from unet_pipeline.quality.inspector import name_missing
from unet_pipeline.quality.layout import measure_layout
from unet_pipeline.quality.properties import ImageProperties, find_floor, find_group, measure_image

FALSE_ALARM_RATES = {"image": 0.035, "encoder": 0.015}
MOST_CASES = 256  # whose images are measured
MOST_TRAINING = 40  # whose features are measured, of each network
FEWEST_CASES = 4
_MOST_COMPONENTS = 12
_CASES_PER_COMPONENT = 5
_ENCODER_FLOOR = 0.1


@dataclass(frozen=True)
class _Measured:
    """Of one network: features of training and out-of-fold cases, shape (cases, features)."""

    group: Group
    layer: str
    training: np.ndarray
    out_of_fold: np.ndarray
    properties: Mapping[str, ImageProperties]


def write_contract(folder: BundleFolder, plan: Plan, groups: Sequence[Group], device: str | None = None) -> Path | None:
    """Write evidence/contract.json; a bundle with too few cases gets none, and an earlier one is taken away.

    Args:
        folder: trained.
        plan: of the bundle.
        groups: out-of-fold cases with the weights that never saw them.
        device: that computes.
    """
    target = folder.evidence / CONTRACT_FILE
    contract = fit_contract(folder, plan, groups, device)
    if contract is None:
        target.unlink(missing_ok=True)
        return None
    write_json(target, _round(contract.model_dump(mode="json")))
    return target


def fit_contract(
    folder: BundleFolder, plan: Plan, groups: Sequence[Group], device: str | None = None
) -> ContractRecord | None:
    """The contract; None with fewer than `FEWEST_CASES` images. Arguments as of `write_contract`."""
    # with fewer the features could not be judged, and the network need not run
    hears = sum(len(group.cases) for group in groups) >= FEWEST_CASES
    measured = [_measure_group(folder, plan, group, device, hears) for group in groups]
    properties: dict[str, ImageProperties] = {}
    for one in measured:
        properties |= one.properties
    if len(properties) < FEWEST_CASES:
        return None
    patients = folder.read_patients()
    whole = {case: one for case, one in properties.items() if one.is_whole}
    compared = whole if len(whole) >= FEWEST_CASES else properties
    owners = [patients.get(case, case) for case in compared]
    images = list(properties.values())
    image_stage, template = fit_images(list(compared.values()), owners, FALSE_ALARM_RATES["image"])
    encoders, notes = fit_encoders(measured, FALSE_ALARM_RATES["encoder"])
    notes = [
        *_note_rate(image_stage, FALSE_ALARM_RATES["image"], "the image's properties"),
        *notes,
        *_note_channels(plan),
    ]
    return ContractRecord(
        dataset=plan.dataset_name,
        weights_sha256=[compute_sha256(group.weights[0]) for group in groups],
        counts_pixels=plan.spatial_dims == 2,
        words=_collect_words(images),
        template=template.tolist(),
        image=image_stage,
        encoders=encoders,
        notes=notes,
    )


def _measure_group(folder: BundleFolder, plan: Plan, group: Group, device: str | None, hears: bool) -> _Measured:
    """Images, and if it `hears` features, of the cases that a network was trained on, and of those that it was not."""
    root, fold = folder.root / plan.dataset_dir, group.fold if group.fold is not None else plan.fold
    training = _thin(folder.read_split(fold).training, MOST_CASES)
    out_of_fold = [case.source for case in group.cases]
    with tempfile.TemporaryDirectory() as staging:
        engines = build_engines(folder, group.weights, Path(staging), PredictOptions(device=device), accelerated=False)
        layer = find_layer(engines) if hears else None
        reader = _Reader(engines, Path(staging), EncoderListener(layer) if layer else None)
        heard_of = {case.case for case in _thin(training, MOST_TRAINING)}
        features: dict[bool, list[np.ndarray]] = {False: [], True: []}
        properties: dict[str, ImageProperties] = {}
        listed = [*((_source(root, case), True) for case in training), *((one, False) for one in out_of_fold)]
        with progress_bar("input contract", len(listed)) as bar:
            for source, is_training in listed:
                needs_features = not is_training or source.name in heard_of
                properties[source.name], vector = reader.measure(source, needs_features)
                if vector is not None:
                    features[is_training].append(vector)
                bar.advance(note=source.name)
    return _Measured(group, layer or "", np.array(features[True]), np.array(features[False]), properties)


def _source(root: Path, case: ListedCase) -> PredictionInput:
    return PredictionInput(case.case, (root / case.image,))


def find_layer(engines: Engines) -> str | None:
    """The layer of the coarsest features of a bundle's first network, without the wrapper of this package."""
    network = getattr(engines.parts.networks[0], "network", None)
    if not isinstance(network, torch.nn.Module):
        return None
    inferer = engines.parts.inferer  # that of networks without padding has tiles, and its class comes with the bundle
    window = getattr(inferer, "tile_size", None) or inferer.roi_size
    shape = (1, len(engines.parts.expected.channel_names), *window)
    return find_bottleneck(network, torch.zeros(shape, device=engines.parts.device))


class _Reader:
    """Measures images one by one, through the steps of the case loop."""

    def __init__(self, engines: Engines, staging: Path, listener: EncoderListener | None) -> None:
        self.engines, self.listener = engines, listener
        self.loop = CaseLoop(engines, staging, {}, "", PredictOptions(), without_record(staging))
        if listener is not None and not listener.attach(engines):
            self.listener = None

    def measure(self, source: PredictionInput, needs_features: bool) -> tuple[ImageProperties, np.ndarray | None]:
        """Properties of an image, and its features."""
        case = self.loop.read(source)
        if case.image is None:
            raise ValueError("the image was dropped before it was looked at")
        seen = measure_image(case.image, self.engines.parts.expected.counts_pixels, name_missing(case))
        if self.listener is None or not needs_features or case.missing_channels:
            return seen, None
        with self.listener.listen() as heard:
            self.loop.infer(case)
        return seen, heard[0] if heard else None


def fit_images(
    images: Sequence[ImageProperties], owners: Sequence[str], false_alarm_rate: float
) -> tuple[StageRecord, np.ndarray]:
    """The comparison before the network, and the mean thumbnail.

    Args:
        images: properties of the training's images.
        owners: patient of each; all of one are left out at once.
        false_alarm_rate: that is wanted.
    """
    shared = set.intersection(*(set(one.numbers) for one in images))
    thumbnails = np.stack([one.thumbnail for one in images]).astype(np.float64)
    total = thumbnails.sum(axis=0)
    others = _find_others(owners)
    layouts = []
    for index, thumbnail in enumerate(thumbnails):
        own = ~others[index]
        layouts.append(measure_layout(thumbnail, (total - thumbnails[own].sum(axis=0)) / max(1, others[index].sum())))
    names = [*sorted(shared), *layouts[0]]
    values = np.array(
        [[{**one.numbers, **layout}[name] for name in names] for one, layout in zip(images, layouts, strict=True)]
    )
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(find_group(name), []).append(index)
    groups["all"] = list(range(len(names)))
    floors = np.array([find_floor(name) for name in names])
    left_out = np.array(
        [
            fit_distribution(values[rows], names, groups, floors).measure(value)
            for value, rows in zip(values, others, strict=True)
        ]
    )
    distribution = fit_distribution(values, names, groups, floors)
    return _settle(distribution, values, left_out, false_alarm_rate), total / len(images)


def _find_others(owners: Sequence[str]) -> list[np.ndarray]:
    """For each case, which cases are of other owners; all but itself where one owner has them all."""
    named = np.array(owners)
    rows = []
    for index, owner in enumerate(owners):
        others = named != owner
        rows.append(others if others.sum() >= 2 else np.arange(len(owners)) != index)
    return rows


def fit_encoders(measured: Sequence[_Measured], false_alarm_rate: float) -> tuple[list[EncoderRecord], list[str]]:
    """The comparison behind the network, for every network, and what cannot be judged.

    Directions, means and spreads come from training cases; units and threshold from out-of-fold cases of all networks together.
    """
    usable = [one for one in measured if len(one.training) >= FEWEST_CASES and len(one.out_of_fold)]
    num_out_of_fold = sum(len(one.out_of_fold) for one in usable)
    if num_out_of_fold < FEWEST_CASES:
        num_cases = sum(len(one.group.cases) for one in measured)
        return [], [
            f"The network's own features are not compared: {num_cases} out-of-fold case(s), expected at least {FEWEST_CASES}."
        ]
    num_components = min(_MOST_COMPONENTS, *(max(1, len(one.training) // _CASES_PER_COMPONENT) for one in usable))
    num_components = min(num_components, *(one.training.shape[1] for one in usable))
    bases = [_find_basis(one.training, num_components) for one in usable]
    names = [*(f"encoder_component_{number}" for number in range(num_components)), "encoder_remainder"]
    groups = {"encoder": list(range(len(names)))}
    floors = np.full(len(names), _ENCODER_FLOOR)
    projected = [
        np.array([project_features(vector, *basis) for vector in one.training])
        for one, basis in zip(usable, bases, strict=True)
    ]
    unseen = [
        np.array([project_features(vector, *basis) for vector in one.out_of_fold])
        for one, basis in zip(usable, bases, strict=True)
    ]
    fitted = [fit_distribution(values, names, groups, floors) for values in projected]
    left_out = np.array([one.measure(value) for one, values in zip(fitted, unseen, strict=True) for value in values])
    records = [
        EncoderRecord(
            weights_sha256=compute_sha256(one.group.weights[0]),
            fold=one.group.fold,
            layer=one.layer,
            num_training=len(one.training),
            centre=basis[0].tolist(),
            spread=basis[1].tolist(),
            components=basis[2].tolist(),
            comparison=_settle(distribution, np.concatenate([seen, new]), left_out, false_alarm_rate),
        )
        for one, basis, distribution, seen, new in zip(usable, bases, fitted, projected, unseen, strict=True)
    ]
    folds = f"{len(usable)} fold(s)"
    notes = [f"The network's own features are judged by {num_out_of_fold} out-of-fold case(s) of {folds}."]
    return records, [*notes, *_note_rate(records[0].comparison, false_alarm_rate, "the network's features")]


def _find_basis(features: np.ndarray, num_components: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, spread and principal components of features, shape (cases, features)."""
    centre, spread = features.mean(axis=0), features.std(axis=0)
    spread = spread + 0.05 * np.median(spread) + 1e-6
    _, _, components = np.linalg.svd((features - centre) / spread, full_matrices=False)
    return centre, spread, components[:num_components]


def _settle(
    distribution: Distribution, values: np.ndarray, left_out: np.ndarray, false_alarm_rate: float
) -> StageRecord:
    """A comparison as a record, with units and threshold from cases that were left out, shape (cases, properties and groups)."""
    names = distribution.names
    distribution = replace(distribution, units=choose_units(left_out, len(names)))
    scores = np.sort((left_out / distribution.units).max(axis=1))
    units = distribution.units.tolist()
    properties = [
        PropertyRecord(name=name, lowest=low, highest=high, centre=centre, spread=spread, unit=unit)
        for name, low, high, centre, spread, unit in zip(
            names,
            values.min(axis=0).tolist(),
            values.max(axis=0).tolist(),
            distribution.centre.tolist(),
            distribution.spread.tolist(),
            units,
            strict=False,
        )
    ]
    groups = [
        GroupRecord(name=name, properties=[names[place] for place in places], shrinkage=shrinkage, unit=unit)
        for (name, places), shrinkage, unit in zip(
            distribution.groups.items(), distribution.shrinkage, units[len(names) :], strict=True
        )
    ]
    return StageRecord(
        properties=properties,
        groups=groups,
        correlation=distribution.correlation.tolist(),
        threshold=float(max(1.0, scores[find_rank(len(scores), false_alarm_rate)])),
        num_cases=len(scores),
        false_alarm_rate=find_rate(len(scores), false_alarm_rate),
        scores=scores.tolist(),
    )


def _note_rate(stage: StageRecord, wanted: float, what: str) -> list[str]:
    if stage.false_alarm_rate <= wanted:
        return []
    return [
        f"{stage.num_cases} cases can promise no fewer false alarms by {what} than {100 * stage.false_alarm_rate:.0f} %; "
        f"{100 * wanted:.0f} % take {int(np.ceil(1 / wanted)) - 1} cases."
    ]


def _note_channels(plan: Plan) -> list[str]:
    if not plan.missing_channels:
        return []
    return [
        f"Trained with the channels {', '.join(plan.channel_names)}, of which an image may lack {', '.join(plan.missing_channels)}, but not "
        "all; of an image that lacks some, only its grid and the intensities of its channels are compared."
    ]


def _collect_words(images: Sequence[ImageProperties]) -> dict[str, list[str]]:
    words: dict[str, set[str]] = {}
    for one in images:
        for name, value in one.words.items():
            words.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in sorted(words.items())}


def _thin(cases: Sequence[ListedCase], most: int) -> list[ListedCase]:
    """At most so many cases, spread over the list."""
    if len(cases) <= most:
        return list(cases)
    return [cases[index] for index in np.linspace(0, len(cases) - 1, most).round().astype(int)]


def _round(content: object) -> object:
    """Numbers with six significant digits."""
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, dict):
        return {key: _round(value) for key, value in content.items()}
    return [_round(value) for value in content] if isinstance(content, list) else content
