# %% [markdown]
# # Is it worth starting from a ready bundle when the images come from another scanner?
#
# The bundle `brain_tissue_mri` learned grey and white matter in T1 images, where fluid is dark and white matter bright. Here come
# images with the contrast turned round, as a T2 sequence would show it, and only two of them are labelled. The bundle is run as
# it is; it is trained on from its weights; and its network is trained from nothing with the same steps.
#
# Everything is done by stock MONAI with the bundle's own configs. The heads are the demo cohort, simulated from the MNI152
# template, with their values turned round; the test is the template itself, turned round too. One test head and a simulated
# contrast: the numbers compare ways to start, and say nothing about a scanner.

# %%
import json
import logging
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.colors import ListedColormap
from monai.bundle import ConfigWorkflow
from monai.handlers import MetricLogger, from_engine

import unet_pipeline

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)  # lines with paths of this machine
# %matplotlib inline

FAST = (
    "NOTEBOOK_FAST" in os.environ
)  # the tests set it: one seed and fewer steps on a coarser grid, the same assertions
unet_pipeline.show_progress(False)
workspace = tempfile.TemporaryDirectory()
folder = Path(workspace.name)
ready = Path(unet_pipeline.__file__).parents[2] / "bundles" / "brain_tissue_mri"

# %% [markdown]
# ## Images of another contrast
#
# Within the head the darkest value becomes the brightest and the brightest the darkest; what was empty stays empty.

# %%
cohort = unet_pipeline.write_demo_cohort(folder, num_cases=3, seed=7)  # heads that the bundle was not trained on
for file in [*cohort.training.glob("imagesTr/*"), *cohort.test.glob("imagesTr/*")]:
    volume = nib.load(file)
    values = volume.get_fdata()
    head = values > 0.05 * values.max()
    turned = np.where(head, values[head].max() - values, 0).astype(np.int16)
    nib.save(nib.Nifti1Image(turned, volume.affine), file)

cases = [
    {"case": name, "image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"}
    for name in ("head_01", "head_02", "head_03")
]
split = folder / "split.json"
split.write_text(json.dumps({"training": cases[:2], "validation": cases[2:]}))
print("training: head_01, head_02; validation: head_03; test: the template")

# %% [markdown]
# ## Change the training
#
# The numbers of a bundle stand at the top of `train.json` under names, and whatever is handed to `ConfigWorkflow` takes their
# place: other data, a coarser grid so that this page is made in a minute, few steps. `initial_weights` is the only difference
# between the two ways to start. The terminal's form is `python -m monai.bundle run --config_file configs/train.json --spacing_mm
# "[3.0, 3.0, 3.0]" ...`.

# %%
num_epochs = 2 if FAST else 3
spacing_mm = [4.0 if FAST else 3.0] * 3
changes = {
    "dataset_dir": str(cohort.training),
    "split_file": str(split),
    "spacing_mm": spacing_mm,
    "patch_size": [24] * 3 if FAST else [32] * 3,
    "num_epochs": num_epochs,
    "iterations_per_epoch": 10,
    "val_interval": 1,
    "learning_rate": 0.004,
    "warmup_iterations": 4,
    "device": "cpu",
}
content = json.loads((ready / "configs" / "train.json").read_text())
display(
    pd.DataFrame(
        [(name, content[name], changes[name]) for name in changes if not isinstance(content[name], str)],
        columns=["id", "in the bundle", "here"],
    ).set_index("id")
)
starts = {"from the bundle": str(ready / "models" / "model.pt"), "from nothing": None}

