# %% [markdown]
# # What does each part of a U-Net do?
#
# First the network of the paper (Ronneberger, Fischer and Brox 2015), with all its sizes. Then a small one of the same make,
# trained for seconds on slices of a real head (the MNI152 template, the average of 152 people), so that one can look inside:
# what each level computes, how far a pixel sees, and what is lost when the skips are cut.
#
# The slices of the test lie between those of the training: the numbers compare one network with another, and say nothing
# about other heads.

# %%
import os
import warnings
from pathlib import Path

import torch
from IPython.display import SVG, display
from nilearn import datasets

import unet_pipeline
from unet_pipeline.evidence.report.network_drawing import describe_network, draw_network
from unet_pipeline.networks.counting import compute_receptive_field
from unet_pipeline.networks.shape import Shape
from unet_pipeline.networks.unet import UNet2015
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.views.pictures import open_figure

warnings.filterwarnings("ignore")
# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]

FAST = "NOTEBOOK_FAST" in os.environ  # the tests set it: fewer steps, the same assertions
num_steps = 20 if FAST else 45

# %% [markdown]
# ## The network of the paper
#
# The ready bundle `membrane_em` has this network with a quarter of the channels; here it gets the paper's. Its convolutions
# do not pad, so each takes one pixel from every side, and 572 pixels go in where 388 come out.

# %%
bundles = Path(unet_pipeline.__file__).parents[2] / "bundles"
small = read_plan(bundles / "membrane_em" / "configs" / "plan.yaml")
paper = small.model_copy(
    update={
        "filters": (64, 128, 256, 512, 1024),
        "patch_size": (572, 572),
        "label_table": {"background": 0, "cell": 1},
        "padded": False,
        "normalisation": "none",
    }
)
description = describe_network(paper)
display(SVG(draw_network(description)))

# %% [markdown]
# ## A small one, trained on slices of a head
#
# Four levels, 8 to 64 channels, padded so that the size stays. It names three kinds of tissue: nothing, head, white matter.

# %%
template = datasets.load_mni152_template(resolution=3).get_fdata()
tissue = (template > 0.1) * 1 + (
    datasets.load_mni152_wm_template(resolution=3).get_fdata() > 0.5
)  # 0 none, 1 head, 2 white matter
slices = template[1:65, 7:71, 20:46].transpose(2, 0, 1)  # 26 of 64 x 64 pixels of 3 mm
images = torch.tensor((slices - slices.mean()) / slices.std(), dtype=torch.float32)[:, None]
labels = torch.tensor(tissue[1:65, 7:71, 20:46].transpose(2, 0, 1).clip(0, 2), dtype=torch.long)
training, test = slice(0, None, 2), slice(1, None, 2)

sizes = {"filters": (8, 16, 32, 64), "kernel_size": ((3, 3),) * 4, "strides": ((1, 1), (2, 2), (2, 2), (2, 2))}
torch.manual_seed(0)
network = UNet2015(2, 1, 3, **sizes, padded=True, normalisation="instance", dropout=0.0)
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
for _ in range(num_steps):
    chosen = torch.randperm(len(images[training]))[:5]
    batch, targets = images[training][chosen], labels[training][chosen]
    loss = torch.nn.functional.cross_entropy(network(batch), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"{sum(p.numel() for p in network.parameters()):,} parameters, last loss {float(loss):.3f}")

# %% [markdown]
# ## What each level computes
#
# The way down, level by level, on one slice that was not trained on: half as many pixels per side, twice as many maps. Then
# the way up, where each level takes the map from below and the skip of its own size. Four maps of each, the strongest first.

# %%
with torch.no_grad():
    network.eval()
    features, maps = images[test][6:7], {}
    for level, block in enumerate(network.encoder):
        maps[f"down {level}"] = features = block(features)
    skips = [maps["down 2"], maps["down 1"], maps["down 0"]]
    for level, block in zip((2, 1, 0), network.decoder, strict=True):
        maps[f"up {level}"] = features = block(features, skips[2 - level])

figure, axes = open_figure(10, 6.0, len(maps), 4)
for column, (name, values) in enumerate(maps.items()):
    strongest = values[0].flatten(1).std(1).argsort(descending=True)[:4]
    for row, channel in enumerate(strongest):
        panel = axes[row][column]
        panel.imshow(values[0, channel].T, origin="lower", cmap="gray")
        panel.set_axis_off()
    axes[0][column].set_title(f"{name}\n{tuple(values.shape[1:])}", fontsize=8)
