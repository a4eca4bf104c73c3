"""What cases tell only together: one that is unlike the others, the same image twice, a patient on both sides of a split."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np

from unet_pipeline.dataset.case_check import CaseFindings
from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.messages import ERROR, NOTE, WARNING, Message, Problem

TEST, _NOT_SAID = "test", "training"  # a case whose split is not said is trained on, or validates
_SPACING_OUTLIER = 3.0  # times the median, nnU-Net's threshold for an anisotropic axis
_VALUE_AND_COLOUR = re.compile(r"\b(\d+)=(#[0-9a-f]{6})")  # as the notes on colours and palettes write them

OTHER_DIMENSIONS = Message(
    "other-dimensions",
    ERROR,
    "has {found} {what}, most cases have {usual}",
    "Make all images alike, or remove the case.",
)
CHANNEL_NAMES = Message(
    "channel-names",
    ERROR,
    "names {named} channel(s) ({names}); its images have {found}",
    "Correct the channel names in dataset.json.",
)
SPACING_OUTLIER = Message(
    "spacing-outlier",
    WARNING,
    "has the spacing {found} mm, the median of the dataset is {usual} mm",
    "Make sure that the header is right and that the case belongs to the dataset.",
)
DUPLICATE_IMAGE = Message(
    "duplicate-image",
    WARNING,
    "has the same content as {other}",
    "Remove one of them. Until then both are one patient, and stay on one side of every split.",
)
DUPLICATE_ACROSS = Message(
    "duplicate-across-split",
    ERROR,
    "is for {split} and has the same content as {other}, which is for {other_split}",
    "Remove one of them; a result on an image that was trained on says nothing.",
)
PATIENT_ACROSS = Message(
    "patient-across-split",
    ERROR,
    "is for {split}, and {other} of the same patient is for {other_split}",
    "Put all cases of a patient on one side.",
)
LONE_PATIENT = Message(
    "nothing-to-validate",
    WARNING,
    "has {what}, so nothing can be validated: a validation shows what was trained on, and its Dice is no result",
    "Add cases of other patients; two patients are the least.",
)
PATIENTS_ALIKE = Message(
    "patients-alike",
    WARNING,
    "has the patient {patient!r}, {other} the patient {first!r}; they are taken for two patients",
    "Write both alike if they are one, so that their cases stay on one side of every split.",
)
COLOURS_DIFFER = Message(
    "label-colours-differ",
    ERROR,
    "gives the value {value} to the colour {found}, {other} to {expected}",
    "Save the label values as grey pictures, with one value per label in all files.",
)


def compare_cases(dataset: Dataset, findings: list[CaseFindings]) -> Iterator[Problem]:
    """Cases whose dimensions, channels or spacing differ from the majority's."""
    usual_dims = _most_common(len(finding.shape) for finding in findings)
    usual_channels = _most_common(finding.num_channels for finding in findings)
    alike = []
    for finding in findings:
        file = finding.case.image.as_posix()
        if len(finding.shape) != usual_dims:
            yield OTHER_DIMENSIONS.about(file, found=len(finding.shape), what="spatial dimensions", usual=usual_dims)
        elif finding.num_channels != usual_channels:
            yield OTHER_DIMENSIONS.about(file, found=finding.num_channels, what="channels", usual=usual_channels)
        else:
            alike.append(finding)
    if dataset.channels and usual_channels and len(dataset.channels) != usual_channels:
        names = ", ".join(dataset.channels)
        yield CHANNEL_NAMES.about("dataset", named=len(dataset.channels), names=names, found=usual_channels)
    if not alike:
        return
    usual = np.median([finding.spacing_mm for finding in alike], axis=0)
    for finding in alike:
        ratio = np.array(finding.spacing_mm) / usual
        if (np.maximum(ratio, 1 / ratio) > _SPACING_OUTLIER).any():
            shown = ["x".join(f"{size:.3g}" for size in sizes) for sizes in (finding.spacing_mm, usual)]
            yield SPACING_OUTLIER.about(finding.case.image.as_posix(), found=shown[0], usual=shown[1])


