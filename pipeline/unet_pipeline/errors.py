"""Errors that a user can act on.

Every message says what is wrong with its value, what was expected, which file, and what to do. The command line
prints them without a traceback and exits with status 1; anything else that escapes is a defect of this project.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PipelineError(Exception):
    """A problem of the input or the run that the user can act on."""


class DatasetError(PipelineError):
    """The dataset folder, one of its files, or its label table has a problem."""


class ImageFileError(DatasetError):
    """One file of a dataset that cannot be used.

    Attributes:
        file: the path as the user should see it, relative to the dataset.
        cause: what is wrong, continuing the sentence that begins with the file.
        remedy: what to do, as a sentence.
        code: of the message, as in the list of all messages.
    """

    def __init__(self, file: str, cause: str, remedy: str, code: str = "unreadable") -> None:
        super().__init__(f"{file} {cause}. {remedy}")
        self.file, self.cause, self.remedy, self.code = file, cause, remedy, code


class FileError(PipelineError):
    """A file or folder that the operating system does not let us read or write.

    Attributes:
        file: the path as the user should see it.
        cause: what is wrong, continuing the sentence that begins with the file.
        remedy: what to do, as a sentence.
    """

    def __init__(self, file: str, cause: str, remedy: str) -> None:
        super().__init__(f"{file} {cause}. {remedy}")
        self.file, self.cause, self.remedy = file, cause, remedy


class FileContentError(FileError, ValueError):
    """A file that can be read, and whose text, JSON or YAML is damaged; a ValueError too, as those that the parsers raise."""


class PlanError(PipelineError):
    """A value of the plan or of the configs made from it has a problem."""


class BundleError(PipelineError):
    """A bundle folder is incomplete, or does not do what it says."""


class TrainingError(PipelineError):
    """Training cannot start or cannot go on."""


class PredictionError(PipelineError):
    """An image cannot be predicted, or its result cannot be written."""


class EvaluationError(PipelineError):
    """Prediction files and reference files cannot be compared."""


class CohortError(PipelineError):
    """Workers that cannot be had, or items that failed."""


class PreemptedError(SystemExit):
    """A signal ended a run outside of a training's steps; the exit status is 0, as for a training that stops after its step.

    Attributes:
        signal_name: such as SIGTERM.
        is_recorded: whether a run record has it, so that `--resume` finds the run.
    """

    def __init__(self, signal_name: str) -> None:
        super().__init__(0)
        self.signal_name, self.is_recorded = signal_name, False


def suggest(name: str, choices: Iterable[str]) -> str:
    """Sentence that lists the nearest of `choices`, for a message about an unknown `name`.

    Args:
        name: what the user wrote.
        choices: every name that would have been right.

    Returns:
        "did you mean 'num_epochs'" when something is near, otherwise "known are: ..." (sorted, complete).
    """
    known = sorted(set(choices))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:
        # 'epoch' for 'num_epochs': too short for difflib's ratio, yet plainly meant
        near = [choice for choice in known if name.lower() in choice.lower()][:1]
    return f"did you mean {near[0]!r}" if near else "known are: " + ", ".join(known)
