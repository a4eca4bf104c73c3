"""What the input contract finds before the network: every set against every other, held-back cases, planted changes.

    .venv/bin/python benchmarks/contract.py DATA [DEMO]

DEMO is the folder that `unet-pipeline demo --out` fills, for the simulated heads; they are made if it lacks them. Writes
benchmarks/results/contract.md. The comparison behind the network is not part of it: it needs weights, and only adds to what is found.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from unet_pipeline.dataset.demo import write_demo_cohort
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.files import write_text
from unet_pipeline.quality.contract import INSIDE, OUTSIDE, ContractRecord, judge_image
from unet_pipeline.quality.fitting import FALSE_ALARM_RATES, fit_images
from unet_pipeline.quality.properties import ImageProperties, measure_image

RESULTS = Path(__file__).parent / "results" / "contract.md"
SIMULATED = "demo"  # stands for the folder of the simulated heads
OWN = {
    "hippocampus_mri": "Task04_Hippocampus/imagesTr/*",
    "membrane_em": "em_membrane/images/*",
    "nuclei_fluorescence": "nuclei_fluorescence/images/*",
    "nuclei_histology": "nuclei_histology/images/*",
    "fetal_head_ultrasound": "fetal_head_ultrasound/images/*",
    "lung_xray": "Dataset101_LungXray/imagesTr/*",
    "brain_tissue_mri": f"{SIMULATED}/demo_heads/imagesTr/*",
}
OTHERS = {
    "nuclei_other_hospital": "nuclei_other_hospital/images/*",
    "ct_abdomen": "ct_abdomen/example_ct*",
    "dicom/hippocampus_crop_mr": "dicom/hippocampus_crop_mr",
    "dicom/t1_post_mr": "dicom/t1_post_mr",
    "template of the simulated heads": f"{SIMULATED}/demo_real_head/imagesTr/*",
}
MOST_PLANTED, REPEATS, HELD_BACK = 20, 20, 0.2
WANTED = 95  # per cent of the changed images are to be flagged
NO_DIRECTION = "lies in any direction in this set, and a picture has no header that says which: the changed one could be of the set"
REASONS = {  # why a change is not told from the other images of its set
    ("left-right flip", "nuclei_fluorescence"): f"what is seen {NO_DIRECTION}",
    ("left-right flip", "nuclei_histology"): f"what is seen {NO_DIRECTION}",
    (
        "left-right flip",
        "brain_tissue_mri",
    ): "the simulated heads are made from one symmetric template, so their sides look alike; the header stays as it is",
    ("left-right flip", "fetal_head_ultrasound"): f"a head {NO_DIRECTION}",
    (
        "left-right flip",
        "lung_xray",
    ): "the differences between the sides of a chest are smaller than those between patients in what is measured: "
    "intensities, texture and a thumbnail",
    ("axes exchanged", "nuclei_fluorescence"): f"what is seen {NO_DIRECTION}",
    (
        "axes exchanged",
        "membrane_em",
    ): "detected in part: membranes have hardly any direction, and 24 slices tell little of it",
    (
        "axes exchanged",
        "lung_xray",
    ): "detected in part: the pictures are square, and what is measured differs nearly as much between patients",
    (
        "another stain",
        "nuclei_histology",
    ): "detected in part: the set's own stains differ nearly as much, and medians, spreads and correlations of the channels stay within them",
}
STAIN = np.array([[0.8, 0.3, -0.1], [0.1, 0.7, 0.2], [0.2, -0.1, 0.9]])


def is_picture(path: Path) -> bool:
    return path.suffix == ".png"


def plant(image: MedicalImage, flat: bool) -> Iterator[tuple[str, MedicalImage]]:
    """Each change of an image; the header stays as it is but for the spacing of volumes."""
    array = image.array
    lowest, highest = float(array.min()), float(array.max())
    low, high = np.quantile(array, (0.05, 0.95))
    yield "left-right flip", replace(image, array=array[:, ::-1])
    yield "axes exchanged", replace(image, array=np.swapaxes(array, 1, 2))
    if flat:
        yield "spacing times 2", replace(image, array=array[:, ::2, ::2])
    else:
        affine = image.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
        yield "spacing times 2", replace(image, affine=affine, spacing_mm=tuple(2 * size for size in image.spacing_mm))
    yield "inverted", replace(image, array=(highest + lowest - array.astype(float)).astype(array.dtype))
    yield "clipped at 5 and 95 %", replace(image, array=np.clip(array, low, high).astype(array.dtype))
    yield "half the field of view", replace(image, array=array[:, : array.shape[1] // 2])
    if len(array) == 3:
        stained = np.clip(np.tensordot(STAIN, array.astype(float), 1), 0, 255)
        yield "another stain", replace(image, array=stained.astype(array.dtype))
    yield "JPEG quality 10", replace(image, array=compress(array))


def compress(array: np.ndarray) -> np.ndarray:
    """Every plane along the last axis, or the picture, through JPEG of quality 10."""
    lowest, span = float(array.min()), float(np.ptp(array)) or 1.0
    scaled = ((array - lowest) / span * 255).astype(np.uint8)
    planes = [scaled] if scaled.ndim == 3 else [scaled[..., place] for place in range(scaled.shape[-1])]
    done = []
    for plane in planes:
        file = io.BytesIO()
        PillowImage.fromarray(plane[0] if len(plane) == 1 else np.moveaxis(plane, 0, -1)).save(file, "JPEG", quality=10)
        read = np.asarray(PillowImage.open(file))
        done.append(read[None] if read.ndim == 2 else np.moveaxis(read, -1, 0))
    joined = done[0] if scaled.ndim == 3 else np.stack(done, axis=-1)
    return (joined / 255 * span + lowest).astype(array.dtype)


def fit(name: str, images: list[ImageProperties]) -> ContractRecord:
    stage, template = fit_images(images, [str(index) for index in range(len(images))], FALSE_ALARM_RATES["image"])
    words: dict[str, list[str]] = {}
    for image in images:
        for word, value in image.words.items():
            words[word] = sorted({*words.get(word, []), value})
    return ContractRecord(
        dataset=name,
        counts_pixels=True,
        weights_sha256=[],
        words=words,
        template=template.tolist(),
        image=stage,
        encoders=[],
        notes=[],
    )


def judge(contract: ContractRecord, images: list[ImageProperties]) -> list[str]:
    return [judge_image(contract, image).word for image in images]


def share(words: list[str], *wanted: str) -> str:
    return f"{100 * np.mean([word in wanted for word in words]):.0f} %"


def hold_back(name: str, images: list[ImageProperties]) -> list[list[str]]:
    """Verdicts about cases that a contract of the others never saw, of each division."""
    generator, words = np.random.default_rng(0), []
    for _ in range(REPEATS):
        order = generator.permutation(len(images))
        num_held = max(2, round(HELD_BACK * len(images)))
        held, kept = ([images[index] for index in part] for part in np.split(order, [num_held]))
        words.append(judge(fit(name, kept), held))
    return words


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        measure(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else made))


def find_images(data: Path, simulated: Path, pattern: str) -> list[Path]:
    """Images of a set, in order."""
    folder, rest = pattern.split("/", 1)
    return sorted(simulated.glob(rest) if folder == SIMULATED else data.glob(pattern))


def measure(data: Path, simulated: Path) -> None:
    """Measure all images as they are and with the planted changes, and write the tables."""
    write_demo_cohort(simulated)
    measured: dict[str, list[ImageProperties]] = {}
    changed: dict[str, dict[str, list[ImageProperties]]] = {}
    cost_ms = {}
    for name, pattern in (OWN | OTHERS).items():
        paths = find_images(data, simulated, pattern)
        planted = set(paths[:: max(1, len(paths) // MOST_PLANTED)]) if name in OWN else set()
        measured[name], changed[name], spent_s = [], {}, 0.0
        for path in paths:
            image = read_image(path)
            begun_s = time.thread_time()
            measured[name].append(measure_image(image, is_picture(path)))
            spent_s += time.thread_time() - begun_s
            for change, other in plant(image, is_picture(path)) if path in planted else ():
                changed[name].setdefault(change, []).append(measure_image(other, is_picture(path)))
        cost_ms[name] = 1000 * spent_s / len(paths)
        print(f"{name}: {len(paths)} images, {cost_ms[name]:.1f} ms each", flush=True)
    write_tables(measured, changed, cost_ms)


def write_tables(
    measured: dict[str, list[ImageProperties]],
    changed: dict[str, dict[str, list[ImageProperties]]],
    cost_ms: dict[str, float],
) -> None:
    sets = [
        "| contract of | n | ms per image | held back: outside | held back: flagged | " + " | ".join(measured) + " |",
        "|---|---|---|---|---|" + "---|" * len(measured),
    ]
    changes = list(dict.fromkeys(change for of in changed.values() for change in of))
    missed = ["| change | set | flagged | why, as far as can be told |", "|---|---|---|---|"]
    plants = ["| contract of | n | " + " | ".join(changes) + " |", "|---|---|" + "---|" * len(changes)]
    for name in OWN:
        contract, held = fit(name, measured[name]), hold_back(name, measured[name])
        against = ["-" if other == name else share(judge(contract, of), OUTSIDE) for other, of in measured.items()]
        shares = [100 * np.mean([word != INSIDE for word in words]) for words in held]
        flagged = f"{np.mean(shares):.1f} % ({min(shares):.0f} to {max(shares):.0f})"
        num_outside = np.mean([word == OUTSIDE for words in held for word in words])
        sets.append(
            f"| {name} | {len(measured[name])} | {cost_ms[name]:.1f} | {100 * num_outside:.1f} % | {flagged} | "
            + " | ".join(against)
            + " |"
        )
        words = {change: judge(contract, of) for change, of in changed[name].items()}
        cells = [_show(words[change]) if change in words else "-" for change in changes]
        missed += list_missed(name, {change: 100 * np.mean([w != INSIDE for w in of]) for change, of in words.items()})
        plants.append(f"| {name} | {len(next(iter(changed[name].values())))} | " + " | ".join(cells) + " |")
        print(sets[-1], plants[-1], sep="\n", flush=True)
    text = [
        "# The input contract before the network",
        "",
        "Made by `benchmarks/contract.py`: no weights, one thread, thread CPU time. The contract of each set is asked about all images of",
        f"the others, and about {REPEATS} times {HELD_BACK:.0%} of its own that it was not fitted on (in brackets the lowest and highest",
        f"share of the {REPEATS} divisions). `flagged` is unusual or outside; {100 * FALSE_ALARM_RATES['image']:.1f} % is asked for. Six of",
        "the eight simulated heads can promise no fewer than one false alarm in seven, which a contract of so few says.",
        "",
        "## Share called `outside`",
        "",
        *sets,
        "",
        "## Planted changes: flagged (outside)",
        "",
        *plants,
        "",
        f"## Below {WANTED} %: not detected, or in part",
        "",
        *missed,
        "",
    ]
    write_text(RESULTS, "\n".join(text))


def list_missed(name: str, flagged: dict[str, float]) -> list[str]:
    """A row with its reason for each change whose share in per cent is too low; one without a known reason is told as open."""
    return [
        f"| {change} | {name} | {percent:.0f} % | {REASONS.get((change, name), 'open: no reason is known')} |"
        for change, percent in flagged.items()
        if percent < WANTED
    ]


def _show(words: list[str]) -> str:
    return f"{100 * np.mean([word != INSIDE for word in words]):.0f} % ({share(words, OUTSIDE)})"


if __name__ == "__main__":
    main()
