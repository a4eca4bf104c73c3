"""What the case loop (`run.py`) asks of an engine, and what goes from step to step: read, prepare, infer, finish, write."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from monai.data import MetaTensor

from unet_pipeline.bundle.run_record import ContractVerdict, LabelMapDoubt
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.messages import Problem
from unet_pipeline.prediction.confidence import ConfidenceSums
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.parts import Parts


@dataclass
class Case:
    """An image on its way to the network. Its voxels are dropped as soon as nothing needs them: they are the most of the memory.

    Attributes:
        source: where it came from.
        engine: that takes it.
        files: that MONAI reads: one, whose header the label map gets, or for an external bundle one per channel.
        affine, spatial_shape: of the image.
        image: as read; None once it is prepared.
        prepared: on the network's grid.
        notes: what the user should know about it.
        confidence: gets what the network's probabilities say about the label map; nothing is added up, if None.
        doubt: what is known of its label map without a reference, for the record.
        missing_channels: names of the channels that the image lacks, or that have one value everywhere; None where none may be missing.
        judgement: whether it is like those of the training, for the record; None where it is not compared.
    """

    source: PredictionInput
    engine: Engine
    files: tuple[Path, ...]
    affine: np.ndarray
    spatial_shape: tuple[int, ...]
    image: MedicalImage | None = None
    prepared: MetaTensor | None = None
    notes: tuple[Problem, ...] = ()
    confidence: ConfidenceSums | None = None
    judgement: ContractVerdict | None = None
    doubt: LabelMapDoubt | None = None
    missing_channels: tuple[str, ...] | None = None


@dataclass
class CasePrediction:
    """What the network made of a case.

    Attributes:
        values: label values on the image's own grid, uint8; or what the bundle's writer is to write.
        probabilities: shape (classes, *spatial) on the same grid, if they were asked for.
        instances: likewise, shape (*spatial), of a bundle that was trained for them.
        extra: what the engine needs to write it.
    """

    values: Any
    probabilities: np.ndarray | None = None
    instances: np.ndarray | None = None
    extra: dict[str, object] = field(default_factory=dict)


class Engine(Protocol):
    """One way from an image to a label map."""

    @property
    def parts(self) -> Parts:
        """Of the bundle."""
        ...

    def takes(self, grid: ImageGrid) -> bool:
        """Whether the engine can predict an image on that grid."""
        ...

    def prepare(self, case: Case) -> None:
        """Bring the image to the network's grid, and drop it as it was read."""
        ...

    def infer(self, case: Case, with_probabilities: bool) -> CasePrediction:
        """The image through the network, and back to its own grid; `case.prepared` is dropped."""
        ...

    def write(self, case: Case, prediction: CasePrediction, final: Path, staging: Path) -> tuple[Problem, ...]:
        """Write the label map as `final`, whole or not at all.

        Args:
            staging: a folder that goes away.

        Returns:
            What the user should know about it.
        """
        ...

    def copy_for_thread(self) -> Engine:
        """The same networks with transforms of its own: MONAI's are not made for two threads."""
        ...


CPU = torch.device("cpu")
