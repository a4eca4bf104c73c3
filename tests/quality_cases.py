"""Cases whose Dice is known to depend on what the network says of itself."""

from __future__ import annotations

import numpy as np

from unet_pipeline.prediction.confidence import LabelConfidence
from unet_pipeline.prediction.shape_facts import ShapeFacts
from unet_pipeline.quality.dice_features import from_logit, to_logit
from unet_pipeline.quality.expected_dice import LabelCase


def simulate_cases(num_cases: int, seed: int, noise: float = 0.3) -> list[LabelCase]:
    """Networks that are too sure of themselves: Dice is lower than they say, by an amount that is the same but for noise."""
    random = np.random.default_rng(seed)
    cases = []
    for number in range(num_cases):
        soft_dice = float(from_logit(random.normal(2.5, 0.8)))
        dice = float(from_logit(to_logit(soft_dice) - 0.7 + noise * random.normal()))
        size = int(random.integers(500, 1500))
        confidence = LabelConfidence(size, size, soft_dice, min(0.99, soft_dice + 0.02), 0.3)
        shape = ShapeFacts(size, int(random.integers(1, 4)), 0.95, 0.5, 0.0)
        cases.append(LabelCase(f"c{number}", f"p{number}", confidence, shape, 0.001, float(random.random()), dice))
    return cases
