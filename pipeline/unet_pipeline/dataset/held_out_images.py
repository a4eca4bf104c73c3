"""Test images, in folders beside the training's or named by a list: whether one of them was trained on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from unet_pipeline.dataset.case_check import CaseFindings, digest_channels
from unet_pipeline.dataset.dataset import Dataset, list_images
from unet_pipeline.dataset.image import read_grid, read_image
from unet_pipeline.errors import ImageFileError
from unet_pipeline.messages import ERROR, Message, Problem

FOLDERS = ("imagesTs", "images_test", "test_images", "test/images", "test")
TRAINED_ON = Message(
    "test-image-trained-on",
    ERROR,
    "is a test image and has the same content as {other}, which is trained on",
    "Remove one of them; a result on an image that was trained on says nothing.",
)

LISTED_TWICE = Message(
    "test-image-listed",
    ERROR,
    "names {image} for testing, which case {case} is trained on",
    "Take it out of one of both; a result on an image that was trained on says nothing.",
)


def find_trained_test_images(dataset: Dataset, findings: list[CaseFindings]) -> Iterator[Problem]:
    """Test images that are files of a case, or have the voxels of one; only those of the same size are read."""
    trained = [finding for finding in findings if finding.case.split != "test"]
    cases = {digest: finding.case for finding in trained for digest in finding.channel_digests}
    shapes = {finding.shape for finding in trained if finding.shape}
    own = {os.path.realpath(dataset.root / path): finding.case for finding in findings for path in finding.case.files}
    listed = [dataset.root / path for path in dataset.test_images]
    for path in dict.fromkeys([*list_test_images(dataset.root), *listed]):
        if (case_of_file := own.get(os.path.realpath(path))) is not None:
            if path in listed and case_of_file.split != "test":
                shown = path.relative_to(dataset.root).as_posix()
                yield LISTED_TWICE.about(dataset.lists[0].as_posix(), image=shown, case=case_of_file.name)
            continue
        shown = path.relative_to(dataset.root).as_posix()
        try:
            if read_grid(path, shown).spatial_shape not in shapes:
                continue
            digests = digest_channels(read_image(path, shown))
        except ImageFileError:  # nothing is trained on it, so it is nobody's error here
            continue
        for case in [cases[digest] for digest in digests if digest in cases][:1]:
            yield TRAINED_ON.about(shown, other=case.image.as_posix())


def list_test_images(root: Path) -> list[Path]:
    """Image files in the usual folders for them."""
    if not root.is_dir():
        return []
    return [path for name in FOLDERS if (root / name).is_dir() for path in list_images(root / name)]
