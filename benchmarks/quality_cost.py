"""What input contract and expected Dice cost `predict`: whole processes in turns, with both, without their files, and without any of it.

    .venv/bin/python benchmarks/quality_cost.py BUNDLE IMAGES [BUNDLE IMAGES ...] [--turns 7] [--most 20] [--device cuda]

Each BUNDLE has both (`evaluate`, then `package`), such as one of volumes and one of pictures; IMAGES is a folder. `nothing added up` also
leaves out the sums over probabilities and the shapes, which every prediction notes. Writes results/quality_cost.md, on a GPU
results/quality_cost_cuda.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

import alternating
from predict_cases import time_process

from unet_pipeline.bundle.folder import BundleFolder, open_bundle
from unet_pipeline.files import write_text
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.prediction.inputs import list_inputs
from unet_pipeline.quality.contract import CONTRACT_FILE
from unet_pipeline.quality.expected_dice import EXPECTED_DICE_FILE

RESULTS = Path(__file__).parent / "results"
BOTH, NO_FILES, NOTHING = "contract and expected Dice", "neither file in the bundle", "nothing added up"
MOST_RATIO = 1.10
# the command line without the sums over probabilities, and so without shapes; it loads no more than `predict` does
_BARE = (
    "from unet_pipeline.prediction import confidence; confidence.ConfidenceSums = lambda *arguments: None; "
    "from unet_pipeline.cli import main; main()"
)


def copy_bundle(bundle: Path, target: Path, with_quality: bool) -> Path:
    """A copy without a seal, which the copy would break; and without what the claim is made of, if asked."""
    shutil.copytree(bundle, target)
    folder = BundleFolder(target)
    folder.seal.unlink(missing_ok=True)
    if not with_quality:
        for name in (CONTRACT_FILE, EXPECTED_DICE_FILE):
            (folder.evidence / name).unlink()
    return target


def require_quality(bundle: Path) -> None:
    """Whether a bundle has both files; the benchmark ends where it does not."""
    folder = open_bundle(bundle)
    for name, verb in ((CONTRACT_FILE, "package"), (EXPECTED_DICE_FILE, "evaluate")):
        if not (folder.evidence / name).is_file():
            raise SystemExit(f"{folder.name} has no evidence/{name}; `unet-pipeline {verb} BUNDLE` makes it.")


def copy_images(images: Path, target: Path, bundle: Path, most: int) -> int:
    """Copy the first images of a folder; how many."""
    target.mkdir()
    names = read_plan(BundleFolder(bundle).plan).channel_names
    chosen = list_inputs(images, len(names), names)[:most]
    for path in (path for source in chosen for path in source.files):
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target / path.name)
    return len(chosen)


def measure(bundle: Path, images: Path, arguments: argparse.Namespace) -> str:
    """The table of a bundle."""
    require_quality(bundle)
    with tempfile.TemporaryDirectory() as work:
        full, plain = (copy_bundle(bundle, Path(work, name), name == "full") for name in ("full", "plain"))
        num_images, out = copy_images(images, Path(work, "images"), bundle, arguments.most), Path(work, "out")
        own = [sys.executable, "-m", "unet_pipeline"]
        words = ["predict", str(Path(work, "images")), str(out), "--device", arguments.device]
        forms = {BOTH: (own, full), NO_FILES: (own, plain), NOTHING: ([sys.executable, "-c", _BARE], plain)}
        rows: dict[str, list[float]] = {name: [] for name in forms}
        for turn in range(arguments.turns + 1):  # the first one fills the caches of the disk
            for name, (begin, own_bundle) in forms.items():
                shutil.rmtree(out, ignore_errors=True)
                taken_s = time_process([*begin, words[0], str(own_bundle), *words[1:]], os.environ)
                if turn:
                    rows[name].append(taken_s)
    ratio = median(rows[BOTH]) / median(rows[NOTHING])
    verdict = "holds" if ratio <= MOST_RATIO else "does not hold"
    target = f"At most {MOST_RATIO:.2f} times the time without: {ratio:.3f}, which {verdict}."
    return f"## {bundle.name}, {num_images} images\n\n{alternating.build_table(rows, NOTHING)}\n\n{target}\n"


def main() -> None:
    """Measure every bundle and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("places", type=Path, nargs="+", metavar="BUNDLE IMAGES")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--most", type=int, default=20, help="images of each folder")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    if len(arguments.places) % 2:
        parser.error("BUNDLE and IMAGES are given in pairs")
    pairs = list(zip(arguments.places[::2], arguments.places[1::2], strict=True))
    shown = " ".join(f"{bundle.name} {images.name}" for bundle, images in pairs)
    command = f"benchmarks/quality_cost.py {shown} --turns {arguments.turns} --most {arguments.most} --device {arguments.device}"
    text = f"# What contract and expected Dice cost `predict`\n\n{alternating.describe_run(command, alternating.list_versions())}\n"
    text += "Whole processes in turns, without mirroring.\n"
    for bundle, images in pairs:
        text += f"\n{measure(bundle, images, arguments)}"
        write_text(RESULTS / f"quality_cost{'_cuda' if arguments.device == 'cuda' else ''}.md", text)
    print(text)


if __name__ == "__main__":
    main()