figure.set_dpi(90)
display(figure)

# %% [markdown]
# ## How far a pixel sees
#
# By the sizes of the kernels an output pixel depends on a square of the input. What it really depends on is the gradient of
# that pixel for each input pixel: nothing outside of the square, and most of it near the middle.

# %%
field = compute_receptive_field(Shape("unet2015", 1, 3, **sizes, normalisation="none"))
torch.manual_seed(0)
plain = UNet2015(2, 1, 3, **sizes, padded=True, dropout=0.0).eval()
probe = torch.zeros(1, 1, 128, 128, requires_grad=True)
plain(probe + torch.rand(1, 1, 128, 128))[0, :, 64, 64].sum().backward()
influence = probe.grad[0, 0].abs()
rows, columns = influence.nonzero().T
print(
    f"by the kernels {field[0]} pixels; seen {int(rows.max() - rows.min()) + 1} x {int(columns.max() - columns.min()) + 1}"
)

figure, axes = open_figure(3.6, 3.2)
shown = axes[0][0].imshow((influence / influence.max()).clamp(min=1e-6).log10().T, origin="lower", cmap="viridis")
figure.colorbar(shown, label="log10 of the share of the largest")
axes[0][0].set_title("influence on the middle pixel", fontsize=10)
axes[0][0].set_xlabel("pixel")
axes[0][0].set_ylabel("pixel")
axes[0][0].grid(visible=False)
figure.set_dpi(90)
display(figure)

# %% [markdown]
# ## With and without skips
#
# A skip is cut by setting the weights that read it to zero. Once in the trained network, which was not made for that; and
# once in a second network that is trained that way from its beginning, with the same steps.

# %%
torch.manual_seed(0)
without = UNet2015(2, 1, 3, **sizes, padded=True, normalisation="instance", dropout=0.0)
optimizer = torch.optim.Adam(without.parameters(), lr=3e-3)
for _ in range(num_steps):
    for level, width in zip(without.decoder, (32, 16, 8), strict=True):
        next(level.convolutions.parameters()).data[:, :width] = 0  # reads the skip
    chosen = torch.randperm(len(images[training]))[:5]
    batch, targets = images[training][chosen], labels[training][chosen]
    loss = torch.nn.functional.cross_entropy(without(batch), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
for level, width in zip(without.decoder, (32, 16, 8), strict=True):
    next(level.convolutions.parameters()).data[:, :width] = 0
cut = UNet2015(2, 1, 3, **sizes, padded=True, normalisation="instance", dropout=0.0)
cut.load_state_dict(network.state_dict())
for level, width in zip(cut.decoder, (32, 16, 8), strict=True):
    next(level.convolutions.parameters()).data[:, :width] = 0

dice, predictions = {}, {}
for name, one in {"with skips": network, "trained without": without, "cut afterwards": cut}.items():
    with torch.no_grad():
        predictions[name] = one.eval()(images[test]).argmax(1)
    inside, truth = predictions[name] == 2, labels[test] == 2
    dice[name] = float(2 * (inside & truth).sum() / (inside.sum() + truth.sum()))
    print(f"{name:<16} Dice of white matter {dice[name]:.3f}")

figure, axes = open_figure(9, 2.6, 5)
panels = {"image": images[test][6, 0], "reference": labels[test][6]} | {
    name: one[6] for name, one in predictions.items()
}
for panel, (name, picture) in zip(axes[0], panels.items(), strict=True):
    panel.imshow(picture.T, origin="lower", cmap="gray")
    panel.set_title(name, fontsize=9)
    panel.set_axis_off()
figure.set_dpi(90)
display(figure)

# %% [markdown]
# Without skips the borders are those of the coarse maps. A padded network takes any size: what is missing to a multiple of
# its strides, here 8, is added and taken off again.

# %%
for height, width in ((64, 64), (97, 61), (33, 130)):
    with torch.no_grad():
        print(f"{height} x {width} in, {' x '.join(map(str, network(torch.zeros(1, 1, height, width)).shape[2:]))} out")
        assert network(torch.zeros(1, 1, height, width)).shape[2:] == (height, width)

assert (description.num_parameters, description.output_size) == (31_030_658, (388, 388))
assert int(rows.max() - rows.min()) + 1 <= field[0]
assert dice["with skips"] > dice["trained without"]
assert dice["with skips"] > dice["cut afterwards"]
