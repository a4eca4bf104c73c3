"""Labels that a case is not annotated with teach nothing there, and what is known teaches as before."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from unet_pipeline.training.annotation import LeaveOutIgnored
from unet_pipeline.training.losses import BorderWeightedCrossEntropy, DeepSupervisionLoss, RegionDiceCELoss
from unet_pipeline.training.partial_labels import HideMissingd, MarginalLoss, MarkUncertaind

VALUES, SETS, FIRST = (0, 7, 3), [[1], [2]], 4  # classes: background, 1, 2; 3 is that of voxels without annotation


def build_plain() -> LeaveOutIgnored:
    return LeaveOutIgnored(DiceCELoss(to_onehot_y=True, softmax=True, batch=True), None)


def draw(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, 3, 6, 5), generator=generator)
    return logits, torch.randint(0, 3, (2, 1, 6, 5), generator=generator).float()


def test_hide_and_mark_background_of_a_partial_case_gets_the_code_of_its_set() -> None:
    label = torch.tensor([[[0, 1, 2, 0]]], dtype=torch.uint8)
    hide, mark = HideMissingd("label", VALUES), MarkUncertaind("label", VALUES, [[1], [2], [1, 2]], FIRST)
    for values, expected in (([7], [4, 4, 2, 4]), ([3], [5, 1, 5, 5]), ([3, 7], [6] * 4), ([], [0, 1, 2, 0])):
        marked = mark(hide({"label": label, "missing_values": values}))["label"]
        assert marked.dtype == torch.uint8
        assert marked.flatten().tolist() == expected
    assert mark(hide({"label": label}))["label"].flatten().tolist() == [0, 1, 2, 0]


def test_marginal_loss_without_codes_is_the_loss_itself() -> None:
    logits, target = draw()
    assert float(MarginalLoss(build_plain(), SETS, FIRST)(logits, target)) == pytest.approx(
        float(build_plain()(logits, target)), rel=1e-6
    )


def test_marginal_loss_cross_entropy_is_of_the_sum_of_probabilities() -> None:
    logits, _ = draw()
    target = torch.full((2, 1, 6, 5), float(FIRST + 1))  # background or class 2
    target = torch.cat([target, torch.ones_like(target)], dim=1)
    loss = MarginalLoss(BorderWeightedCrossEntropy(), SETS, FIRST)(logits, target)
    probabilities = torch.softmax(logits, dim=1)
    assert float(loss) == pytest.approx(float(-torch.log(probabilities[:, 0] + probabilities[:, 2]).mean()), rel=1e-5)


@pytest.mark.parametrize("is_region", [False, True])
def test_marginal_loss_what_is_said_of_a_missing_class_changes_nothing(is_region: bool) -> None:
    plain = RegionDiceCELoss([[1], [2]]) if is_region else build_plain()
    loss = DeepSupervisionLoss(MarginalLoss(plain, SETS, FIRST))
    target = torch.full((1, 1, 4, 4), float(FIRST))  # class 1 is missing
    target[..., :2] = 2
    certain_background = torch.tensor([8.0, -8.0, -8.0])[None, :, None, None].repeat(1, 1, 4, 4)
    certain_background[:, :, :, :2] = torch.tensor([-8.0, -8.0, 8.0])[None, :, None, None]
    says_missing = certain_background.clone()
    says_missing[:, :, :, 2:] = torch.tensor([-8.0, 8.0, -8.0])[None, :, None, None]
    says_other = certain_background.clone()
    says_other[:, :, :, 2:] = torch.tensor([-8.0, -8.0, 8.0])[None, :, None, None]
    best, same, wrong = (float(loss(logits, target)) for logits in (certain_background, says_missing, says_other))
    assert same == pytest.approx(best, abs=1e-5)
    assert wrong > best + 0.3


def test_marginal_loss_gradient_is_finite_and_none_between_background_and_missing() -> None:
    logits = draw()[0].requires_grad_()
    target = torch.full((2, 1, 6, 5), float(FIRST))
    MarginalLoss(build_plain(), SETS, FIRST)(logits, target).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    probabilities = torch.softmax(logits.detach(), dim=1)
    shares = logits.grad[:, :2] / probabilities[:, :2]  # both are moved by the same factor: their ratio stays
    assert torch.allclose(shares[:, 0], shares[:, 1], rtol=1e-3, atol=1e-6)


def test_marginal_loss_keeps_voxels_without_annotation_out() -> None:
    logits, target = draw()
    target[:, :, :2] = 3
    ignoring = LeaveOutIgnored(DiceCELoss(to_onehot_y=True, softmax=True, batch=True), 3)
    expected = build_plain()(logits[:, :, 2:], target[:, :, 2:])
    assert float(MarginalLoss(ignoring, SETS, FIRST)(logits, target)) == pytest.approx(float(expected), rel=1e-5)
