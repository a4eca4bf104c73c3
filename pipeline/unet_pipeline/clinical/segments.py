"""The structures of a bundle's results with their codes, for every DICOM object that names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.messages import WARNING, Message, Problem
from unet_pipeline.planning.label_codes import UNCODED, LabelCode, propose_code
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.types import BACKGROUND

NO_CODE = Message(
    "label-without-code",
    WARNING,
    "has no code for {names}, which become Tissue in DICOM results",
    'Write "SCT VALUE MEANING" for each under label_codes, as SNOMED CT has it; of an external bundle nothing can be done.',
)


@dataclass(frozen=True)
class Segment:
    """A structure of a result.

    Attributes:
        value: in label maps, or of its place where there is one for each structure.
        name: of the label.
        code: what it is; None where nobody said.
        channel: of the probabilities.
    """

    value: int
    name: str
    code: LabelCode | None
    channel: int

    @property
    def settled_code(self) -> LabelCode:
        """The code, or that of tissue."""
        return self.code or UNCODED


def list_segments(folder: BundleFolder) -> tuple[Segment, ...]:
    """The structures of a bundle's results, without the background, in the order of its labels."""
    if folder.is_planned:
        plan = read_plan(folder.plan)
        labels = enumerate(plan.label_table.items())
        return tuple(
            Segment(value, name, plan.code_of(name), channel) for channel, (name, value) in labels if name != BACKGROUND
        )
    from unet_pipeline.prediction.external import read_format

    names = read_format(folder.read_metadata(), folder.name).output_names
    return tuple(
        Segment(channel, name, propose_code(name), channel)
        for channel, name in enumerate(names)
        if name.lower() != BACKGROUND
    )


def find_uncoded(segments: Sequence[Segment]) -> tuple[Problem, ...]:
    """A warning about those that nobody said a code of."""
    names = ", ".join(segment.name for segment in segments if segment.code is None)
    return (NO_CODE.about("configs/plan.yaml", names=names),) if names else ()
