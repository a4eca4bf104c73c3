"""Two masks of one label, with what several metrics share: surface distances, lesions and instances are found once, when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from unet_pipeline.evaluation.instances import InstanceScores, score_instance_maps, score_instances
from unet_pipeline.evaluation.lesions import LesionDetection, detect_lesions
from unet_pipeline.evaluation.metrics import compute_volume_error
from unet_pipeline.evaluation.separation import Separation, score_separation
from unet_pipeline.evaluation.surface import SurfaceDistances, compute_surface_distances

if TYPE_CHECKING:
    from unet_pipeline.types import LabelMap, Mask

DEFAULT_TOLERANCE = 1.0


@dataclass(frozen=True)
class Request:
    """What is measured for one label beside the metrics that every label gets.

    Attributes:
        tolerance: of the normalised surface dice, in the unit of the spacing.
        lesions: lesion-wise detection.
        thin: clDice.
        separated: V_rand and V_info.
    """

    tolerance: float = DEFAULT_TOLERANCE
    lesions: bool = False
    thin: bool = False
    separated: bool = False


@dataclass(frozen=True)
class MaskPair:
    """Reference and prediction of one label.

    Attributes:
        reference: bool, shape (i, j) or (i, j, k).
        prediction: bool, same shape and grid.
        spacing: size of a voxel along each axis, in the unit of lengths.
        voxel_size: of one voxel, in the unit of sizes.
        request: for this label.
        instances: the reference's instance map, same shape; 0 outside, one value per object. None without one.
        predicted_instances: likewise; the connected parts of the prediction, if None.
    """

    reference: Mask
    prediction: Mask
    spacing: Sequence[float]
    voxel_size: float
    request: Request = field(default_factory=Request)
    instances: LabelMap | None = None
    predicted_instances: LabelMap | None = None

    @cached_property
    def distances(self) -> SurfaceDistances:
        """Between the border voxels of both."""
        return compute_surface_distances(self.reference, self.prediction, self.spacing)

    @cached_property
    def volume_error(self) -> float:
        """Size of the prediction less that of the reference."""
        return compute_volume_error(self.reference, self.prediction, self.voxel_size)

    @cached_property
    def lesions(self) -> LesionDetection:
        """Lesions that were found, and findings that are one."""
        return detect_lesions(self.reference, self.prediction)

    @cached_property
    def separation(self) -> Separation:
        """Whether the connected parts are told apart."""
        return score_separation(self.reference, self.prediction)

    @cached_property
    def instance_scores(self) -> InstanceScores:
        """Instances that were found and told apart; a ValueError without an instance map."""
        if self.instances is None:
            raise ValueError("instances is None; expected an instance map for metrics of instances")
        if self.predicted_instances is None:
            return score_instances(self.instances, self.prediction)
        return score_instance_maps(self.instances, self.predicted_instances)
