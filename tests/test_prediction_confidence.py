"""`prediction/confidence.py`: sums over blocks against the same numbers of whole arrays."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_pipeline.prediction import confidence
from unet_pipeline.prediction.confidence import ConfidenceSums


def test_confidence_known_answer() -> None:
    sums = ConfidenceSums(2, 2)
    sums.add(torch.tensor([[[0.9, 0.2], [1.0, 0.4]], [[0.1, 0.8], [0.0, 0.6]]]))
    label = sums.describe()[1]
    assert label.predicted_voxels == 2
    assert label.expected_voxels == pytest.approx(1.5)
    assert label.soft_dice == pytest.approx(2 * 1.4 / (1.5 + 2))
    assert label.mean_probability == pytest.approx(0.7)
    assert label.unsure_surface == pytest.approx(0.6 / np.sqrt(2))
    entropies = [-(p * np.log(p) + (1 - p) * np.log(1 - p)) for p in (0.1, 0.8, 0.6)]
    # two voxels of the label and three that are not sure
    assert sums.mean_entropy == pytest.approx(sum(entropies) / 5, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), num_classes=st.integers(2, 5), cut=st.integers(1, 6))
def test_confidence_blocks_add_up(seed: int, num_classes: int, cut: int) -> None:
    logits = torch.randn(num_classes, 7, 5, 4, generator=torch.Generator().manual_seed(seed)) * 5
    probabilities = logits.softmax(dim=0)
    whole, parts = ConfidenceSums(num_classes, 3), ConfidenceSums(num_classes, 3)
    whole.add(probabilities)
    for block in probabilities.split([cut, 7 - cut], dim=1):
        parts.add(block)
    for one, other in zip(whole.describe(), parts.describe(), strict=True):
        np.testing.assert_allclose(list(vars(one).values()), list(vars(other).values()), rtol=1e-6)
    assert parts.mean_entropy == pytest.approx(whole.mean_entropy, rel=1e-5, abs=1e-9)


def test_confidence_levels_of_one_label_belong_to_it() -> None:
    probabilities = torch.softmax(torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0)), dim=0)
    joined, levels = ConfidenceSums(2, 2), ConfidenceSums(2, 2)
    joined.add(torch.stack([probabilities[0], 1 - probabilities[0]]))
    levels.add(probabilities)
    for one, other in zip(joined.describe(), levels.describe(), strict=True):
        assert vars(one) == pytest.approx(vars(other), rel=1e-5)
    assert levels.mean_entropy == pytest.approx(joined.mean_entropy, rel=1e-5)


def test_confidence_of_a_sure_network_expects_no_error() -> None:
    sums = ConfidenceSums(3, 3)
    sums.add(torch.nn.functional.one_hot(torch.arange(27).reshape(3, 3, 3) % 3, 3).permute(3, 0, 1, 2).float())
    assert [one.soft_dice for one in sums.describe()] == [1.0, 1.0, 1.0]
    assert sums.mean_entropy == 0


def test_confidence_of_a_label_that_was_not_predicted_is_not_known() -> None:
    sums = ConfidenceSums(2, 3)
    sums.add(torch.tensor([0.8, 0.2]).reshape(2, 1, 1, 1))
    label = sums.describe()[1]
    assert (label.predicted_voxels, label.expected_voxels) == (0, pytest.approx(0.2))
    assert np.isnan([label.soft_dice, label.mean_probability, label.unsure_surface]).all()


def test_confidence_of_a_large_image_is_known_from_some_of_its_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.nn.functional.interpolate(
        torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(1)) * 6, size=(64, 64, 64), mode="trilinear"
    )[0]
    probabilities, whole, thinned = logits.softmax(dim=0), ConfidenceSums(3, 3), ConfidenceSums(3, 3)
    whole.add(probabilities)
    monkeypatch.setattr(confidence, "_MOST_VALUES", 3 * 64**3 // 8)
    thinned.begin((64, 64, 64))
    seen = list(thinned.watch(logits.split(5, dim=1), lambda block: block.softmax(dim=0)))
    assert torch.equal(torch.cat(seen, dim=1), logits)
    for one, other in zip(whole.describe(), thinned.describe(), strict=True):
        np.testing.assert_allclose(list(vars(other).values()), list(vars(one).values()), rtol=0.05)
    assert thinned.mean_entropy == pytest.approx(whole.mean_entropy, rel=0.05)
