"""Compares the images of a prediction with the bundle's input contract, before the network and behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import ContractVerdict
from unet_pipeline.errors import PredictionError
from unet_pipeline.files import compute_sha256
from unet_pipeline.messages import WARNING, Message, Problem
from unet_pipeline.prediction.engine import Case
from unet_pipeline.prediction.engines import Engines
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.quality.contract import (
    CONTRACT_FILE,
    ENCODER_STAGE,
    INSIDE,
    OUTSIDE,
    ContractRecord,
    EncoderRecord,
    Verdict,
    judge_image,
    judge_values,
    read_contract,
)
from unet_pipeline.quality.encoder import EncoderListener
from unet_pipeline.quality.properties import measure_image

OUTSIDE_CONTRACT = Message(
    "outside-contract",
    WARNING,
    "is outside of what the network was trained on: {property} is {value}, in training {seen}",
    "Look at the label map before you use it, or give images like those of the training; --strict refuses such images.",
)
UNUSUAL_INPUT = Message(
    "unusual-input",
    WARNING,
    "is unusual for the network: {property} is {value}, in training {seen}",
    "Look at the label map before you use it.",
)
NO_CONTRACT = (
    "contract none, so images are not compared with those of the training; `unet-pipeline package BUNDLE` makes it"
)


@dataclass
class ContractInspector:
    """See `Inspector`.

    Attributes:
        contract: of the bundle.
        sha256: of the contract.
        encoder: of the first network that predicts; None where its features are not compared.
        is_strict: images that are outside are refused.
        modalities: DICOM's codes of the training's images, once it is attached.
    """

    contract: ContractRecord
    sha256: str
    encoder: EncoderRecord | None
    is_strict: bool = False
    modalities: tuple[str, ...] = ()
    counts_pixels: bool = False
    _listener: EncoderListener | None = field(default=None, repr=False)

    def attach(self, engines: Engines) -> None:
        """See `Inspector`."""
        self.modalities, self.counts_pixels = engines.parts.expected.modalities, engines.parts.expected.counts_pixels
        if self.encoder is not None:
            listener = EncoderListener(self.encoder.layer)
            self._listener = listener if listener.attach(engines) else None

    def look(self, case: Case) -> None:
        """See `Inspector`."""
        if case.image is None:
            raise ValueError("the image was dropped before it was compared")
        image = measure_image(case.image, self.counts_pixels, name_missing(case))
        verdict = judge_image(self.contract, image, self.modalities)
        self._refuse(case, verdict)
        self._note(case, verdict)

    def listen(self, case: Case) -> AbstractContextManager[None]:
        """See `Inspector`."""
        if self._listener is None or self.encoder is None or case.missing_channels:  # its features are other ones
            return nullcontext()
        return self._listen(case, self._listener, self.encoder)

    @contextmanager
    def _listen(self, case: Case, listener: EncoderListener, encoder: EncoderRecord) -> Iterator[None]:
        with listener.listen() as heard:
            yield
        if not heard:
            return
        values = encoder.project(heard[0])
        verdict = judge_values(encoder.comparison, values, self.contract.outside_factor, ENCODER_STAGE)
        before = _read_verdict(case.judgement or ContractVerdict())
        self._refuse(case, verdict)
        self._note(case, max(before, verdict, key=lambda one: one.rank), compared=ENCODER_STAGE)

    def _refuse(self, case: Case, verdict: Verdict) -> None:
        if self.is_strict and verdict.word == OUTSIDE:
            shown = case.source.files[0].name
            raise PredictionError(
                f"{shown} is outside of what the network was trained on: {_name(verdict.name)} is {verdict.value}, in training "
                f"{verdict.seen}. Give images like those of the training, or predict without --strict."
            )

    def _note(self, case: Case, verdict: Verdict, compared: str = "image") -> None:
        """The judgement for the record; what was said of the image's properties gives way to what is said of both."""
        case.judgement = verdict.as_record(compared, self.sha256)
        codes = (OUTSIDE_CONTRACT.code, UNUSUAL_INPUT.code)
        case.notes = tuple(note for note in case.notes if note.code not in codes)
        if verdict.word != INSIDE:
            case.notes = (*case.notes, _describe(case, verdict))


def name_missing(case: Case) -> dict[int, str] | None:
    """Places and names of the channels that an image lacks, for `measure_image`."""
    if case.missing_channels is None:
        return None
    names = case.engine.parts.expected.channel_names
    return {place: name for place, name in enumerate(names) if name in case.missing_channels}


def _describe(case: Case, verdict: Verdict) -> Problem:
    message = OUTSIDE_CONTRACT if verdict.word == OUTSIDE else UNUSUAL_INPUT
    shown = case.source.files[0].name
    return message.about(shown, property=_name(verdict.name), value=verdict.value, seen=verdict.seen)


def _name(name: str) -> str:
    """A property in words."""
    if name.startswith("layout_match_over_"):
        other = name.removeprefix("layout_match_over_").replace("mirrored_", "mirrored along axis ").replace("_", " ")
        return (
            f"likeness to the training's layout, less that of the image {other.replace('exchanged', 'with exchanged')},"
        )
    return name.replace("_", " ")


def _read_verdict(judgement: ContractVerdict) -> Verdict:
    return Verdict(
        judgement.verdict, judgement.property, judgement.value, judgement.seen, judgement.ratio, judgement.stage
    )


def hash_contract(folder: BundleFolder) -> str:
    """SHA-256 of the bundle's contract; empty where it has none."""
    path = folder.evidence / CONTRACT_FILE
    return compute_sha256(path) if path.is_file() else ""


def build_inspector(
    folder: BundleFolder, weights: Sequence[Path], options: PredictOptions, sha256: str
) -> ContractInspector | None:
    """What compares the images of a call; None where nothing is to be compared.

    Args:
        folder: the bundle.
        weights: that predict.
        options: of the call.
        sha256: of the contract; empty if images are not compared.

    Raises:
        BundleError: the contract is damaged.
        PredictionError: images are to be refused, and there is no contract to say which.
    """
    contract = read_contract(folder) if sha256 else None
    if contract is None:
        if options.strict:
            raise PredictionError(
                f"{folder.name} has no input contract, so --strict cannot tell which images to refuse. Make one with `unet-pipeline "
                "package BUNDLE`, or predict without --strict."
            )
        return None
    encoder = contract.find_encoder([compute_sha256(path) for path in weights]) if options.runtime == "torch" else None
    return ContractInspector(contract, sha256, encoder, options.strict)
