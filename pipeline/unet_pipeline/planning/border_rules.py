"""One pure function per rule about thin borders that part a label; each returns its value with the reason that plan.yaml shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unet_pipeline.planning.presets import Choice

if TYPE_CHECKING:
    from collections.abc import Collection

    from unet_pipeline.planning.plan import Plan

_THRESHOLD = 0.02


def choose_border_threshold(
    separated_labels: Collection[str], labels: Collection[str], instance_targets: str | None
) -> Choice[float | None]:
    """From which probability on borders part a label; None where none does, or where instances do it.

    Args:
        separated_labels, instance_targets: fields of the plan that are known.
        labels: of the dataset.
    """
    parts = instance_targets is None and bool(separated_labels) and set(separated_labels) < set(labels)
    return Choice(
        _THRESHOLD if parts else None,
        "gaps in the borders of separated_labels are closed by a watershed, where the probability of the borders exceeds this all along "
        "between two parts, at temperature 1; 0.01 to 0.05 did on membranes (docs/experiments.md); null: the most probable label is taken "
        "as it is",
    )


def check_borders(plan: Plan) -> None:
    """Whether what a plan says of borders goes together.

    Raises:
        ValueError: it does not.
    """
    names = set(plan.separated_labels)
    if plan.border_threshold is None or (names and names < set(plan.label_table) and plan.instance_targets is None):
        return
    raise ValueError(
        f"border_threshold is {plan.border_threshold} with separated_labels {sorted(names)} and instance_targets {plan.instance_targets!r}; "
        "expected some of the labels in separated_labels, not all, and no instances; or null"
    )
