# %% [markdown]
# # What is in a labelled folder, and can I trust it?
#
# A network learns whatever the label files say, mistakes included. So before anything is planned, `unet_pipeline.check`
# reads every file of a folder once, lists what is wrong with it, and sums up the rest in a *fingerprint*.
#
# The folder here is the demo cohort: eight heads simulated from the MNI152 template, labelled with grey and white
# matter. To look at data of your own, put its path in the place of `cohort.training`.
#
# `show_progress(False)` keeps bars out of this page. What a check finds is in its report.

# %%
import math
import os
import shutil
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
# ## Read everything once

# %%
cohort = unet_pipeline.write_demo_cohort(folder, num_cases=5 if FAST else 8)
report = unet_pipeline.check(cohort.training)
fingerprint = report.require_no_errors()

size_mib = sum(file.num_bytes for file in report.manifest) / 2**20
print(f"layout     {fingerprint.layout}")
print(f"images     {fingerprint.num_cases}, {fingerprint.spatial_dims}D, channels: {', '.join(fingerprint.channels)}")
print(f"labels     {', '.join(f'{name}={value}' for name, value in fingerprint.labels.items())}")
print(f"files      {len(report.manifest)}, {size_mib:.1f} MiB, each with its SHA-256 in the manifest")
print(f"problems   {len(report.problems)}")
print(f"reference  {report.dataset.reference}")
print(f"licence    {report.dataset.licence}")

# %% [markdown]
# ## One line per case
#
# The fingerprint keeps the grid of each image and the voxels of each label. A volume far from all others is the first
# case to open: half a label, another organ, or a patient who is really different.

# %%
cases = pd.DataFrame(
    {
        "case": case.case,
        "shape": " × ".join(map(str, case.shape)),
        "spacing_mm": " × ".join(f"{size:g}" for size in case.spacing_mm),
        **{
            f"{label}_ml": round(num_voxels * math.prod(case.spacing_mm) / 1000)
            for label, num_voxels in case.num_voxels.items()
            if label != "background"
        },
    }
    for case in fingerprint.cases
).set_index("case")
display(cases)

# %% [markdown]
# Intensities under the labels, all cases together. T1 MRI has no absolute unit, so these numbers describe the files
# and not the tissue; the planner scales each image by its own mean and standard deviation.

# %%
intensities = pd.DataFrame([channel.model_dump() for channel in fingerprint.intensities], index=fingerprint.channels)
display(intensities.round(1))

# %% [markdown]
# ## What a check finds, and what it cannot find
#
# Three accidents in a copy of the folder: an image whose transfer stopped half way, a label that was deleted, and a
# label that was saved under the name of another head.

# %%
damaged = folder / "damaged"
shutil.copytree(cohort.training, damaged)

truncated = damaged / "imagesTr" / "head_03.nii.gz"
content = truncated.read_bytes()
truncated.write_bytes(content[: len(content) // 2])

(damaged / "labelsTr" / "head_05.nii.gz").unlink()

shutil.copyfile(cohort.training / "labelsTr" / "head_01.nii.gz", damaged / "labelsTr" / "head_02.nii.gz")

report_of_damaged = unet_pipeline.check(damaged)
print(*report_of_damaged.problems, sep="\n")

# %% [markdown]
# Two of the three are found, each with its file and a remedy. The third is not: grid, values and volumes of a swapped
# label are all plausible. Numbers alone do not show it, a picture does.
#
# ## Look at it
#
# `head_02` with the outlines of its own label, and below it with those of `head_01`. White matter is one tissue with
# similar intensities, so a label that follows it holds a narrower range than one that runs across grey matter and fluid
# as well.

# %%
image = unet_pipeline.read_image(cohort.training / "imagesTr" / "head_02.nii.gz")
label_maps = {
    "own label": unet_pipeline.read_label_map(cohort.training / "labelsTr" / "head_02.nii.gz"),
    "swapped": unet_pipeline.read_label_map(damaged / "labelsTr" / "head_02.nii.gz"),
}
white_matter = fingerprint.labels["white_matter"]
spreads = {title: float(image.array[label_map.array == white_matter].std()) for title, label_map in label_maps.items()}
for title, spread in spreads.items():
    print(f"{title}: standard deviation of the intensity in white matter {spread:.0f}")

figure = unet_pipeline.draw_overlay(image, label_maps, fingerprint.labels)
figure.set_dpi(80)  # keeps this page small
display(figure)
workspace.cleanup()

assert not report.problems
assert {problem.file for problem in report_of_damaged.problems} == {
    "imagesTr/head_03.nii.gz",
    "labelsTr/head_05.nii.gz",
}
assert spreads["own label"] < spreads["swapped"]
