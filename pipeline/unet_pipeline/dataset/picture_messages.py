"""Messages and limits that the readers of PNG, JPEG and TIFF share."""

from __future__ import annotations

from unet_pipeline.messages import ERROR, NOTE, WARNING, Message

MAX_PIXELS = 2**28  # a page of 16,384 x 16,384
MAX_RATIO = (
    2**14
)  # pixels to stored bytes; beyond what PNG (8,256 with one bit) and JPEG (some 500) reach on a blank page

SAVE_LABELS = (
    "Save the label values as a grey PNG, without smoothing and without lossy compression; of a mask of two values `--fix OUT` does so in a "
    "copy."
)
OTHER_CONTENT = Message(
    "picture-other-content",
    ERROR,
    "holds {found} data, but its name says {expected}",
    "Give it the suffix of its content, or save it again in the format that its name says.",
)
TRUNCATED = Message(
    "picture-truncated", ERROR, "is truncated or damaged: {cause}", "Copy it again from its source, or remove the case."
)
TOO_LARGE = Message(
    "picture-too-large",
    ERROR,
    "claims {width} x {height} pixels on {pages} page(s) in a file of {size} bytes; expected at most {limit} pixels a page",
    "Copy it again from its source, or cut it into tiles.",
)
SEVERAL_PAGES = Message(
    "picture-pages",
    ERROR,
    "has {pages} pages; expected one",
    'Choose "pages as slices" (--pages-as-slices) to read the pages as the slices of a volume, save one page, or save it as ImageJ or '
    "OME-TIFF, whose tags say what a page is.",
)
ANIMATED = Message(
    "picture-animated",
    ERROR,
    "is an animation of {frames} frames; expected one picture",
    "Save the frame that is meant as a picture of its own.",
)
COLOUR_MODE = Message(
    "picture-colour-mode",
    ERROR,
    "cannot be used, its colour mode is {mode}; expected grey or RGB without alpha",
    "Save it as grey or as RGB.",
)
UNCLEAR_PIXELS = Message(
    "picture-unclear-pixels",
    ERROR,
    "stores its pixels as {found}; expected grey with black as 0, RGB, or channels",
    "Save it as grey or RGB of 8 or 16 bit, or with a channel per file.",
)
ORIENTATION = Message(
    "picture-orientation",
    ERROR,
    "has the orientation tag {found}; expected 1, because programs differ on whether they turn the picture by it",
    "Turn the pixels themselves and save without the tag, and see that image and label still match.",
)
OPAQUE = Message(
    "picture-opaque-alpha", NOTE, "has an alpha channel that is {value} everywhere; it is left out", "Nothing to do."
)
LOSSY_IMAGE = Message(
    "picture-lossy",
    WARNING,
    "is compressed with JPEG, which changes intensities near edges",
    "Use the original in a format without loss where there is one.",
)
LOSSY_LABEL = Message(
    "label-lossy", ERROR, "is compressed with JPEG, which is lossy and changes label values", SAVE_LABELS
)

UNEQUAL_PAGES = Message(
    "picture-unequal-pages",
    ERROR,
    "has pages that do not fit together: page 1 is {first}, page {page} is {found}",
    "Save pages of equal size and type, or one file per image.",
)
