"""What a planning rule returns, and how much compute and memory each preset grants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")

NNUNET = "Isensee et al. 2021"


@dataclass(frozen=True)
class Choice(Generic[Value]):
    """A value and why it is this one."""

    value: Value
    reason: str


@dataclass(frozen=True)
class Preset:
    """How much compute and memory a plan may use.

    Attributes:
        budget_tflop: operations of all forward and backward passes together, in 10^12; 0 for as many as the steps take.
        max_iterations: steps at most; a step of small images costs hardly any operations, and its time all the same.
        promised_minutes: that a training should take at most on the machine that the preset is meant for; None for no promise.
        patch_voxels: the most voxels of a training patch, for 2D and for 3D.
        window_growth: the inference window's size by the patch's, per axis, at most.
        foreground_share: of the training patches that are centred on a label other than the first.
        augmentation_share: of the full probabilities of augmentation.
        memory_gib: that a training may take.
        published_width: the papers' networks have their papers' channels; otherwise the preset's.
    """

    name: str
    budget_tflop: float
    max_iterations: int
    promised_minutes: float | None
    base_filters: int
    max_filters: int
    batch_size: int
    patch_voxels: dict[int, int]
    window_growth: float
    num_validations: int
    learning_rate: float
    foreground_share: float
    augmentation_share: float
    published_width: bool
    memory_gib: float


PRESETS = {
    preset.name: preset
    for preset in (
        # 12 to 14 minutes on 2 CPU cores with bf16 instructions (docs/experiments.md); images of the usual sizes make at most 5,200 steps
        Preset(
            name="quick",
            budget_tflop=140,
            max_iterations=6_000,
            promised_minutes=30,
            base_filters=16,
            max_filters=256,
            batch_size=2,
            patch_voxels={2: 256**2, 3: 64**3},
            window_growth=1.0,
            num_validations=4,
            learning_rate=3e-3,
            foreground_share=0.5,
            augmentation_share=1.0,
            published_width=False,
            memory_gib=8,
        ),
        # minutes of a data-centre GPU, or an evening of a workstation's
        Preset(
            name="standard",
            budget_tflop=6_000,
            max_iterations=60_000,
            promised_minutes=12 * 60,
            base_filters=32,
            max_filters=320,
            batch_size=2,
            patch_voxels={2: 512**2, 3: 128**3},
            window_growth=1.0,
            num_validations=25,
            learning_rate=2e-3,
            foreground_share=0.5,
            augmentation_share=1.0,
            published_width=True,
            memory_gib=16,
        ),
        # nnU-Net's 250,000 iterations
        Preset(
            name="full",
            budget_tflop=0,
            max_iterations=250_000,
            promised_minutes=None,
            base_filters=32,
            max_filters=320,
            batch_size=2,
            patch_voxels={2: 512**2, 3: 128**3},
            window_growth=1.0,
            num_validations=50,
            learning_rate=1e-3,
            foreground_share=0.33,
            augmentation_share=1.0,
            published_width=True,
            memory_gib=16,
        ),
        # the embedded demo: a minute of training on 2 CPU cores with bf16 instructions
        Preset(
            name="demo",
            budget_tflop=15,
            max_iterations=2_400,
            promised_minutes=5,
            base_filters=16,
            max_filters=128,
            batch_size=2,
            patch_voxels={2: 128**2, 3: 48**3},
            window_growth=4 / 3,
            num_validations=1,
            learning_rate=8e-3,
            foreground_share=0.95,
            augmentation_share=0.2,
            published_width=False,
            memory_gib=8,
        ),
    )
}
