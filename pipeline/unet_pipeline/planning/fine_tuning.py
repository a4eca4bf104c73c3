"""Fine-tuning: what a plan takes over from the bundle whose weights its training starts from, and what must agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.config_values import quote_name
from unet_pipeline.dataset.fingerprint import Fingerprint
from unet_pipeline.dataset.formats import PICTURE_SUFFIXES
from unet_pipeline.errors import PlanError
from unet_pipeline.planning.plan import Plan
from unet_pipeline.planning.presets import Choice

# grid, intensities, network and patch: with other ones the weights would see other images than they were trained on
TAKEN_OVER = (
    "axcodes",
    "spacing_mm",
    "image_interpolation",
    "clip_intensity",
    "intensity_lower",
    "intensity_upper",
    "intensity_subtrahend",
    "intensity_divisor",
    "network_name",
    "padded",
    "normalisation",
    "dropout",
    "loss",
    "filters",
    "kernel_size",
    "strides",
    "transposed_bias",
    "num_blocks",
    "num_supervised_heads",
    "supervision_weights",
    "pruned_to",
    "patch_size",
)
_RATE_SHARE = 0.1  # of the learning rate for random weights


@dataclass(frozen=True)
class Start:
    """A trained bundle that a plan starts from.

    Attributes:
        bundle: its name.
        plan: its plan.
        weights: file of its weights, a plain state_dict.
        sha256: of that file.
    """

    bundle: str
    plan: Plan
    weights: Path
    sha256: str

    @property
    def reason(self) -> str:
        """Why a plan has a value of this bundle."""
        return f"of bundle {self.bundle}, whose weights the training starts from"


def check_start(
    start: Start, fingerprint: Fingerprint, network: str | None = None, padded: bool = False
) -> dict[str, object]:
    """Whether the weights of a bundle can be the beginning of a training on a dataset.

    The names of the channels must be those of the bundle, in any case; names such as channel_0, which a layout without names
    gives, go with any.

    Args:
        fingerprint: of the new dataset.
        network: asked for beside it; None for the bundle's.
        padded: asked for beside it.

    Returns:
        The fields in `TAKEN_OVER` with their values.

    Raises:
        PlanError: other channels, other dimensions, pictures for volumes, or another network was asked for.
    """
    plan = start.plan
    if len(fingerprint.channels) != len(plan.channel_names) or not all(
        map(_agree, map(quote_name, fingerprint.channels), plan.channel_names)
    ):
        raise PlanError(
            f"{fingerprint.dataset_name} has the channel(s) {', '.join(fingerprint.channels)}; expected those of bundle {start.bundle}: "
            f"{', '.join(plan.channel_names)}. Give the same channels in the same order, or plan without --from."
        )
    if fingerprint.spatial_dims != plan.spatial_dims:
        raise PlanError(
            f"{fingerprint.dataset_name} has images of {fingerprint.spatial_dims} dimensions; bundle {start.bundle} was trained on "
            f"{plan.spatial_dims}. Start from a bundle for such images."
        )
    if (fingerprint.suffix in PICTURE_SUFFIXES) != (plan.image_suffix in PICTURE_SUFFIXES):
        raise PlanError(
            f"{fingerprint.dataset_name} has images of format {fingerprint.suffix} and bundle {start.bundle} was trained on "
            f"{plan.image_suffix}: the one counts in pixels, the other in mm. Convert the images, or plan without --from."
        )
    if network not in (None, plan.network_name) or (padded and not plan.padded):
        asked = f"{network or plan.network_name}{', padded' if padded else ''}"
        raise PlanError(
            f"The network {asked} was asked for; bundle {start.bundle} has {plan.network_name}"
            f"{'' if plan.padded else ' without padding'}, and its weights fit no other. Leave out --network and --padded."
        )
    return {name: getattr(plan, name) for name in TAKEN_OVER}


def _agree(name: str, expected: str) -> bool:
    unnamed = name.startswith("channel_") or expected.startswith("channel_")
    return unnamed or name.strip().lower() == expected.strip().lower()


def choose_learning_rate(from_random: Choice[float]) -> Choice[float]:
    """Peak learning rate of a fine-tuning.

    Args:
        from_random: what the same training would take with random weights.
    """
    return Choice(
        round(_RATE_SHARE * from_random.value, 10),
        f"a tenth of the {from_random.value:g} that random weights get, so that the first steps do not undo what the weights know "
        "(a heuristic)",
    )
