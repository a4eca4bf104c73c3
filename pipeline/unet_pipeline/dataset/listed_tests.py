"""The images that a dataset.json names for testing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unet_pipeline.dataset.dataset import case_name, image_suffix
from unet_pipeline.dataset.paths import parse_path
from unet_pipeline.errors import DatasetError

TEST_KEYS = ("testing", "test")
_MOST_CHANNELS = 100


def find_test_images(root: Path, content: Mapping[str, object]) -> tuple[Path, ...]:
    """The files that exist of the entries under `testing` and `test`: paths, lists of paths, or objects with `image`.

    An entry of another form, or of a file that is elsewhere, is passed over, as nothing is trained on it.

    Returns:
        Paths from the root, each once; of nnU-Net's CASE.ext the files CASE_0000.ext and so on.
    """
    test_images: dict[Path, None] = {}
    for key in TEST_KEYS:
        listed = content.get(key)
        for entry in listed if isinstance(listed, list) else ():
            images = entry.get("image") if isinstance(entry, dict) else entry
            for text in images if isinstance(images, list) else [images]:
                test_images |= dict.fromkeys(_find_files(root, text))
    return tuple(test_images)


def _find_files(root: Path, text: object) -> list[Path]:
    """The listed file, or those of its channels."""
    if not isinstance(text, str):
        return []
    try:
        path = parse_path(text, "test", root)
    except DatasetError:
        return []
    if (root / path).exists():
        return [path]
    stem, suffix = case_name(path), image_suffix(path)
    numbered = (path.with_name(f"{stem}_{number:04d}{suffix}") for number in range(_MOST_CHANNELS))
    return [file for file in numbered if (root / file).is_file()]
