# %% [markdown]
# # How sure is a result, which cases failed, and can a probability be believed?
#
# A mean Dice is one number. This page reads what stands around it, in the evidence of the ready bundle `hippocampus_mri`: the
# interval, the cases to look at, and how an interval gets too narrow with few cases. For the third question, probabilities,
# a small network is trained for seconds on slices of a real head (the MNI152 template).

# %%
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from IPython.display import display
from nilearn import datasets

import unet_pipeline
from unet_pipeline.evaluation.bootstrap import compute_interval
from unet_pipeline.evaluation.failures import list_failures
from unet_pipeline.evaluation.files import read_rows
from unet_pipeline.evaluation.summary import summarize
from unet_pipeline.networks.unet import UNet2015
from unet_pipeline.tuning.calibration import fit_temperature
from unet_pipeline.views.pictures import draw_reliability, draw_scores, open_figure

warnings.filterwarnings("ignore")
# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]

FAST = "NOTEBOOK_FAST" in os.environ  # the tests set it: fewer steps, the same assertions
num_repeats = 10 if FAST else 30

# %% [markdown]
# ## Mean, interval, cases
#
# One row per case and label in `metrics.csv`. The diamond is the mean, the bar its 95 % bootstrap interval: where the mean
# over *other such cases* may lie. It is not where the next case will lie, which the points show.

# %%
evidence = (
    Path(unet_pipeline.__file__).parents[2] / "bundles" / "hippocampus_mri" / "evidence" / "evaluations" / "validation"
)
rows = read_rows(evidence)
scored = [label for label in rows["label"].unique() if label != "background"]
summary = {row.label: row for row in summarize(rows, scored) if row.metric == "dice"}
display(
    pd.DataFrame([vars(summary[label]) for label in scored])[
        ["label", "n", "mean", "low", "high", "median", "sd"]
    ].round(3)
)

figure = draw_scores(rows, scored, {label: (row.mean, row.low, row.high) for label, row in summary.items()})
figure.set_dpi(90)
display(figure)

# %% [markdown]
# ## Which cases to open
#
# Missed structures first, then false alarms, outliers (Tukey's rule), and the worst. A mean hides them; a person should not.

# %%
failures = list_failures(rows, scored)
display(
    pd.DataFrame(
        [(one.case, one.label, ", ".join(one.kinds), one.values["dice"], one.values["hd95"]) for one in failures],
        columns=["case", "label", "why", "Dice", "HD95, mm"],
    )
    .head(8)
    .round(3)
)

# %% [markdown]
# ## How many cases make an interval
#
# Small test sets drawn from these cases, again and again: how wide is the interval, and how often does it hold the mean of
# all cases? 95 of 100 it should be; with few cases it is fewer, and the interval does not say so.

# %%
generator = np.random.default_rng(0)
values = rows.loc[rows["label"] == scored[0], "dice"].to_numpy()
widths, shares = {}, {}
for size in (3, 5, 10, 20, 40):
    ends = np.array([compute_interval(generator.choice(values, size)) for _ in range(num_repeats)])
    widths[size] = float(np.mean(ends[:, 1] - ends[:, 0]))
    shares[size] = float(np.mean((ends[:, 0] <= values.mean()) & (values.mean() <= ends[:, 1])))
    print(f"{size:>3} cases: width {widths[size]:.4f}, holds the mean in {shares[size]:.0%} of {num_repeats}")

figure, axes = open_figure(7.2, 2.7, 2)
axes[0][0].plot(widths.keys(), widths.values(), "o-", color="#0072B2")
axes[0][0].set_ylabel("width of the interval, Dice")
axes[0][1].plot(shares.keys(), shares.values(), "o-", color="#D55E00")
axes[0][1].axhline(0.95, color="#888888", linestyle="--", linewidth=1)
axes[0][1].set_ylabel("share that holds the mean")
for panel in axes[0]:
    panel.set_xlabel("cases")
figure.set_dpi(90)
display(figure)

# %% [markdown]
# ## Can a probability be believed?
#
# Of all voxels to which a network gives 0.8, eight of ten should be right. A network that is trained long on
# few images becomes too sure, and its curve runs below the line; one that was stopped early, as here, is less sure than it
# might be. One number, the temperature, which `tune` finds on cases that were not trained on, brings the curve nearer to the
# line; no label changes, as the largest probability stays the largest.

# %%
template = datasets.load_mni152_template(resolution=3).get_fdata()
tissue = (template > 0.1) * 1 + (
    datasets.load_mni152_wm_template(resolution=3).get_fdata() > 0.5
)  # 0 none, 1 head, 2 white matter
slices = template[1:65, 7:71, 20:46].transpose(2, 0, 1)  # 26 of 64 x 64 pixels of 3 mm
images = torch.tensor((slices - slices.mean()) / slices.std(), dtype=torch.float32)[:, None]
labels = torch.tensor(tissue[1:65, 7:71, 20:46].transpose(2, 0, 1).clip(0, 2), dtype=torch.long)
training, fitted, test = slice(11, 14), slice(0, 26, 4), slice(2, 26, 4)

sizes = {"filters": (8, 16, 32, 64), "kernel_size": ((3, 3),) * 4, "strides": ((1, 1), (2, 2), (2, 2), (2, 2))}
torch.manual_seed(0)
network = UNet2015(2, 1, 3, **sizes, padded=True, normalisation="instance", dropout=0.0)
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
for _ in range(30 if FAST else 50):
    chosen = torch.randperm(len(images[training]))[:3]
    batch, targets = images[training][chosen], labels[training][chosen]
    loss = torch.nn.functional.cross_entropy(network(batch), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
network.eval()
with torch.no_grad():
    probabilities = {name: network(images[part]).softmax(1) for name, part in (("fitted", fitted), ("test", test))}
flat = {name: one.permute(0, 2, 3, 1).reshape(-1, 3).numpy() for name, one in probabilities.items()}
calibration = fit_temperature(flat["fitted"], labels[fitted].flatten().numpy(), 7)
scaled = torch.tensor(flat["test"]).double().clamp(min=1e-12).log().div(calibration.temperature).softmax(1).numpy()
truth = labels[test].flatten().numpy()

errors, curves = {}, {}
for name, shown in (("as it is", flat["test"]), (f"temperature {calibration.temperature:.2f}", scaled)):
    sure, right = shown.max(1), shown.argmax(1) == truth
    bins = np.minimum((sure * 10).astype(int), 9)
    curves[name] = [(sure[bins == one].mean(), right[bins == one].mean()) for one in np.unique(bins)]
    errors[name] = sum(
        abs(sure[bins == one].mean() - right[bins == one].mean()) * (bins == one).mean() for one in np.unique(bins)
    )
    print(f"{name}: expected calibration error {errors[name]:.4f} on slices that neither saw")
figure = draw_reliability(curves)
figure.set_dpi(90)
display(figure)

assert all(summary[label].low < summary[label].mean < summary[label].high for label in scored)
assert widths[40] < widths[3]
assert shares[40] > shares[3]
assert calibration.temperature != 1
assert min(errors, key=errors.get) != "as it is"
assert (scaled.argmax(1) == flat["test"].argmax(1)).all()
