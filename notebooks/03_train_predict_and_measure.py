# %% [markdown]
# # How good is a network after a very short training, and how is that measured?
#
# A network is trained for a few iterations on six simulated heads. Then it labels two that it has not seen, and the
# head of the MNI152 template, which is the average of 152 real ones. The labels are written to files, and the files
# are compared with the references on the images' own grids.
#
# The simulated heads are warped copies of the template, so the numbers show that the parts work together. They say
# nothing about how a network does on other people.
# A training that fails raises an error.

# %%
import os
import tempfile
from pathlib import Path

import pandas as pd
from IPython.display import display

import unet_pipeline

# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]

FAST = "NOTEBOOK_FAST" in os.environ  # the tests set it: fewer heads and steps, the same assertions
unet_pipeline.show_progress(False)
workspace = tempfile.TemporaryDirectory()
folder = Path(workspace.name)

# %% [markdown]
# ## Plan, and who is trained on
#
# Which case is on which side is settled before the training and kept in the bundle's `evidence/splits`. One number of
# the plan is changed: a grid of 3 mm instead of 2 has a third of the voxels, and this page is made in a third of the time.

# %%
cohort = unet_pipeline.write_demo_cohort(folder, num_cases=4 if FAST else 8)
planned = unet_pipeline.plan(cohort.training, folder / "brain_tissue", preset="demo", folds=4)
bundle = planned.bundle.root
spacing_mm = [5.0 if FAST else 3.0] * 3
unet_pipeline.edit_plan(planned.bundle.plan, {"spacing_mm": (spacing_mm, "coarser than the images, for a first look")})
unet_pipeline.refresh(bundle)

for side, cases in planned.bundle.read_split(0):
    print(f"{side:<10}  {', '.join(case.case for case in cases)}")

# %% [markdown]
# ## Train
#
# The plan asks for a training of minutes. Overrides of ids in `train.json` make it one epoch of 16 patches, which
# takes seconds on a CPU; the bundle's configs stay as they are.

# %%
num_patches = 8 if FAST else 16
overrides = {
    "num_epochs": 1,
    "val_interval": 1,
    "iterations_per_epoch": num_patches,
    "samples_per_epoch": num_patches,
    "warmup_iterations": 4,
}
(training,) = unet_pipeline.train(bundle, overrides=overrides)

print(f"fold {training.fold}: {training.num_epochs} epoch, weights of epoch {training.best_epoch}")
print(f"mean Dice on the resampled grid, from the training itself: {training.best_dice:.3f}")

# %% [markdown]
# That last number only picks the weights. It comes from tensors in memory, on the grid that the network works on; a
# result to report comes from label files on the grid of the image.
#
# ## Predict and evaluate
#
# Without a dataset, `evaluate` takes the cases of the validation fold. With one, it takes all its cases and leaves
# out those that were in the training. The template head was predicted before, so its label file is handed over.

# %%
predictions = unet_pipeline.predict(bundle, cohort.test / "imagesTr", folder / "predictions")
on_simulated = unet_pipeline.evaluate(bundle)
on_template = unet_pipeline.evaluate(bundle, cohort.test, predictions=predictions.out)

columns = ["case", "label", "dice", "iou", "num_voxels_reference", "num_voxels_prediction"]
rows = pd.concat([evaluation.rows[columns] for evaluation in (on_simulated, on_template)])
display(rows.set_index(["case", "label"]).round(3))

# %% [markdown]
# ## With n and interval
#
# Dice is twice the shared voxels by the voxels of both. The mean is over cases, the background does not count in the
# line of all labels. `low` and `high` bound a 95 % bootstrap interval over cases: that of two cases cannot be wider
# than from the one to the other and says little, and a single case has none.

# %%
summary = pd.DataFrame(
    {"cases": evaluation.title, **vars(row)}
    for evaluation in (on_simulated, on_template)
    for row in evaluation.summary
    if row.metric == "dice"
)
display(summary.set_index(["cases", "label"])[["n", "mean", "low", "high", "in_mean"]].round(3))

# %% [markdown]
# ## The same number by hand
#
# Both files of the template head, voxel by voxel.

# %%
reference = unet_pipeline.read_label_map(cohort.test / "labelsTr" / "mni152.nii.gz")
prediction = unet_pipeline.read_label_map(predictions.out / "mni152.nii.gz")
white_matter = planned.plan.label_table["white_matter"]
in_reference, in_prediction = reference.array == white_matter, prediction.array == white_matter

by_hand = 2 * (in_reference & in_prediction).sum() / (in_reference.sum() + in_prediction.sum())
in_table = on_template.rows.set_index("label").loc["white_matter", "dice"]
print(f"white matter of the template head: {by_hand:.6f} by hand, {in_table:.6f} in the table")
print(f"the affines differ by {abs(reference.affine - prediction.affine).max():g} mm at most")

# %% [markdown]
# ## Look at it
#
# A Dice does not say where the errors are: at the border of a tissue, or far from it.

# %%
image = unet_pipeline.read_image(cohort.test / "imagesTr" / "mni152.nii.gz")
figure = unet_pipeline.draw_overlay(image, {"reference": reference, "prediction": prediction}, planned.plan.label_table)
figure.set_dpi(80)  # keeps this page small
display(figure)
workspace.cleanup()

mean_dice = next(row.mean for row in on_template.summary if row.label == "mean of labels" and row.metric == "dice")
assert abs(by_hand - in_table) < 1e-9
assert mean_dice > 0.3, f"mean Dice of the template head is {mean_dice:.3f}"
