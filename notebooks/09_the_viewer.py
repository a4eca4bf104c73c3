# %% [markdown]
# # Where in the image is a result wrong, and can I turn and scroll to it here?
#
# A Dice says how much is wrong and not where. The bundle `brain_tissue_mri` labels the head of the MNI152 template, and then
# one looks: in a widget to turn and scroll, in a map of the errors, and on a page with all cases that goes to a colleague.
#
# The widget is [ipyniivue](https://github.com/niivue/ipyniivue) (`pip install "unet-pipeline[widgets]"`), and it needs a running
# kernel. The picture below it is all there is without one, as on this page, and where it is not installed.

# %%
import dataclasses
import gzip
import os
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from IPython.display import display
from scipy import ndimage

import unet_pipeline

# %matplotlib inline

FAST = "NOTEBOOK_FAST" in os.environ  # the tests set it: a coarser grid, the same assertions
unet_pipeline.show_progress(False)
workspace = tempfile.TemporaryDirectory()
folder = Path(workspace.name)
cohort = unet_pipeline.write_demo_cohort(folder, num_cases=1)  # and the template, on which nothing was trained
ready = Path(unet_pipeline.__file__).parents[2] / "bundles" / "brain_tissue_mri"
bundle = Path(shutil.copytree(ready, folder / "brain_tissue_mri"))

# %% [markdown]
# ## A result to look at

# %%
if FAST:
    edited = unet_pipeline.BundleFolder(bundle)
    unet_pipeline.edit_plan(edited.plan, {"spacing_mm": ([3.0] * 3, "for the tests")})
    unet_pipeline.refresh(bundle)
evaluation = unet_pipeline.evaluate(bundle, cohort.test)
dice = evaluation.rows.set_index("label")["dice"]
display(dice.round(3).to_frame())

# %% [markdown]
# ## Turn, scroll, point
#
# Grey and white matter of the reference are light blue and green, those of the prediction orange and vermilion. With a kernel:
# click to move the crosshair, scroll through slices, drag the 3D view; `view.widget.volumes[2].opacity = 0` takes the prediction
# away.

# %%
image = unet_pipeline.read_image(cohort.test / "imagesTr" / "mni152.nii.gz")
reference = unet_pipeline.read_label_map(cohort.test / "labelsTr" / "mni152.nii.gz")
prediction = unet_pipeline.read_label_map(evaluation.predictions[0] / "mni152.nii.gz")
labels = {"background": 0, "grey_matter": 1, "white_matter": 2}

view = unet_pipeline.view_image(image, {"reference": reference, "prediction": prediction}, labels)
display(view)

# %% [markdown]
# ## A map of the errors
#
# The same view takes any label map. Here: the voxels of white matter that were missed, and those that were called white matter and
# are not. Below, how many there are in each axial slice, and how far from the edge of the white matter they lie.

# %%
in_reference, in_prediction = (one.array[0] == labels["white_matter"] for one in (reference, prediction))
errors = dataclasses.replace(
    reference, array=(1 * (in_reference & ~in_prediction) + 2 * (in_prediction & ~in_reference))[None].astype(np.uint8)
)
counts = {name: int((errors.array == value).sum()) for name, value in (("missed", 1), ("false alarm", 2))}
counts["agreed"] = int((in_reference & in_prediction).sum())
print(*(f"{name}: {count:,} voxels" for name, count in counts.items()), sep="\n")

view_of_errors = unet_pipeline.view_image(image, {"errors": errors}, {"agreed": 0, "false alarm": 2, "missed": 1})
display(view_of_errors)

# %%
edge = ndimage.binary_dilation(in_reference) & ~ndimage.binary_erosion(in_reference)  # one voxel on either side
wrong = errors.array[0] > 0
at_edge = float((wrong & edge).sum() / wrong.sum())
print(f"{at_edge:.0%} of the wrong voxels touch the edge of the white matter, which {edge.mean():.0%} of all voxels do")

heights_mm = image.affine[2, 3] + image.affine[2, 2] * np.arange(wrong.shape[2])
figure, panel = plt.subplots(figsize=(6.4, 2.8), dpi=90, layout="constrained")
for name, value, colour in (("missed", 1, "#56B4E9"), ("false alarm", 2, "#E69F00")):
    panel.plot(heights_mm, (errors.array[0] == value).sum((0, 1)), label=name, color=colour)
panel.set(xlabel="height of the axial slice (mm)", ylabel="wrong voxels")
panel.legend(frameon=False, fontsize=8)
plt.show()
# %% [markdown]
# ## All cases, for somebody without Python
#
# `unet_pipeline.view` writes one HTML file with images, references, predictions, error maps and numbers. It opens from disk, asks
# no network for anything, and can be sent. With `serve=True` it shows whole images on 127.0.0.1 instead.

# %%
page = unet_pipeline.view(evaluation.folder, dataset=cohort.test, out=folder / "view.html")
print(f"{page.path.name}: {len(page.cases)} case, {page.num_bytes / 2**20:.1f} MiB")
workspace.cleanup()

by_hand = 2 * counts["agreed"] / (2 * counts["agreed"] + counts["missed"] + counts["false alarm"])
print(f"white matter, from the map of the errors: Dice {by_hand:.6f}; from the evaluation {dice['white_matter']:.6f}")
assert abs(by_hand - dice["white_matter"]) < 1e-9
assert at_edge > 0.5
assert page.cases == ("mni152",)
if view.widget is not None:  # what it shows are the voxels of the files
    volumes = [nib.Nifti1Image.from_bytes(gzip.decompress(volume.data)) for volume in view.widget.volumes]
    for volume, shown in zip(volumes, (image, reference, prediction), strict=True):
        assert np.array_equal(volume.get_fdata(), shown.array[0])
        assert np.allclose(volume.affine, shown.affine)