def _most_common(values: Iterable[int]) -> int | None:
    listed = list(values)
    return max(sorted(set(listed)), key=listed.count, default=None)


def find_twins(findings: list[CaseFindings]) -> list[tuple[CaseFindings, CaseFindings]]:
    """Pairs (first, later) of cases whose images have the same voxels."""
    first_with: dict[str, CaseFindings] = {}
    twins = []
    for finding in findings:
        if finding.image_digest:
            first = first_with.setdefault(finding.image_digest, finding)
            if first is not finding:
                twins.append((first, finding))
    return twins


def report_twins(twins: list[tuple[CaseFindings, CaseFindings]]) -> Iterator[Problem]:
    """Problems of images that are there twice; an error when they are on both sides of a split."""
    for first, later in twins:
        other, file = first.case, later.case.image.as_posix()
        sides = other.split or _NOT_SAID, later.case.split or _NOT_SAID
        if sides[0] != sides[1] and (_NOT_SAID not in sides or TEST in sides):
            yield DUPLICATE_ACROSS.about(file, split=sides[1], other=other.image, other_split=sides[0])
        else:
            yield DUPLICATE_IMAGE.about(file, other=other.image)


def find_patients_across(dataset: Dataset, patients: dict[str, str]) -> Iterator[Problem]:
    """Patients with cases on both sides of a split that the dataset brings."""
    sides = [{case.name: case.split for case in dataset.cases if case.split}]
    sides += [
        {**dict.fromkeys(training, "training"), **dict.fromkeys(validation, "validation")}
        for training, validation in dataset.folds
    ]
    seen = set()
    for side_of in sides:
        first_of: dict[str, str] = {}
        for name, side in side_of.items():
            patient = patients.get(name)
            if patient is None:
                continue
            first = first_of.setdefault(patient, name)
            if side_of[first] != side and (first, name) not in seen:
                seen.add((first, name))
                yield PATIENT_ACROSS.about(name, split=side, other=first, other_split=side_of[first])


def find_patients_alike(patients: dict[str, str]) -> Iterator[Problem]:
    """Patients whose names differ in letter case, in blanks, or in the form of Unicode only; one warning for each further name.

    Args:
        patients: of each case that has one.
    """
    first_of: dict[str, str] = {}
    seen: dict[str, str] = {}
    for case, patient in patients.items():
        plain = "".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", patient).casefold()).split())
        first = first_of.setdefault(plain, case)
        if patients[first] != patient and patient not in seen:
            seen[patient] = case
            yield PATIENTS_ALIKE.about(case, patient=patient, other=first, first=patients[first])


def find_lone_patient(dataset: Dataset, patients: dict[str, str]) -> Iterator[Problem]:
    """Whether there is one case, or one patient, to train and validate on; a dataset that brings its own split decides itself.

    Args:
        dataset: with its cases.
        patients: patient of each case that has one; images with the same voxels are of one patient.
    """
    if dataset.folds or any(case.split == "validation" for case in dataset.cases):
        return
    usable = [case.name for case in dataset.cases if case.label is not None and case.split != "test"]
    if len({patients.get(name, f"case {name}") for name in usable}) == 1:
        what = "one case to train on" if len(usable) == 1 else f"{len(usable)} cases of one patient to train on"
        yield LONE_PATIENT.about("dataset", what=what)


def compare_colours(findings: list[CaseFindings]) -> Iterator[Problem]:
    """Label files in colour or with a palette in which one value stands for another colour than in the first file."""
    first_with: dict[str, tuple[str, str]] = {}
    for finding in findings:
        file = finding.case.files[-1].as_posix()
        notes = " ".join(
            problem.cause for problem in finding.problems if problem.file == file and problem.severity == NOTE
        )
        for value, colour in _VALUE_AND_COLOUR.findall(notes):
            other, expected = first_with.setdefault(value, (file, colour))
            if colour != expected:
                yield COLOURS_DIFFER.about(file, value=value, found=colour, other=other, expected=expected)
                break
