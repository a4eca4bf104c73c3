"""Messages of the DICOM reader. None of them has a place for a field of the patient or a UID."""

from __future__ import annotations

from unet_pipeline.messages import ERROR, NOTE, WARNING, Message

CORRUPT = Message(
    "dicom-corrupt",
    ERROR,
    "is a damaged DICOM file: {cause}",
    "Copy it again from its source, or remove the series.",
)
NO_DICOM = Message(
    "dicom-none", ERROR, "has no DICOM file", "Give a folder that holds the files of one series, or an image file."
)
NOT_DICOM = Message(
    "dicom-foreign-files",
    WARNING,
    "holds {count} file(s) that are no DICOM and are passed over: {names}",
    "If one of them is a slice, the volume lacks it: copy it again from its source. Otherwise nothing has to be done.",
)
SLICES_LEFT_OUT = Message(
    "dicom-slices-left-out",
    WARNING,
    "holds files that belong to {taken} and are not part of the volume: {names}",
    "See that they are no slices of it; export the series again if they are.",
)
SEVERAL_PICTURES = Message(
    "dicom-several-pictures",
    ERROR,
    "holds {count} pictures without position, which make no volume: {names}",
    "Give them one by one, or all in a folder whose files are such pictures.",
)
NO_IMAGE_SERIES = Message(
    "dicom-no-images",
    ERROR,
    "has no series of images, only {found}",
    "Export the series that shows the anatomy.",
)
SEVERAL_SERIES = Message(
    "dicom-several-series",
    ERROR,
    "holds {count} series: {listed}",
    "Put each series into a folder of its own.",
)
SET_ASIDE = Message(
    "dicom-set-aside",
    NOTE,
    "holds {listed} beside {taken}, which is taken because it is the only series of images",
    "Nothing has to be done.",
)
MIXED_SLICES = Message(
    "dicom-mixed-slices",
    ERROR,
    "has {difference}, as {first} of the same series has",
    "Export the slices of one acquisition alone.",
)
DUPLICATED_SLICE = Message(
    "dicom-duplicated-slice",
    ERROR,
    "lies at {position:.2f} mm along the normal, where {other} lies",
    "Remove the copy; if both belong to different times or echoes, export them as series of their own.",
)
MISSING_SLICE = Message(
    "dicom-missing-slice",
    ERROR,
    "has a gap of {gap:.2f} mm between {first} and {second}, the others are {usual:.2f} mm",
    "Export the series again; a missing slice cannot be made up.",
)
GANTRY_TILT = Message(
    "dicom-gantry-tilt",
    ERROR,
    "was taken with a tilted gantry, its slices are shifted by {angle:.1f} degrees against their normal",
    "Resample it to a straight grid, for example with dcm2niix.",
)
NO_SPACING = Message("dicom-no-geometry", ERROR, "lacks {missing}", "Export the original series, not a processed one.")
BAD_GEOMETRY = Message(
    "dicom-bad-geometry",
    ERROR,
    "has {found} by its header, which is no grid",
    "Export the original series, not a processed one.",
)
COLOUR = Message("dicom-colour", ERROR, "is a colour picture ({kind})", "Export the original series in grey.")
NOT_DECODED = Message(
    "dicom-not-decoded",
    ERROR,
    "has pixels that cannot be decoded ({syntax})",
    "Export it uncompressed, or copy it again if it is damaged.",
)
SHORT_PIXELS = Message(
    "dicom-truncated",
    ERROR,
    "is truncated, {found} bytes of pixels of {expected}",
    "Copy it again from its source.",
)
FRAMES_WITHOUT_POSITION = Message(
    "dicom-frames-without-position",
    ERROR,
    "has {count} frames without positions, such as a film",
    "Export a volume, or single pictures.",
)
INVERTED = Message(
    "dicom-inverted",
    NOTE,
    "is stored inverted (MONOCHROME1) and was turned, so that larger values are brighter",
    "Use images of one kind for training and prediction.",
)
