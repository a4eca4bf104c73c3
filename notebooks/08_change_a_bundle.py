# %% [markdown]
# # How is a ready bundle changed and fine-tuned with stock MONAI?
#
# A bundle is a folder of configs and weights that MONAI runs alone. Here one that finds the head of a fetus in ultrasound
# becomes one that names two tissues in slices of an adult's MRI (the MNI152 template): its network gets another head, starts
# from the old weights, is trained for seconds, and the changed bundle predicts PNG files. Nothing but MONAI and PyTorch
# touches the bundle.

# %%
import json
import logging
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from IPython.display import display
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.networks.utils import copy_model_state
from nilearn import datasets
from PIL import Image

import unet_pipeline
from unet_pipeline.views.pictures import open_figure

warnings.filterwarnings("ignore")
# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]

logging.disable(logging.WARNING)  # lines with paths of this machine
workspace = tempfile.TemporaryDirectory()
folder = Path(workspace.name)
bundle = folder / "head_mri"
copied = shutil.copytree(Path(unet_pipeline.__file__).parents[2] / "bundles" / "fetal_head_ultrasound", bundle)

# %% [markdown]
# ## Change it
#
# The numbers stand at the top of `inference.json`; everything below refers to them. Three classes instead of two, and the
# image in the network as it is, without a coarser grid.

# %%
config = bundle / "configs" / "inference.json"
changes = {"num_classes": 3, "spacing_mm": [1.0, 1.0], "label_values": [0, 1, 2], "class_indices": [0, 1, 2]}
content = json.loads(config.read_text())
print(*(f"{name}: {content[name]} becomes {value}" for name, value in changes.items()), sep="\n")
config.write_text(json.dumps(content | changes, indent=2))

parser = ConfigParser(json.loads(config.read_text()))
parser["bundle_root"] = str(bundle)
torch.manual_seed(0)
network = parser.get_parsed_content("network_def", instantiate=True)
parser = ConfigParser(json.loads(config.read_text()))
torch.manual_seed(0)
fresh = parser.get_parsed_content("network_def")

# %% [markdown]
# ## Start from its weights
#
# `copy_model_state` takes every tensor whose name and shape fit; the last layer, which names classes, starts anew.

# %%
old = torch.load(bundle / "models" / "model.pt", weights_only=True)
fitting = {name: value for name, value in old.items() if value.shape == network.state_dict()[name].shape}
_, taken, anew = copy_model_state(network, fitting)
print(f"{len(taken)} tensors taken, {len(anew)} anew: {', '.join(anew)}")

# %% [markdown]
# ## Fine-tune it
#
# The same steps twice: from those weights, and from random ones. Whether old weights help depends on how near the two tasks
# are; the two curves say it for this one, and one should look before one believes it.

# %%
template = datasets.load_mni152_template(resolution=3).get_fdata()
tissue = (template > 0.1) * 1 + (
    datasets.load_mni152_wm_template(resolution=3).get_fdata() > 0.5
)  # 0 none, 1 head, 2 white matter
slices = template[1:65, 7:71, 20:46].transpose(2, 0, 1)  # 26 of 64 x 64 pixels of 3 mm
images = torch.tensor((slices - slices.mean()) / slices.std(), dtype=torch.float32)[:, None]
labels = torch.tensor(tissue[1:65, 7:71, 20:46].transpose(2, 0, 1).clip(0, 2), dtype=torch.long)
training, test = slice(0, None, 2), slice(1, None, 2)

losses = {}
for name, one in (("from ultrasound", network), ("from random weights", fresh)):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(one.parameters(), lr=2e-3)
    losses[name] = []
    one.train()
    for _ in range(30):
        chosen = torch.randperm(13)[:4]
        logits = one(images[training][chosen])
        logits = logits[:, 0] if logits.ndim == 5 else logits  # the heads of deep supervision are stacked
        loss = torch.nn.functional.cross_entropy(logits, labels[training][chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[name].append(float(loss.detach()))
    print(f"{name:<20} loss {losses[name][0]:.3f}, after 30 steps {np.mean(losses[name][-5:]):.3f}")

figure, axes = open_figure(4.4, 2.7)
for number, (name, values) in enumerate(losses.items()):
    axes[0][0].plot(values, label=name, color=("#0072B2", "#D55E00")[number], linestyle=("-", "--")[number])
axes[0][0].set_xlabel("step")
axes[0][0].set_ylabel("cross entropy")
axes[0][0].legend(frameon=False, fontsize=8)
figure.set_dpi(90)
display(figure)

# %% [markdown]
# ## Let the changed bundle predict
#
# The weights go back into the bundle, and MONAI runs it: this is `python -m monai.bundle run --config_file
# configs/inference.json`, as one call.

# %%
torch.save(network.state_dict(), bundle / "models" / "model.pt")
(folder / "images").mkdir()
low, high = float(slices.min()), float(slices.max())
for number in (1, 13):
    picture = (255 * (slices[number] - low) / (high - low)).astype(np.uint8)
    Image.fromarray(picture.T).save(folder / "images" / f"slice_{number:02d}.png")

workflow = ConfigWorkflow(
    config_file=str(config),
    meta_file=None,
    logging_file=None,
    workflow_type="infer",
    bundle_root=str(bundle),
    dataset_dir=str(folder / "images"),
    output_dir=str(folder / "predictions"),
    device="cpu",
)
workflow.initialize()
workflow.run()
workflow.finalize()
files = sorted((folder / "predictions").rglob("*.png"))
maps = {file.stem: np.asarray(Image.open(file)).T for file in files}
print(*(f"{file.name}: values {sorted(np.unique(maps[file.stem]).tolist())}" for file in files), sep="\n")

dice = {}
figure, axes = open_figure(6.6, 4.6, 3, 2)
for row, (number, label_map) in zip(axes, zip((1, 13), maps.values(), strict=True), strict=True):
    truth, inside = labels[number].numpy() > 0, label_map > 0
    dice[number] = 2 * (inside & truth).sum() / (inside.sum() + truth.sum())
    panels = {
        "image": slices[number],
        "reference": labels[number],
        f"prediction, Dice of the head {dice[number]:.2f}": label_map,
    }
    for panel, (title, shown) in zip(row, panels.items(), strict=True):
        panel.imshow(shown.T, origin="lower", cmap="gray")
        panel.set_title(title, fontsize=9)
        panel.set_axis_off()
figure.set_dpi(90)
display(figure)
workspace.cleanup()

assert taken
assert anew
assert np.mean(losses["from ultrasound"][-5:]) < 0.6 * losses["from ultrasound"][0]
assert [label_map.shape for label_map in maps.values()] == [(64, 64)] * 2
assert min(dice.values()) > 0.7