curves, bundles = {}, {}
for seed in (0,) if FAST else (0, 1):
    for start, weights in starts.items():
        bundle = Path(shutil.copytree(ready, folder / f"{start} {seed}".replace(" ", "_")))
        workflow = ConfigWorkflow(
            config_file=str(bundle / "configs" / "train.json"),
            meta_file=None,
            logging_file=None,
            workflow_type="train",
            bundle_root=str(bundle),
            output_dir=str(bundle / "run"),
            initial_weights=weights,
            seed=seed,
            **changes,
        )
        workflow.initialize()
        log = MetricLogger(
            loss_transform=from_engine("loss"), evaluator=workflow.parser.get_parsed_content("validate#evaluator")
        )
        log.attach(workflow.parser.get_parsed_content("train#trainer"))
        workflow.run()
        workflow.finalize()
        bundles[start, seed] = bundle
        curves[start, seed] = [float(value) for _, value in log.metrics["val_mean_dice"]]
        print(f"{start}, seed {seed}: Dice of head_03", *(f"{value:.3f}" for value in curves[start, seed]))

figure, panel = plt.subplots(figsize=(5.6, 3.0), dpi=90, layout="constrained")
steps = 10 * np.arange(1, num_epochs + 1)
for (start, seed), values in curves.items():
    first = start == "from the bundle"
    label = start if seed == 0 else None
    panel.plot(steps, values, "o-" if first else "s--", color="#0072B2" if first else "#D55E00", label=label)
panel.set(xlabel="training steps", ylabel="mean Dice of head_03", ylim=(0, 1), xticks=steps)
panel.legend(frameon=False, fontsize=9)
panel.set_title("one line per seed", fontsize=9)
# %% [markdown]
# ## Let each predict the test head
#
# `inference.json` of each bundle, with the same grid; the weights are those that its training left in `models/`.

# %%
reference = np.asarray(nib.load(cohort.test / "labelsTr" / "mni152.nii.gz").dataobj)
bundles["as it is", 0] = Path(shutil.copytree(ready, folder / "as_it_is"))
maps, rows = {}, []
for (start, seed), bundle in bundles.items():
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=None,
        logging_file=None,
        workflow_type="infer",
        bundle_root=str(bundle),
        dataset_dir=str(cohort.test / "imagesTr"),
        output_dir=str(bundle / "predictions"),
        spacing_mm=spacing_mm,
        device="cpu",
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    (file,) = (bundle / "predictions").rglob("*.nii.gz")
    maps[start, seed] = np.asarray(nib.load(file).dataobj)
    dice = {
        name: 2
        * ((maps[start, seed] == value) & (reference == value)).sum()
        / ((maps[start, seed] == value).sum() + (reference == value).sum())
        for name, value in (("grey matter", 1), ("white matter", 2))
    }
    rows.append({"start": start, "seed": seed} | dice | {"mean": np.mean(list(dice.values()))})
scores = pd.DataFrame(rows).set_index(["start", "seed"])
display(scores.round(3))

# %%
image = np.asarray(nib.load(cohort.test / "imagesTr" / "mni152.nii.gz").dataobj)
middle = image.shape[2] // 2
colours = ListedColormap(["#000000", "#56B4E9", "#E69F00"])
shown = {"reference": reference} | {start: maps[start, 0] for start in ("as it is", "from nothing", "from the bundle")}
figure, panels = plt.subplots(1, 5, figsize=(10, 2.9), dpi=90, layout="constrained")
panels[0].imshow(image[:, :, middle].T, origin="lower", cmap="gray")
panels[0].set_title("test image", fontsize=10)
for panel, (title, label_map) in zip(panels[1:], shown.items(), strict=True):
    panel.imshow(label_map[:, :, middle].T, origin="lower", cmap=colours, vmin=0, vmax=2, interpolation="nearest")
    panel.set_title(title, fontsize=10)
for panel in panels:
    panel.set_axis_off()
handles = [plt.Rectangle((0, 0), 1, 1, color=colours(value)) for value in (1, 2)]
figure.legend(handles, ["grey matter", "white matter"], loc="outside lower center", ncols=2, frameon=False, fontsize=9)
workspace.cleanup()

best = scores["mean"].groupby("start").agg(["min", "max"])
assert best.loc["from the bundle", "min"] > best.loc["from nothing", "max"]
assert best.loc["from the bundle", "min"] > best.loc["as it is", "max"]
