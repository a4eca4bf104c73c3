"""One case: read and prepared, through the network, written. Each step may run in a thread of its own (`overlap.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from pipeline.dataset.medical_image import MedicalImage
from pipeline.dataset.problems import Problem
from pipeline.prediction.input_check import check_grid, check_input, check_size, see_grid
from pipeline.prediction.inputs import PredictionInput
from pipeline.prediction.out_of_memory import explain_out_of_memory
from pipeline.prediction.outputs import finish_output, probabilities_path, write_probabilities, write_volume
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.reuse import Ledger
from pipeline.training.memory import release_freed_pages

LARGE_BYTES = 1 << 26  # of an image whose preprocessing leaves more than page faults cost


@dataclass
class OpenedCase:
    """An image on its way to the network. Its voxels are dropped as soon as nothing needs them: they are the most of the memory.

    Attributes:
        source: where it came from.
        readable: a file that MONAI reads.
        affine: of the image.
        spatial_shape: of the image.
        notes: what the user should know about it.
        picture: as read, where no picture file can hold its values; `readable` is then a name without a file.
        image: as read; None once it is prepared, and where MONAI reads the file itself.
        prepared: on the network's grid.
    """

    source: PredictionInput
    readable: Path
    affine: np.ndarray
    spatial_shape: tuple[int, ...]
    notes: tuple[Problem, ...]
    image: MedicalImage | None = None
    picture: MedicalImage | None = None
    prepared: MetaTensor | None = None


@dataclass
class ComputedCase:
    """What the network made of a case.

    Attributes:
        opened: the case.
        values: label values on the image's own grid; None where MONAI writes the file.
        probabilities: on the same grid, if they were asked for.
        sample: for MONAI to write.
    """

    opened: OpenedCase
    values: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    sample: dict[str, Any] | None = None


@dataclass(frozen=True)
class CaseSteps:
    """The steps of every case of one call.

    Attributes:
        predictor: of the bundle.
        staging: a folder that goes away; MONAI writes there, and copies that it can read lie there.
        finals: the label map of each input.
        probabilities: write them too.
        prepares_ahead: preprocess right after reading, beside the network of the case before.
        ledger: of the folder of the label maps.

    Each step raises PredictionError where memory runs out.
    """

    predictor: Predictor
    staging: Path
    finals: Mapping[PredictionInput, Path]
    probabilities: bool
    prepares_ahead: bool
    ledger: Ledger

    def run(self, source: PredictionInput) -> tuple[Problem, ...]:
        """All steps of an image, in this thread; raises what they raise."""
        return self.write(self.compute(self.read(source)))

    def read(self, source: PredictionInput) -> OpenedCase:
        """Read and check an image.

        Raises:
            ImageFileError: a file cannot be read.
            PredictionError: the network cannot take it.
        """
        with self._explain(source), self.predictor.stopwatch.measure("read"):
            with suppress(OSError):  # reading says it better
                self.ledger.note_image(source)
            image = self._read_checked(source)
            shown = source.files[0].name
            notes = check_input(image, self.predictor.plan, shown, self.predictor.modalities)
            copies = self.staging / "readable"
            copies.mkdir(exist_ok=True)
            suffix = self.predictor.plan.image_suffix
            is_held = self.predictor.takes_picture(image) and not source.is_stock_readable(suffix)
            readable = copies / f"{source.name}{suffix}" if is_held else source.write_readable(image, copies, suffix)
        case = OpenedCase(source, readable, image.affine, image.spatial_shape, notes)
        if is_held:
            case.picture = image
        elif self.predictor.can_stream(image):
            case.image = image
            del image
            if self.prepares_ahead:
                with self._explain(source):
                    self._prepare(case)
        return case

    def _read_checked(self, source: PredictionInput) -> MedicalImage:
        """The voxels, once the header is sure to be of an image that fits; a series is judged by what was read, in one pass."""
        shown, is_series = source.files[0].name, any(path.is_dir() for path in source.files)
        plan = self.predictor.plan
        image = source.read(plan.spatial_dims) if is_series else None
        grid = see_grid(source.read_grid(plan.spatial_dims) if image is None else image.grid, plan)
        check_grid(grid, plan, shown)
        check_size(grid, self.predictor.preprocessing, shown)
        return source.read(plan.spatial_dims) if image is None else image

    def _explain(self, source: PredictionInput) -> AbstractContextManager[None]:
        """Of memory that runs out within a block."""
        return explain_out_of_memory(source.files[0].name, self.predictor.device, self.probabilities)

    def _prepare(self, case: OpenedCase) -> MetaTensor:
        if case.image is not None:
            case.prepared = self.predictor.preprocess(case.image)
            case.image = None
            if case.prepared.nbytes >= LARGE_BYTES:
                release_freed_pages()
        if case.prepared is None:
            raise ValueError("a case that MONAI reads itself is not prepared")
        return case.prepared

    def compute(self, case: OpenedCase) -> ComputedCase:
        """Label values, or what MONAI writes as such, of an image."""
        with self._explain(case.source):
            return self._compute(case)

    def _compute(self, case: OpenedCase) -> ComputedCase:
        if case.image is None and case.prepared is None:
            with self.predictor.stopwatch.measure("postprocess"):
                return ComputedCase(case, sample=self.predictor.predict_sample(case.readable, case.picture))
        prepared = self._prepare(case)
        values, found = self.predictor.stream(prepared, case.affine, case.spatial_shape, self.probabilities)
        case.prepared = None
        return ComputedCase(case, values, found)

    def write(self, computed: ComputedCase) -> tuple[Problem, ...]:
        """Give the label map its name; what the user should know about the image."""
        case = computed.opened
        final = self.finals[case.source]
        beside = probabilities_path(final, self.predictor.plan.output_suffix)
        with self._explain(case.source), self.predictor.stopwatch.measure("write"):
            self.ledger.make_room(case.source, final, beside)
            written, found = "", computed.probabilities
            if computed.sample is not None:
                written, found = self.predictor.write_sample(computed.sample, case.readable)
            if self.probabilities and found is not None:
                write_probabilities(beside, found, case.readable)
            if computed.values is not None:
                write_volume(final, computed.values, case.readable)
            else:
                finish_output(self.staging / written, case.readable, case.spatial_shape, final)
            self.ledger.finish(case.source, final, beside if self.probabilities and found is not None else None)
        return case.notes
