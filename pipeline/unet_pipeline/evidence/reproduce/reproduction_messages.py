"""What `reproduce` says about a difference to the record: an error stops the run, a note may change digits."""

from __future__ import annotations

from unet_pipeline.messages import ERROR, NOTE, Message

_OTHERS = "or give --anyway to run with what is there."
_EVIDENCE = f"Put the file of the sealed bundle back, {_OTHERS}"

MANIFEST_CHANGED = Message(
    "recorded-manifest-changed", ERROR, "is another one than at the time of the record", _EVIDENCE
)
NO_DATASET = Message(
    "recorded-dataset-not-there", ERROR, "is not where the plan says", "Say with --dataset where the dataset is."
)
FILE_CHANGED = Message(
    "recorded-file-changed",
    ERROR,
    "has changed: SHA-256 {now}, recorded {recorded}",
    f"Put the recorded file back, {_OTHERS}",
)
FILE_GONE = Message("recorded-file-gone", ERROR, "is missing", f"Put it back, {_OTHERS}")
INSTANCES_CHANGED = Message(
    "recorded-instances-changed", ERROR, "{change}", f"Put the instance map of the record back, {_OTHERS}"
)
LIST_CHANGED = Message(
    "recorded-list-changed", ERROR, "has changed: {fact}", f"Put the list of the record back, {_OTHERS}"
)
SPLIT_CHANGED = Message("recorded-split-changed", ERROR, "has changed{moves}", _EVIDENCE)
PLAN_CHANGED = Message(
    "recorded-plan-changed",
    ERROR,
    "differs: {name} is {now}, was {before}",
    f"Set it as before and run `unet-pipeline plan --refresh BUNDLE`, {_OTHERS}",
)
PLAN_TUNED = Message(
    "recorded-plan-tuned",
    NOTE,
    "differs: {name} is {now}, was {before} in the training",
    "Nothing to do: it concerns the inference, which an evaluation compares by itself.",
)
CONFIG_CHANGED = Message("recorded-config-changed", ERROR, "is another one than in the {run}{where}", _EVIDENCE)
VERSION_CHANGED = Message(
    "recorded-version-changed", ERROR, "is {now}, was {before}", f"Install the recorded version, {_OTHERS}"
)
OTHER_COMMIT = Message(
    "recorded-commit-differs",
    NOTE,
    "differs: commit {now}, was {before}",
    "Check out the recorded commit where the result differs.",
)
UNCOMMITTED = Message(
    "recorded-source-uncommitted",
    NOTE,
    "has changes {when} that no commit has",
    "Nothing to do; what was run then or is run now is in no commit.",
)
MACHINE_DIFFERS = Message(
    "recorded-machine-differs",
    NOTE,
    "differs: {name} is {now}, was {before}",
    "Nothing to do; the last digits may differ.",
)
NO_WEIGHTS = Message(
    "recorded-weights-not-there",
    NOTE,
    "has no weights of fold {fold}",
    "Nothing to do; the new weights are compared with the recorded SHA-256.",
)
WEIGHTS_CHANGED = Message(
    "recorded-weights-changed", ERROR, "is not what the recorded training of fold {fold} wrote", _EVIDENCE
)
START_GONE = Message(
    "recorded-start-not-there",
    ERROR,
    "is missing; the training started from it",
    f"Put the file back, {_OTHERS}",
)
START_CHANGED = Message(
    "recorded-start-changed",
    ERROR,
    "has changed; the training started from it",
    f"Put the recorded file back, {_OTHERS}",
)
NOT_RECORDED = Message(
    "recorded-evaluation-unknown",
    NOTE,
    "has no record: its weights and config are not known",
    "Evaluate again with `unet-pipeline evaluate BUNDLE` for a record.",
)
NUMBERS_CHANGED = Message("recorded-numbers-changed", ERROR, "was changed after the evaluation", _EVIDENCE)
SPLIT_OF_EVALUATION = Message(
    "recorded-evaluation-split", ERROR, "is another one than in the evaluation", f"Evaluate again, {_OTHERS}"
)
WEIGHTS_OF_EVALUATION = Message(
    "recorded-evaluation-weights",
    ERROR,
    "has other weights than those that the evaluation was made with",
    f"Evaluate again, {_OTHERS}",
)
