"""Loading and augmentation of training patches on one core: ours, batchgeneratorsv2 in nnU-Net's loader, and MONAI's transforms.

    .venv/bin/python benchmarks/data.py DATASET [--turns 40]

DATASET is Task04_Hippocampus; 9 patches of 40x56x40 a turn, one thread, cached cases. The list of operations and their probabilities are
nnU-Net's: rotation or scaling 36 %, noise 10 %, blur 20 %, brightness 15 %, contrast 15 %, low resolution 25 %, gamma 30 %, mirroring
50 % along each axis. Processor time per patch. Writes results/data.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import alternating
import peer_environment as peer
from train_step import plan_like_nnunet

from unet_pipeline.bundle.folder import BundleFolder, open_bundle
from unet_pipeline.files import write_text
from unet_pipeline.planning.plan import read_plan

TARGET = Path(__file__).parent / "results" / "data.md"
PROBABILITIES = {
    "affine_probability": 0.36,
    "elastic_probability": 0.0,
    "noise_probability": 0.1,
    "blur_probability": 0.2,
    "brightness_probability": 0.15,
    "contrast_probability": 0.15,
    "low_resolution_probability": 0.25,
    "gamma_probability": 0.3,
    "mirror_probability": [0.5, 0.5, 0.5],
}
OURS, MONAI, PEER = "ours", "MONAI's transforms", "nnU-Net (batchgeneratorsv2)"


def plan_data(dataset: Path, bundle: Path) -> None:
    """A bundle with nnU-Net's patch, batch and augmentation."""
    plan_like_nnunet(dataset, bundle)
    path = bundle / "configs" / "plan.yaml"
    text = path.read_text(encoding="utf-8")
    for name, value in PROBABILITIES.items():
        text = re.sub(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "unet_pipeline", "plan", "--refresh", str(bundle)], check=True)


def build_parser(folder: BundleFolder) -> Any:
    """The parts of train.json."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(folder.config("train")))
    parser["bundle_root"] = str(folder.root)
    parser["num_workers"] = 0
    return parser


def work_ours(folder: BundleFolder) -> None:
    """Batches of the plan's loader, augmented as a batch."""
    from unet_pipeline.training.samples import SOURCES, TABLE

    parser = build_parser(folder)
    loader, augmentation = (parser.get_parsed_content(name) for name in ("train#dataloader", "augmentation"))
    batches = iter(loader)

    def work() -> float:
        started_s = time.process_time()
        batch = next(batches)
        augmentation(batch[TABLE], batch[SOURCES])
        return (time.process_time() - started_s) / len(batch[SOURCES])

    work()
    alternating.answer(work)


def work_monai(folder: BundleFolder) -> None:
    """The same crops, augmented by MONAI's transforms sample by sample."""
    import monai.transforms as mt

    from unet_pipeline.types import IMAGE, LABEL

    both = [IMAGE, LABEL]
    augmentation = mt.Compose(
        [
            mt.RandAffined(
                both,
                prob=0.36,
                rotate_range=(0.52, 0.52, 0.52),
                scale_range=(0.3, 0.3, 0.3),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            *[mt.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)],
            mt.RandGaussianNoised(IMAGE, prob=0.1, std=0.3),
            mt.RandGaussianSmoothd(IMAGE, (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.2),
            mt.RandScaleIntensityd(IMAGE, factors=0.25, prob=0.15),
            mt.RandAdjustContrastd(IMAGE, prob=0.15, gamma=(0.75, 1.25)),
            mt.RandSimulateLowResolutiond(IMAGE, prob=0.25, zoom_range=(0.5, 1.0)),
            mt.RandAdjustContrastd(IMAGE, prob=0.3, gamma=(0.7, 1.5)),
        ]
    )
    parser = build_parser(folder)
    plan = read_plan(folder.plan)
    cases = parser.get_parsed_content("train#dataset")._cache
    crop = mt.RandCropByLabelClassesd(
        both,
        LABEL,
        plan.patch_size,
        ratios=list(plan.crop_ratios),
        num_classes=len(plan.label_table),
        indices_key="label_cls_indices",
        warn=False,
    )
    turns = itertools.count()

    def work() -> float:
        started_s = time.process_time()
        for _ in range(plan.batch_size):
            (sample,) = crop(cases[next(turns) % len(cases)])
            augmentation({key: sample[key].float() for key in both})
        return (time.process_time() - started_s) / plan.batch_size

    work()
    alternating.answer(work)


def main() -> None:
    """Measure in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--work", type=Path, default=peer.WORK)
    parser.add_argument("--worker", choices=("ours", "monai"), help="for the script itself: one of its processes")
    arguments = parser.parse_args()
    bundle = arguments.work / "nnunet_like_data"
    if arguments.worker:
        (work_ours if arguments.worker == "ours" else work_monai)(open_bundle(bundle))
        return
    if not bundle.is_dir():
        plan_data(arguments.dataset, bundle)
    python = peer.find_python(arguments.work)
    peer.write_dataset(arguments.dataset, BundleFolder(bundle).read_split(0).model_dump(), arguments.work)
    peer.prepare(python, arguments.work, len(os.sched_getaffinity(0)))
    me = [sys.executable, str(Path(__file__)), str(arguments.dataset), "--work", str(arguments.work), "--worker"]
    theirs = {**peer.build_environment(arguments.work, 1), "nnUNet_n_proc_DA": "0"}
    ours = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = {
        OURS: ([*me, "ours"], ours, "data_ours.log"),
        MONAI: ([*me, "monai"], ours, "data_monai.log"),
        PEER: ([str(python), str(Path(__file__).with_name("peer_batch.py"))], theirs, "data_peer.log"),
    }
    started = {
        name: alternating.Worker(command, environment, arguments.work / log)
        for name, (command, environment, log) in workers.items()
    }
    described = alternating.describe_run(
        f"benchmarks/data.py {arguments.dataset.name} --turns {arguments.turns}", f"nnunetv2 {peer.VERSION}"
    )
    rows: dict[str, list[float]] = {name: [] for name in started}
    for _ in range(arguments.turns):
        for name, worker in started.items():
            rows[name].append(1000 * worker.take_turn())
    for worker in started.values():
        worker.stop()
    table = alternating.build_table(rows, PEER, "ms a patch")
    text = f"# Loading and augmentation\n\n{described} Processor time per patch of 40x56x40, one thread.\n\n{table}\n"
    write_text(TARGET, text)
    print(text)


if __name__ == "__main__":
    main()
