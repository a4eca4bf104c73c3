# %% [markdown]
# # Which numbers does the planner choose, and why?
#
# `unet_pipeline.plan` turns the fingerprint of a folder into a plan: every number of the training, the network and the
# prediction. No number is learned or searched for; each follows from a rule, and its reason stands beside it in
# `configs/plan.yaml`.
#
# The folder here is the demo cohort, eight heads simulated from the MNI152 template.
# A plan that cannot be made raises an error.

# %%
import itertools
import json
import math
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import display
from matplotlib.patches import Rectangle

import unet_pipeline
from unet_pipeline.training.schedule import build_schedule  # as train.json does

# %matplotlib inline

FAST = "NOTEBOOK_FAST" in os.environ  # the tests set it: fewer heads and steps, the same assertions
unet_pipeline.show_progress(False)
workspace = tempfile.TemporaryDirectory()
folder = Path(workspace.name)

# %% [markdown]
# ## One folder, two plans
#
# A preset says how much compute and memory a training may use. The same data get another plan with another preset.

# %%
cohort = unet_pipeline.write_demo_cohort(folder, num_cases=5 if FAST else 8)
quick = unet_pipeline.plan(cohort.training, folder / "quick", preset="quick")
standard = unet_pipeline.plan(cohort.training, folder / "standard", preset="standard")

for name, planned in (("quick", quick), ("standard", standard)):
    num_iterations = planned.plan.num_epochs * planned.plan.iterations_per_epoch
    print(f"{name}: {num_iterations:,} iterations, patches of {math.prod(planned.plan.patch_size):,} voxels")
print(f"numbers in each plan: {len(quick.plan.model_dump())}")

# %% [markdown]
# ## Values and their reasons
#
# Some lines of `plan.yaml` as they are in the file. The reason of a value is the comment above it.

# %%
lines = quick.bundle.plan.read_text(encoding="utf-8").splitlines()
fields = ("spacing_mm", "intensity_subtrahend", "filters", "patch_size", "crop_ratios", "num_epochs", "window_size")
for reason, line in itertools.pairwise(lines):
    if line.partition(":")[0] in fields:
        print(reason, line, "", sep="\n")

# %% [markdown]
# The fingerprint enters at few places: the spacing is the median of the cases, the patch is what the median image
# leaves within the preset's voxels, the number of levels is how often the patch can be halved, and the number of
# iterations is what the preset's compute buys with that network, rounded so that the last epoch is validated. Most
# other fields are constants, with their source or reason.
#
# ## What a preset changes
#
# All fields in which both plans differ. Every other field has the same value in both.

# %%
of_quick, of_standard = quick.plan.model_dump(), standard.plan.model_dump()
differences = pd.DataFrame(
    {"field": name, "quick": str(of_quick[name]), "standard": str(of_standard[name])}
    for name in of_quick
    if of_quick[name] != of_standard[name]
).set_index("field")
with pd.option_context("display.max_colwidth", None):
    display(differences)

# %% [markdown]
# ## Edit a number
#
# A plan is a proposal. Change a value in `plan.yaml` together with its reason, and `unet_pipeline.refresh` writes the
# configs again, which are what MONAI runs. Here the training is made half as long.

# %%
train_json = quick.bundle.config("train")
before = json.loads(train_json.read_text(encoding="utf-8"))

position = lines.index(f"num_epochs: {quick.plan.num_epochs}")
lines[position - 1] = "# half of what the preset buys: a first look is enough"
lines[position] = f"num_epochs: {quick.plan.num_epochs // 2}"
quick.bundle.plan.write_text("\n".join(lines) + "\n", encoding="utf-8")
edited = unet_pipeline.refresh(quick.bundle.root)

after = json.loads(train_json.read_text(encoding="utf-8"))
changed = {name: (before[name], after[name]) for name in after if after[name] != before[name]}
for name, (old, new) in changed.items():
    print(f"train.json: {name} was {old} and is {new}")

# %% [markdown]
# Only this id differs in `train.json`. What refers to it follows when the training is built: the learning rate falls to
# zero at the new end.
#
# ## Patch and schedule in a picture
#
# Left: how much of a head the network sees at once. Right: the learning rate, planned and edited.

# %%
image = unet_pipeline.read_image(cohort.training / quick.report.dataset.cases[0].image)
extent_mm = [size * spacing for size, spacing in zip(image.spatial_shape, image.spacing_mm, strict=True)]

figure, (slice_panel, rate_panel) = plt.subplots(1, 2, figsize=(9, 4), dpi=70, layout="constrained")
axial = image.array[0, :, :, image.spatial_shape[2] // 2]
slice_panel.imshow(axial.T, cmap="gray", origin="lower", extent=(0, extent_mm[0], 0, extent_mm[1]))
for planned, preset, colour in ((quick, "quick", "C0"), (standard, "standard", "C1")):
    width_mm, height_mm = (
        size * spacing for size, spacing in zip(planned.plan.patch_size[:2], planned.plan.spacing_mm[:2], strict=True)
    )
    corner_mm = ((extent_mm[0] - width_mm) / 2, (extent_mm[1] - height_mm) / 2)
    slice_panel.add_patch(
        Rectangle(corner_mm, width_mm, height_mm, fill=False, color=colour, linewidth=2, label=preset)
    )
slice_panel.set(title="training patch on an axial slice", xlabel="left to right (mm)", ylabel="back to front (mm)")
slice_panel.legend(loc="upper right", fontsize=8)

rates = {}
for title, plan in (("planned", quick.plan), ("edited", edited)):
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=plan.learning_rate)
    schedule = build_schedule(optimizer, plan.num_epochs, plan.iterations_per_epoch, plan.warmup_iterations)
    rates[title] = []
    for _ in range(plan.num_epochs * plan.iterations_per_epoch):
        rates[title].append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    rate_panel.plot(rates[title], label=f"{title}, {plan.num_epochs} epochs")
rate_panel.set(title="learning rate of quick", xlabel="iteration", ylabel="learning rate")
rate_panel.legend(fontsize=8)
workspace.cleanup()

assert changed == {"num_epochs": (quick.plan.num_epochs, edited.num_epochs)}
assert math.prod(quick.plan.patch_size) < math.prod(standard.plan.patch_size) <= math.prod(image.spatial_shape)
assert math.isclose(max(rates["edited"]), edited.learning_rate)
assert rates["edited"][-1] < edited.learning_rate / 100
