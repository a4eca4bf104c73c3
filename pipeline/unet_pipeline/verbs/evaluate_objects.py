"""The label maps of an evaluation as DICOM objects of their series, by the writers of `predict`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.clinical.formats import DICOM_FORMATS, choose_format
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.dataset.manifest import read_manifest
from unet_pipeline.dataset.prepare import find_source
from unet_pipeline.errors import EvaluationError, suggest
from unet_pipeline.evaluation.groups import Group
from unet_pipeline.planning.plan import Plan
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.outputs import CaseResult, ResultFormat, find_output, read_label_map
from unet_pipeline.verbs.predict import list_used_files, settle_recorded


def require_object_format(folder: BundleFolder, name: str | None, are_given: bool) -> None:
    """Whether the predictions of an evaluation can be written in a format; None is no further format.

    Raises:
        EvaluationError: it is no format of DICOM objects, or what predicted is not known.
    """
    if name is None:
        return
    if name not in DICOM_FORMATS:
        raise EvaluationError(
            f"--format is {name!r}; {suggest(name, DICOM_FORMATS)}. `evaluate` writes its predictions also as one of "
            f"{', '.join(DICOM_FORMATS)}."
        )
    if are_given or not folder.is_planned:
        cause = "--predictions gives label maps" if are_given else f"{folder.name} was not made by `plan`"
        raise EvaluationError(
            f"--format {name} writes what this call predicts with a bundle of `plan`, and {cause}. Leave --format out, or use `predict "
            "--format`."
        )


@dataclass(frozen=True)
class Objects:
    """DICOM objects that an evaluation is to write.

    Attributes:
        folder: the bundle.
        groups: cases, and the weights that predict them.
        sources: the series of each group's cases.
        result_format: of the objects.
    """

    folder: BundleFolder
    groups: Sequence[Group]
    sources: Sequence[Sequence[PredictionInput]]
    result_format: ResultFormat

    def write(
        self,
        label_maps: Sequence[Path],
        options: PredictOptions,
        workers: JobOptions | None,
        suffix: str,
        announce: Callable[[str], None],
    ) -> None:
        """Write the label maps of each group into a folder beside theirs; what lies there is replaced by the same.

        Args:
            label_maps: the folder of each group's label maps.
            options: with which they were predicted.
            workers: who predicted; this process, if None.
            suffix: of the label maps.
            announce: told what the user should know of an object, and where they are.

        Raises:
            PredictionError: an object cannot be written.
        """
        from unet_pipeline.evidence.records.prediction_record import open_ledger

        settled = settle_recorded(self.folder, options, self.result_format, workers)
        for problem in self.result_format.notes:
            announce(f"note     {problem.file} {problem.cause}. {problem.remedy}")
        for group, sources, maps in zip(self.groups, self.sources, label_maps, strict=True):
            used = list_used_files(self.folder, group.weights, options)
            origin = open_ledger(self.folder, maps, used, settled).origin
            target = maps.with_name(f"{maps.name}_{self.result_format.name}")
            for source in sources:
                values, affine = read_label_map(find_output(source, maps, suffix))
                final = target / f"{source.name}{self.result_format.suffix}"
                result = CaseResult(source, affine, values, origin)
                for note in self.result_format.save(final, result) if self.result_format.save else ():
                    announce(f"note     {note.file} {note.cause}. {note.remedy}")
            announce(f"written  {len(sources)} {self.result_format.name} to {target}")


def choose_objects(folder: BundleFolder, plan: Plan, groups: Sequence[Group], name: str | None) -> Objects | None:
    """What is to be written in a format, before hours of prediction; None without a format.

    Raises:
        EvaluationError: the series that `plan` copied are not there any more.
        PredictionError: an image is no DICOM.
    """
    if name is None:
        return None
    sources = [_find_series(folder, plan, group) for group in groups]
    return Objects(folder, groups, sources, choose_format(folder, name, [one for found in sources for one in found]))


def _find_series(folder: BundleFolder, plan: Plan, group: Group) -> list[PredictionInput]:
    """The images of a group; of a copy that `plan` made, what it was copied from."""
    copies = (folder.root / plan.dataset_dir).resolve()
    manifest = read_manifest(folder.dataset_manifest, folder.name)
    if not manifest.prepared:
        return [case.source for case in group.cases]
    original = find_source(copies)
    sources = []
    for source in (case.source for case in group.cases):
        if source.files[0].resolve().is_relative_to(copies):
            if original is None:
                raise EvaluationError(
                    f"The series that {copies.name}/ was copied from are not where they were ({copies.name}/copies.json names the place), "
                    f"and the objects refer to them. Put {manifest.dataset_name} back, or give it: `evaluate BUNDLE DATASET --format NAME`."
                )
            source = PredictionInput(
                source.name, tuple(original / image for image in manifest.cases[source.name].image)
            )
        sources.append(source)
    return sources
