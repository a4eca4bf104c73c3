# %% [markdown]
# # What does augmentation do to an image, and what is each part of it worth?
#
# A training sees each patch turned, stretched, blurred and so on, another way every time. The first picture shows every part
# of it alone, by the classes that a bundle's `train.json` names. Then four short trainings, without augmentation, with one
# half, with the other, and with both, are tested on slices as they are, turned, and of another contrast.
#
# Slices of a real head (the MNI152 template); those of the test lie between those of the training.

# %%
import dataclasses
import os
import warnings

import numpy as np
import torch
from IPython.display import display
from nilearn import datasets

from unet_pipeline.networks.unet import UNet2015
from unet_pipeline.training.augmentation import PatchAugmentation
from unet_pipeline.training.intensity import IntensityAugmentation
from unet_pipeline.training.sampling import Source
from unet_pipeline.training.spatial import SpatialAugmentation
from unet_pipeline.views.pictures import open_figure

warnings.filterwarnings("ignore")
# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]

FAST = "NOTEBOOK_FAST" in os.environ  # the tests set it: fewer steps, the same assertions
num_steps = 25 if FAST else 45

template = datasets.load_mni152_template(resolution=3).get_fdata()
tissue = (template > 0.1) * 1 + (
    datasets.load_mni152_wm_template(resolution=3).get_fdata() > 0.5
)  # 0 none, 1 head, 2 white matter
slices = template[1:65, 7:71, 20:46].transpose(2, 0, 1)  # 26 of 64 x 64 pixels of 3 mm
images = torch.tensor((slices - slices.mean()) / slices.std(), dtype=torch.float32)[:, None]
labels = torch.tensor(tissue[1:65, 7:71, 20:46].transpose(2, 0, 1).clip(0, 2), dtype=torch.long)
training, test = slice(0, None, 2), slice(1, None, 2)

# %% [markdown]
# ## Every part alone
#
# With everything at probability 0 nothing happens; then one part after the other gets probability 1. The ranges are those of
# `plan.yaml`, where each has its reason.

# %%
still = SpatialAugmentation((3.0, 3.0), 0.0, (0.8,), (0.7, 1.4), 0.1, 0.0, (5, 5), 2.0, (0.0, 0.0))
plain = IntensityAugmentation(0.0, 0.3, 0.0, (0.5, 1.5), 0.0, 0.3, 0.0, 0.4, 0.0, (0.4, 0.7), 0.0, (0.6, 1.6))
parts = {
    "nothing": (still, plain),
    "rotation, scale": (dataclasses.replace(still, affine_probability=1.0), plain),
    "elastic": (dataclasses.replace(still, elastic_probability=1.0), plain),
    "mirrored": (dataclasses.replace(still, mirror_probability=(1.0, 0.0)), plain),
} | {
    name: (still, dataclasses.replace(plain, **{f"{name.replace(' ', '_')}_probability": 1.0}))
    for name in ("noise", "blur", "brightness", "contrast", "low resolution", "gamma")
}

source = Source(images[10], labels[10][None].to(torch.uint8))
indices = [np.flatnonzero(labels[10].numpy() == value) for value in range(3)]
figure, axes = open_figure(10, 4.6, 5, 2)
gallery = {}
for panel, (name, (spatial, intensity)) in zip(axes.flat, parts.items(), strict=True):
    augmentation = PatchAugmentation((64, 64), 1, (1.0, 1.0, 1.0), spatial, intensity)
    values = augmentation.draw(7, (64, 64), indices)
    low, size = values["lower"].astype(int), values["box_shape"].astype(int)
    box = (slice(None), *(slice(start, start + length) for start, length in zip(low, size, strict=True)))
    patch, target = augmentation(
        torch.as_tensor(augmentation.layout.encode(values))[None], [Source(source.image[box], source.classes[box])]
    )
    gallery[name] = patch[0, 0]
    panel.imshow(patch[0, 0].T, origin="lower", cmap="gray", vmin=-1, vmax=3)
    panel.contour((target[0, 0] == 2).T, levels=[0.5], colors=["#E69F00"], linewidths=0.8)
    panel.set_title(name, fontsize=10)
    panel.set_axis_off()
figure.set_dpi(90)
display(figure)

# %% [markdown]
# The outline of white matter goes along with what moves voxels and stays where only values change.
#
# ## What it is worth
#
# Four networks, equal but for the augmentation of their training. The tests are the same slices three times: as they are,
# turned by 45 degrees, and with bright and dark tissue brought together by a power of their values.

