"""Reader of plain folders: `images/` and `labels/` with the same file stems."""

from __future__ import annotations

from pathlib import Path

from pipeline.dataset.dataset import Case, Dataset, case_name, list_images

LAYOUT = "plain folders"
IMAGES, LABELS = "images", "labels"


def matches(root: Path) -> bool:
    """Whether `root` has both folders."""
    return (root / IMAGES).is_dir() and (root / LABELS).is_dir()


def read(root: Path) -> Dataset:
    """The dataset at `root`; an image without label, or a label without image, is a problem of the layout."""
    images, problems = _find_cases(root, IMAGES)
    labels, problems_of_labels = _find_cases(root, LABELS)
    problems += problems_of_labels
    problems += [
        (str(images[name]), "has no label", f"Add {LABELS}/{images[name].name}, or remove the image.")
        for name in sorted(images.keys() - labels.keys())
    ]
    problems += [
        (str(labels[name]), "has no image", f"Add {IMAGES}/{labels[name].name}, or remove the label.")
        for name in sorted(labels.keys() - images.keys())
    ]
    cases = tuple(Case(name, images[name], labels[name]) for name in sorted(images.keys() & labels.keys()))
    return Dataset(root=root, layout=LAYOUT, cases=cases, problems_of_layout=tuple(problems))


def _find_cases(root: Path, folder: str) -> tuple[dict[str, Path], list[tuple[str, str, str]]]:
    """Files by case name, and those whose name another file has already taken."""
    found: dict[str, Path] = {}
    problems = []
    for path in list_images(root / folder):
        relative = path.relative_to(root)
        first = found.setdefault(case_name(path), relative)
        if first != relative:
            problems.append((str(relative), f"has the case name of {first.name}", "Keep one file per case."))
    return found, problems
