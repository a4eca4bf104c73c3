# %% [markdown]
# # How does a network that sees a patch label a whole image?
#
# A training cuts patches, and a prediction lays windows over the image and joins what comes out of them. Both have numbers in
# `plan.yaml`: `patch_size`, `crop_ratios`, `window_size`, `window_overlap`. This page shows what they do, on a slice of a real
# head (the MNI152 template) and a network that was trained for seconds.

# %%
import os
import warnings

import numpy as np
import torch
from IPython.display import display
from matplotlib.patches import Rectangle
from monai.inferers import SlidingWindowInferer
from nilearn import datasets

from unet_pipeline.networks.overlap_tile import OverlapTileInferer
from unet_pipeline.networks.unet import UNet2015
from unet_pipeline.training.augmentation import PatchAugmentation
from unet_pipeline.training.spatial import SpatialAugmentation
from unet_pipeline.views.pictures import open_figure

warnings.filterwarnings("ignore")
# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]

FAST = "NOTEBOOK_FAST" in os.environ  # the tests set it: fewer steps, the same assertions

template = datasets.load_mni152_template(resolution=3).get_fdata()
tissue = (template > 0.1) * 1 + (
    datasets.load_mni152_wm_template(resolution=3).get_fdata() > 0.5
)  # 0 none, 1 head, 2 white matter
slices = template[1:65, 7:71, 20:46].transpose(2, 0, 1)  # 26 of 64 x 64 pixels of 3 mm
images = torch.tensor((slices - slices.mean()) / slices.std(), dtype=torch.float32)[:, None]
labels = torch.tensor(tissue[1:65, 7:71, 20:46].transpose(2, 0, 1).clip(0, 2), dtype=torch.long)
training, test = slice(0, None, 2), slice(1, None, 2)

# %% [markdown]
# ## Where patches come from
#
# Drawn at random, most patches of a small structure would hold none of it. `crop_ratios` says how often a patch is centred on
# a voxel of each class: on the left everywhere alike, on the right two of three on white matter.

# %%
still = SpatialAugmentation((2.0, 2.0), 0.0, (0.0,), (1.0, 1.0), 0.0, 0.0, (3, 3), 0.0, (0.0, 0.0))
indices = [np.flatnonzero(labels[5].numpy() == value) for value in range(3)]
shares = {}
figure, axes = open_figure(7.4, 3.4, 2)
for panel, (title, ratios) in zip(
    axes[0],
    {"everywhere alike": [len(one) for one in indices], "2 of 3 on white matter": (0.5, 0.5, 2.0)}.items(),
    strict=True,
):
    augmentation = PatchAugmentation((16, 16), 1, ratios, still)
    corners = [augmentation.draw(seed, (64, 64), indices)["lower"].astype(int) for seed in range(200)]
    shares[title] = np.mean([int(labels[5][i + 8, j + 8]) == 2 for i, j in corners])
    panel.imshow(images[5, 0].T, origin="lower", cmap="gray")
    for i, j in corners[:25]:
        panel.add_patch(Rectangle((i, j), 16, 16, fill=False, edgecolor="#E69F00", linewidth=0.8))
    panel.set_title(f"{title}: {shares[title]:.0%} of centres in white matter", fontsize=9)
    panel.set_axis_off()
figure.set_dpi(90)
display(figure)

# %% [markdown]
# ## Windows, and the seams between them
#
# The network is trained on 32 x 32 pixels. Then it labels whole slices: in windows side by side; in windows that overlap by
# half and are averaged; the same with weights that fall off towards the border of a window (`gaussian`), where the network
# sees least; and all at once.

# %%
sizes = {"filters": (8, 16, 32, 64), "kernel_size": ((3, 3),) * 4, "strides": ((1, 1), (2, 2), (2, 2), (2, 2))}
torch.manual_seed(0)
network = UNet2015(2, 1, 3, **sizes, padded=True, normalisation="instance", dropout=0.0)
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
for _ in range(40 if FAST else 80):
    chosen = torch.randperm(len(images[training]))[:10]
    i, j = torch.randint(0, 32, (2,)).tolist()
    batch, targets = (
        images[training][chosen, :, i : i + 32, j : j + 32],
        labels[training][chosen, i : i + 32, j : j + 32],
    )
    loss = torch.nn.functional.cross_entropy(network(batch), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
network.eval()

ways = {
    "side by side": SlidingWindowInferer((32, 32), 4, overlap=0.0),
    "overlap 0.5": SlidingWindowInferer((32, 32), 4, overlap=0.5),
    "overlap 0.5, gaussian": SlidingWindowInferer((32, 32), 4, overlap=0.5, mode="gaussian"),
}
slices_of_test = images[test]
with torch.no_grad():
    whole = network(slices_of_test).softmax(1)
    stitched = {name: inferer(slices_of_test, network).softmax(1) for name, inferer in ways.items()}
results, dice, at_seams = stitched | {"all at once": whole}, {}, {}
for name, probabilities in results.items():
    inside, truth = probabilities.argmax(1) == 2, labels[test] == 2
    dice[name] = float(2 * (inside & truth).sum() / (inside.sum() + truth.sum()))
    gap = (probabilities - whole)[:, 2].abs().mean(0)  # of every pixel, mean over the slices
    at_seams[name] = float((gap[31:33].mean() + gap[:, 31:33].mean()) / 2)
    print(
        f"{name:<22} Dice {dice[name]:.3f}, {at_seams[name]:.3f} from all at once at the seams, {gap.mean():.3f} everywhere"
    )

figure, axes = open_figure(9.6, 2.9, 4)
for panel, (name, probabilities) in zip(axes[0], results.items(), strict=True):
    shown = panel.imshow(probabilities[6, 2].T, origin="lower", cmap="magma", vmin=0, vmax=1)
    panel.set_title(f"{name}\nDice {dice[name]:.3f}", fontsize=9)
    panel.set_axis_off()
figure.colorbar(shown, ax=axes[0].tolist(), label="probability of white matter", shrink=0.8)
figure.set_dpi(90)
display(figure)

# %% [markdown]
# Side by side, the probability of white matter jumps where one window ends and the next begins. Windows that overlap cost
# more: with half of their size in both directions each pixel is computed four times.
#
# ## Without any seam
#
# The paper's own way: a network that does not pad loses a margin, so each tile brings the pixels around it along, mirrored at
# the border of the image. Tiles then give exactly what the whole image gives.

# %%
torch.manual_seed(0)
unpadded = UNet2015(2, 1, 3, **sizes, padded=False, dropout=0.0).eval()
with torch.no_grad():
    margin = (124 - unpadded(torch.zeros(1, 1, 124, 124)).shape[-1]) // 2
    tiles = OverlapTileInferer((124, 124), (margin,) * 2, (8, 8))(images[:1], unpadded)
    at_once = OverlapTileInferer((156, 156), (margin,) * 2, (8, 8))(images[:1], unpadded)
difference = float((tiles - at_once).abs().max())
print(f"margin of {margin} pixels; tiles and the whole image differ by {difference:.1e} at most")

assert shares["2 of 3 on white matter"] > shares["everywhere alike"]
assert at_seams["side by side"] > at_seams["overlap 0.5, gaussian"]
assert dice["overlap 0.5, gaussian"] > dice["side by side"]
assert difference < 1e-4
