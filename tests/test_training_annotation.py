"""Voxels without annotation count for nothing."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss

from unet_pipeline.training.annotation import LeaveOutIgnored, LeaveOutIgnoredd

IGNORED = 3


def build_loss(ignored_class: int | None) -> LeaveOutIgnored:
    return LeaveOutIgnored(DiceCELoss(to_onehot_y=True, softmax=True, batch=True), ignored_class)


def draw(shape: tuple[int, ...] = (2, 1, 6, 5, 4)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((shape[0], 3, *shape[2:]), generator=generator, requires_grad=True)
    return logits, torch.randint(0, 3, shape, generator=generator).float()


@pytest.mark.parametrize("shape", [(2, 1, 6, 5, 4), (3, 1, 8, 7)])
def test_leave_out_ignored_nothing_ignored_is_the_loss_itself(shape: tuple[int, ...]) -> None:
    logits, target = draw(shape)
    plain = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)(logits, target)
    assert build_loss(None)(logits, target) == plain
    assert float(build_loss(IGNORED)(logits, target)) == pytest.approx(float(plain), rel=1e-5)


def test_leave_out_ignored_is_the_loss_of_the_other_voxels() -> None:
    logits, target = draw()
    target[:, :, :2] = IGNORED
    expected = build_loss(None)(logits[:, :, 2:], target[:, :, 2:])
    assert float(build_loss(IGNORED)(logits, target)) == pytest.approx(float(expected), rel=1e-5)


def test_leave_out_ignored_gives_those_voxels_no_gradient() -> None:
    logits, target = draw()
    target[0, 0, 1] = IGNORED
    build_loss(IGNORED)(logits, target).backward()
    assert logits.grad is not None
    assert float(logits.grad[0, :, 1].abs().max()) == 0
    assert float(logits.grad[0, :, 2].abs().min()) > 0


def test_leave_out_ignored_nothing_annotated_is_zero_with_a_gradient() -> None:
    logits, target = draw()
    loss = build_loss(IGNORED)(logits, torch.full_like(target, IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) == 0


def test_leave_out_ignored_works_below_deep_supervision() -> None:
    logits, target = draw((2, 1, 8, 8, 8))
    target[:, :, :4] = IGNORED
    heads = [logits, logits[..., ::2, ::2, ::2]]
    assert torch.isfinite(DeepSupervisionLoss(build_loss(IGNORED))(heads, target))


def test_leave_out_ignoredd_makes_both_class_0_there() -> None:
    data = {"pred": torch.tensor([[1, 2, 1]]), "label": torch.tensor([[1, IGNORED, 2]]), "case": "a"}
    changed = LeaveOutIgnoredd(["pred", "label"], "label", IGNORED)(data)
    assert changed["pred"].tolist() == [[1, 0, 1]]
    assert changed["label"].tolist() == [[1, 0, 2]]
    assert changed["case"] == "a"
    assert LeaveOutIgnoredd(["pred", "label"], "label", None)(data) == data
