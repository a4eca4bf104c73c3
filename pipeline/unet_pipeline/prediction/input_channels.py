"""Which channels an image lacks that is to be predicted, and whether the network does without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.missing_channels import find_constant, zero_constant
from unet_pipeline.errors import PredictionError
from unet_pipeline.messages import NOTE, Message, Problem
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.parts import Expected

MISSING_INPUT = Message(
    "missing-channels",
    NOTE,
    "lacks the channel(s) {names}; the network was trained to do without",
    "Give it the whole image where there is one: the label map is better then.",
)


def take_missing(
    image: MedicalImage, expected: Expected, source: PredictionInput
) -> tuple[MedicalImage, tuple[str, ...] | None]:
    """An image whose missing channels are at their mean, and the names of those.

    Args:
        image: as read, with as many channels as expected.
        expected: by the bundle.
        source: where it came from.

    Returns:
        The image as it is, and None, where the bundle was trained with all channels.

    Raises:
        PredictionError: there is no file of a channel that was never missing in the training.
    """
    names = expected.channel_names
    if refused := [names[place] for place in source.missing_channels if names[place] not in expected.missing_channels]:
        only = f", of which {', '.join(expected.missing_channels)} may be missing" if expected.missing_channels else ""
        raise PredictionError(
            f"{source.files[0].name} comes without the channel(s) {', '.join(refused)}; the bundle was trained with "
            f"{', '.join(names)}{only}. Add the files, or plan and train with --missing-channels any."
        )
    if not expected.missing_channels:
        return image, None
    constant = find_constant(image.array)
    if len(constant) == len(names):  # nothing is to be seen, which is said
        return image, ()
    missing = tuple(names[place] for place in constant if names[place] in expected.missing_channels)
    return (replace(image, array=zero_constant(image.array)) if missing else image), missing


def note_missing(missing: Sequence[str], shown: str) -> tuple[Problem, ...]:
    """What the user should know about an image without some channels."""
    return (MISSING_INPUT.about(shown, names=", ".join(missing)),) if missing else ()
