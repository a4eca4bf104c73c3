"""Draws docs/nuclei_histology.png: the worst, the median and the best validation image of a ready bundle, predicted anew.

    .venv/bin/python docs/build_picture.py DATA/nuclei_histology      # the public data set of the bundle's data card

The images are of the Data Science Bowl 2018 (BBBC038, CC0), cases that the bundle was not trained on.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image as PillowImage

import unet_pipeline
from unet_pipeline.dataset.image import read_image, read_label_map

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundles" / "nuclei_histology"
TARGET = ROOT / "docs" / "nuclei_histology.png"
REFERENCE, PREDICTION = "#0072b2", "#ffb000"  # a pair that people with any colour vision tell apart


def choose_cases() -> list[tuple[str, str, float]]:
    """Kind, case and Dice of the worst, the median and the best validation case, by the bundle's evidence."""
    rows = pd.read_csv(BUNDLE / "evidence" / "evaluations" / "validation" / "metrics.csv")
    rows = rows[rows["label"] == "nucleus"].sort_values("dice").reset_index(drop=True)
    places = {"worst": 0, "median": len(rows) // 2, "best": len(rows) - 1}
    return [(kind, str(rows["case"][place]), float(rows["dice"][place])) for kind, place in places.items()]


def draw(dataset: Path) -> None:
    """Predict and draw the cases."""
    cases = choose_cases()
    figure, panels = plt.subplots(1, len(cases), figsize=(10, 3.1), dpi=110)
    with tempfile.TemporaryDirectory() as out:
        for panel, (kind, case, dice) in zip(panels, cases, strict=True):
            path = dataset / "images" / f"{case}.png"
            (label_map,) = unet_pipeline.predict(BUNDLE, path, out, device="cpu").written
            panel.imshow(np.transpose(read_image(path).array, (2, 1, 0)).astype(np.uint8))
            for file, colour in ((dataset / "labels" / f"{case}.png", REFERENCE), (label_map, PREDICTION)):
                panel.contour(read_label_map(file).array[0].T > 0, [0.5], colors=colour, linewidths=1)
            panel.set_title(f"{kind}: Dice {dice:.3f}", fontsize=10)
            panel.axis("off")
    figure.legend(
        [plt.Line2D([], [], color=colour) for colour in (REFERENCE, PREDICTION)],
        ["reference", "prediction"],
        loc="lower center",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.canvas.draw()
    drawn = PillowImage.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    # a third of the bytes, and nothing that the eye sees
    drawn.quantize(200, dither=PillowImage.Dither.NONE).save(TARGET, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
