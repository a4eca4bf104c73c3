"""Reader of images without label maps: they can be checked and predicted, not planned."""

from __future__ import annotations

from pathlib import Path

from unet_pipeline.dataset.dataset import Case, Dataset, case_name, image_suffix, list_images
from unet_pipeline.dataset.dicom_folders import find_series, name_series
from unet_pipeline.messages import ERROR, Message

LAYOUT = "images without labels"

NO_LABELS = Message(
    "no-labels",
    ERROR,
    "has images, and no label maps in a known layout",
    "They can be predicted. To plan and train, put label maps into labels/ and the images into images/, with the same file names.",
)


def matches(root: Path) -> bool:
    """Whether `root` has images, is a DICOM series, or has series below it."""
    return root.is_dir() and bool(list_images(root) or find_series(root))


def read(root: Path) -> Dataset:
    """The images of `root`, each a case without a label."""
    images = list_images(root) or find_series(root)
    cases = tuple(
        Case(case_name(path) if image_suffix(path) else name_series(root, path), path.relative_to(root), None)
        for path in images
    )
    return Dataset(root=root, layout=LAYOUT, cases=cases, problems_of_layout=(NO_LABELS.about("dataset"),))
