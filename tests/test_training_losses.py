"""Losses with weights and of smaller outputs."""

from __future__ import annotations

import monai.losses
import pytest
import torch
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss

from unet_pipeline.bundle.configs import build_configs
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.planning.losses import LOSSES
from unet_pipeline.planning.planner import plan_from_fingerprint
from unet_pipeline.training.losses import (
    BorderWeightedCrossEntropy,
    CentreOfTarget,
    DeepSupervisionLoss,
    RegionDiceCELoss,
)


@pytest.mark.parametrize("ignored", [None, 9])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_the_wiring_prefers_right_logits(make_fingerprint, name: str, ignored: int | None) -> None:
    plan = plan_from_fingerprint(make_fingerprint(shapes=((64, 64),) * 4), "data", "quick").plan
    config = build_configs(plan.model_copy(update={"loss": name, "ignore_value": ignored}))["train"]
    config["device"] = torch.device("cpu")
    loss = ConfigParser(config).get_parsed_content("patch_loss")
    classes = torch.randint(0, 2, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    target = torch.cat([classes, torch.ones_like(classes)], 1) if "weight" in config["patch_keys"] else classes
    logits = torch.cat([1 - 2 * classes, 2 * classes - 1], 1)
    right, wrong = ((sign * 3 * logits).requires_grad_() for sign in (1, -1))
    costs = [loss(output, target) for output in (right, wrong)]
    assert costs[0] < costs[1]
    costs[1].backward()
    assert ((wrong.grad * logits).sum(dim=1) < 0).all()  # every voxel is pushed the right way


def test_every_network_has_a_loss_of_the_wiring() -> None:
    assert {row.loss for row in NETWORKS.values()} <= set(LOSSES)


def test_border_weighted_cross_entropy_weights_of_one_is_pytorchs() -> None:
    torch.manual_seed(0)
    logits, classes = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 1, 8, 8)).float()
    target = torch.cat([classes, torch.ones_like(classes)], dim=1)
    expected = torch.nn.functional.cross_entropy(logits, classes[:, 0].long())
    torch.testing.assert_close(BorderWeightedCrossEntropy()(logits, target), expected)


def test_border_weighted_cross_entropy_voxels_without_weight_do_not_count() -> None:
    torch.manual_seed(0)
    logits, classes = torch.randn(1, 2, 4, 4), torch.zeros(1, 1, 4, 4)
    weights = torch.ones(1, 1, 4, 4)
    weights[..., 2:] = 0
    changed = classes.clone()
    changed[..., 2:] = 2  # a class that no network gives
    whole = BorderWeightedCrossEntropy()(logits[..., :2], torch.cat([classes, weights], 1)[..., :2])
    part = BorderWeightedCrossEntropy()(logits, torch.cat([changed, weights], 1))
    torch.testing.assert_close(part, whole)
    assert BorderWeightedCrossEntropy()(logits, torch.cat([classes, 0 * weights], 1)) == 0


def test_border_weighted_cross_entropy_gradient_grows_with_the_weight() -> None:
    logits = torch.zeros(1, 2, 1, 2, requires_grad=True)
    target = torch.tensor([[[[1.0, 1.0]], [[1.0, 5.0]]]])
    BorderWeightedCrossEntropy()(logits, target).backward()
    gradient = logits.grad[0, 1, 0]
    assert gradient[1].item() == pytest.approx(5 * gradient[0].item())


@pytest.mark.parametrize("size", [(4, 6), (3, 5)])
def test_centre_of_target_is_what_the_output_covers(size: tuple[int, int]) -> None:
    seen = {}

    class Spy(torch.nn.Module):
        def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            seen["target"] = target
            return input.sum()

    target = torch.arange(80.0).view(1, 1, 8, 10)
    CentreOfTarget(Spy())(torch.zeros(1, 2, *size), target)
    top, left = (8 - size[0]) // 2, (10 - size[1]) // 2
    assert torch.equal(seen["target"], target[..., top : top + size[0], left : left + size[1]])


# regions


def build_region_loss() -> RegionDiceCELoss:
    return RegionDiceCELoss([[1, 2], [2]])


def test_region_loss_right_prediction_costs_nothing() -> None:
    target = torch.randint(0, 3, (2, 1, 6, 6)).float()
    logits = 40 * torch.nn.functional.one_hot(target[:, 0].long(), 3).movedim(-1, 1).float()
    assert build_region_loss()(logits, target).item() == pytest.approx(0, abs=1e-4)


def test_region_loss_confusion_within_a_region_costs_the_inner_region_only() -> None:
    """1 taken for 2: the whole (1 and 2) is right, the core (2) is not."""
    target = torch.ones(1, 1, 4, 4)
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 2] = 40
    cross_entropy = torch.nn.functional.cross_entropy(logits, target[:, 0].long())
    assert (build_region_loss()(logits, target) - cross_entropy).item() == pytest.approx(0.5, abs=1e-3)


def test_region_loss_of_single_classes_is_monais() -> None:
    from monai.losses import DiceCELoss

    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 1, 8, 8)).float()
    options = {"to_onehot_y": True, "softmax": True, "batch": True, "smooth_nr": 1e-5, "smooth_dr": 1e-5}
    expected = DiceCELoss(**options)(logits, target)
    torch.testing.assert_close(RegionDiceCELoss([[0], [1], [2]])(logits, target), expected, rtol=1e-5, atol=1e-6)


def test_region_loss_absent_region_that_is_not_found_costs_nothing() -> None:
    target = torch.zeros(1, 1, 4, 4)
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 0] = 60
    assert build_region_loss()(logits, target).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("num_heads", [1, 2, 3])
def test_deep_supervision_loss_is_monais_to_the_bit(num_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    heads = [torch.randn(2, 3, 16 >> level, 16 >> level, generator=generator) for level in range(num_heads)]
    target = torch.randint(0, 3, (2, 1, 16, 16), generator=generator).float()
    part = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)
    weights = [0.6, 0.3, 0.1][:num_heads]
    expected = monai.losses.DeepSupervisionLoss(part, weights=weights)(heads, target)
    assert torch.equal(DeepSupervisionLoss(part, weights=weights)(heads, target), expected)
    assert torch.equal(DeepSupervisionLoss(part)(heads[0], target), part(heads[0], target))
