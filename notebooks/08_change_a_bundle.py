# %% [markdown]
# # Is it worth starting from a ready bundle when the images come from elsewhere?
#
# The bundle `brain_tissue_mri` learned grey and white matter in T1 images. Here come images of two other sources, and of each only
# two are labelled: from a worse scanner, with noise and uneven brightness; and with the contrast turned round, as a T2 sequence
# shows it. For each source the bundle is run as it is; it is trained on from its weights; and its network is trained from nothing
# with the same steps.
#
# Everything is done by stock MONAI with the bundle's own configs. The heads are the demo cohort, simulated from the MNI152
# template; the test is the template itself, changed in the same way. One test head, one seed and simulated sources: the numbers
# compare ways to start, and say nothing about a scanner.

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

import unet_pipeline

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)  # lines with paths of this machine
# %matplotlib inline

FAST = "NOTEBOOK_FAST" in os.environ  # the tests set it: one source and fewer, smaller steps, the same assertions
unet_pipeline.show_progress(False)
workspace = tempfile.TemporaryDirectory()
folder = Path(workspace.name)
ready = Path(unet_pipeline.__file__).parents[2] / "bundles" / "brain_tissue_mri"

# %% [markdown]
# ## Images of other sources
#
# The bundle was not trained on these heads. Within the head, the turned contrast makes the darkest value the brightest.

# %%
cohort = unet_pipeline.write_demo_cohort(folder / "t1", num_cases=3, seed=7)
generator = np.random.default_rng(0)
sources = ("worse scanner",) if FAST else ("worse scanner", "turned contrast")
for source in sources:
    shutil.copytree(folder / "t1", folder / source)
    for file in sorted((folder / source).glob("*/imagesTr/*")):
        volume = nib.load(file)
        values = volume.get_fdata()
        head = values > 0.05 * values.max()
        if source == "turned contrast":
            values = np.where(head, values[head].max() - values, 0)
        else:
            uneven = np.linspace(0.6, 1.4, values.shape[1])[:, None]  # from back to front
            values = (values * uneven + generator.normal(0, 0.12 * values.max(), values.shape)).clip(0)
        nib.save(nib.Nifti1Image(values.astype(np.int16), volume.affine), file)

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
# place: other data, a coarser grid so that this page is made soon, few steps. `initial_weights` is the only difference between
# the two ways to start. In a terminal it is `python -m monai.bundle run --config_file configs/train.json --num_epochs 2 ...`.

# %%
num_epochs = 1 if FAST else 2
spacing_mm = [4.0 if FAST else 3.0] * 3
changes = {
    "spacing_mm": spacing_mm,
    "patch_size": [24, 24, 24] if FAST else [32, 32, 32],
    "num_epochs": num_epochs,
    "iterations_per_epoch": 10,
    "val_interval": num_epochs,
    "learning_rate": 0.004,
    "warmup_iterations": 4,
}
content = json.loads((ready / "configs" / "train.json").read_text())
display(
    pd.DataFrame(
        [(name, content[name], changes[name]) for name in changes], columns=["id", "bundle", "here"]
    ).set_index("id")
)

starts = {"from the bundle": str(ready / "models" / "model.pt"), "from nothing": None}
bundles = {}
for source in sources:
    bundles[source, "as it is"] = ready
    for start, weights in starts.items():
        bundle = Path(shutil.copytree(ready, folder / f"{source} {start}"))
        workflow = ConfigWorkflow(
            config_file=str(bundle / "configs" / "train.json"),
            meta_file=None,
            logging_file=None,
            workflow_type="train",
            bundle_root=str(bundle),
            dataset_dir=str(folder / source / "demo_heads"),
            split_file=str(split),
            output_dir=str(bundle / "run"),
            initial_weights=weights,
            device="cpu",
            **changes,
        )
        workflow.initialize()
        workflow.run()
        loss = workflow.parser.get_parsed_content("train#trainer").state.output["loss"]
        workflow.finalize()
        bundles[source, start] = bundle
        print(f"{source}, {start}: loss {float(loss):.3f} after {10 * num_epochs} steps")

# %% [markdown]
# ## Let each predict the test head
#
# `inference.json` of each bundle, with the same grid; the weights are those that its training left in `models/`.

# %%
reference = np.asarray(nib.load(cohort.test / "labelsTr" / "mni152.nii.gz").dataobj)
maps, rows = {}, []
for (source, start), bundle in bundles.items():
    out = folder / "predictions" / source / start
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=None,
        logging_file=None,
        workflow_type="infer",
        bundle_root=str(bundle),
        dataset_dir=str(folder / source / "demo_real_head" / "imagesTr"),
        output_dir=str(out),
        spacing_mm=spacing_mm,
        device="cpu",
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    (file,) = out.rglob("*.nii.gz")
    maps[source, start] = label_map = np.asarray(nib.load(file).dataobj)
    dice = {}
    for name, value in (("grey matter", 1), ("white matter", 2)):
        shared = ((label_map == value) & (reference == value)).sum()
        dice[name] = 2 * shared / ((label_map == value).sum() + (reference == value).sum())
    rows.append({"source": source, "start": start} | dice | {"mean": np.mean(list(dice.values()))})
scores = pd.DataFrame(rows).set_index(["source", "start"])
display(scores.round(3))

# %%
middle = reference.shape[2] // 2
colours = ListedColormap(["#000000", "#56B4E9", "#E69F00"])
figure, panels = plt.subplots(
    len(sources), 5, figsize=(10, 2.6 * len(sources) + 0.4), dpi=80, layout="constrained", squeeze=False
)
for row, source in zip(panels, sources, strict=True):
    image = np.asarray(nib.load(folder / source / "demo_real_head" / "imagesTr" / "mni152.nii.gz").dataobj)
    row[0].imshow(image[:, :, middle].T, origin="lower", cmap="gray")
    row[0].set_title(source, fontsize=10)
    shown = {"reference": reference} | {
        f"{start}: {scores.loc[(source, start), 'mean']:.2f}": maps[source, start] for start in ("as it is", *starts)
    }
    for panel, (title, label_map) in zip(row[1:], shown.items(), strict=True):
        panel.imshow(label_map[:, :, middle].T, origin="lower", cmap=colours, vmin=0, vmax=2, interpolation="nearest")
        panel.set_title(title, fontsize=10)
for panel in panels.flat:
    panel.set_axis_off()
handles = [plt.Rectangle((0, 0), 1, 1, color=colours(value)) for value in (1, 2)]
figure.legend(handles, ["grey matter", "white matter"], loc="outside lower center", ncols=2, frameon=False, fontsize=9)
workspace.cleanup()

# %% [markdown]
# Twenty steps from the bundle's weights give 0.84 on the worse scanner and 0.51 from nothing; but the bundle as it is gives 0.82
# already, so most of that is what it had learnt before. With the contrast turned round the old weights are in the way: 0.40, and 0.55
# from nothing, neither of them fit for use. Run a bundle as it is first: where it nearly works, its weights are worth starting from.

# %%
helps = {"worse scanner": True, "turned contrast": False}
mean = scores["mean"]
gains = {source: mean[source, "from the bundle"] - mean[source, "from nothing"] for source in sources}
assert all((gain > 0) == helps[source] for source, gain in gains.items())