# %%
turn = torch.tensor([[0.707, -0.707, 0.0], [0.707, 0.707, 0.0]]).expand(13, 2, 3)
grid = torch.nn.functional.affine_grid(turn, [13, 1, 64, 64], align_corners=False)
turned = torch.nn.functional.grid_sample(images[test], grid, padding_mode="border", align_corners=False)
turned_labels = torch.nn.functional.grid_sample(
    labels[test][:, None].float(), grid, mode="nearest", align_corners=False
)
low, high = images.min(), images.max()
tests = {
    "as they are": (images[test], labels[test]),
    "turned": (turned, turned_labels[:, 0].long()),
    "other contrast": (((images[test] - low) / (high - low)) ** 0.4 * (high - low) + low, labels[test]),
}
some_spatial = dataclasses.replace(
    still, affine_probability=0.9, elastic_probability=0.3, mirror_probability=(0.5, 0.0)
)
some_intensity = dataclasses.replace(
    plain,
    noise_probability=0.2,
    blur_probability=0.2,
    brightness_probability=0.5,
    contrast_probability=0.5,
    gamma_probability=0.6,
)
kinds = {
    "none": (still, plain),
    "spatial": (some_spatial, plain),
    "intensity": (still, some_intensity),
    "both": (some_spatial, some_intensity),
}
sources = [
    Source(image, label[None].to(torch.uint8)) for image, label in zip(images[training], labels[training], strict=True)
]
middle = [np.array([32 * 64 + 32])] * 3  # the whole slice is the patch
sizes = {"filters": (8, 16, 32, 64), "kernel_size": ((3, 3),) * 4, "strides": ((1, 1), (2, 2), (2, 2), (2, 2))}

dice = {}
for kind, (spatial, intensity) in kinds.items():
    augmentation = PatchAugmentation((64, 64), 1, (1.0, 1.0, 1.0), spatial, intensity)
    torch.manual_seed(0)
    network = UNet2015(2, 1, 3, **sizes, padded=True, normalisation="batch", dropout=0.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(num_steps):
        chosen = torch.randperm(13)[:5].tolist()
        rows = [augmentation.draw(1000 * step + index, (64, 64), middle) for index in chosen]
        boxes = [
            (
                slice(None),
                *(slice(int(a), int(a) + int(n)) for a, n in zip(row["lower"], row["box_shape"], strict=True)),
            )
            for row in rows
        ]
        cut = [Source(sources[i].image[box], sources[i].classes[box]) for i, box in zip(chosen, boxes, strict=True)]
        batch, targets = augmentation(torch.as_tensor(np.stack([augmentation.layout.encode(row) for row in rows])), cut)
        loss = torch.nn.functional.cross_entropy(network(batch), targets[:, 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    for name, (pictures, truth) in tests.items():
        with torch.no_grad():
            inside = network(pictures).argmax(1) == 2
        dice[kind, name] = float(2 * (inside & (truth == 2)).sum() / (inside.sum() + (truth == 2).sum()))
    print(f"{kind:<10}", "  ".join(f"{name} {dice[kind, name]:.3f}" for name in tests))

# %% [markdown]
# Augmentation is worth most where the test differs in just the way that was simulated: a network that has seen one contrast
# only loses much with another one. On slices like those of the training all four are near one another, in a training this
# short; what each part is worth in longer trainings stands in the project's experiments.

# %%
colours = ("#8C8C8C", "#0072B2", "#E69F00", "#009E73")
figure, axes = open_figure(6.4, 2.8)
for number, kind in enumerate(kinds):
    places = [place + 0.2 * (number - 1.5) for place in range(len(tests))]
    axes[0][0].bar(places, [dice[kind, name] for name in tests], width=0.18, label=kind, color=colours[number])
axes[0][0].set_xticks(range(len(tests)), list(tests))
axes[0][0].set_ylabel("Dice of white matter")
axes[0][0].set_ylim(0, 1)
axes[0][0].legend(ncols=4, fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
figure.set_dpi(90)
display(figure)

assert torch.equal(gallery["nothing"], images[10, 0])
assert torch.equal(gallery["mirrored"], images[10, 0].flip(0))
assert dice["spatial", "turned"] > dice["none", "turned"]
assert dice["intensity", "other contrast"] > dice["none", "other contrast"]
