"""The training step: it learns, clips, and stops at a loss that is not finite."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.losses import DeepSupervisionLoss, DiceCELoss

from unet_pipeline.errors import TrainingError
from unet_pipeline.networks.dynunet import DeepSupervisionDynUNet
from unet_pipeline.training.step import TrainingStep


def build_trainer(step: TrainingStep, image: torch.Tensor, num_epochs: int, learning_rate: float) -> SupervisedTrainer:
    torch.manual_seed(0)
    label = (image > 0.5).float()
    network = DeepSupervisionDynUNet(
        2, 1, 2, [3] * 3, [1, 2, 2], [2, 2], filters=[8, 8, 8], deep_supervision=True, deep_supr_num=1
    )
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=num_epochs,
        train_data_loader=DataLoader(Dataset([{"image": image, "label": label, "case": "case_7"}]), batch_size=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=learning_rate),
        loss_function=DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True)),
        iteration_update=step,
        decollate=False,
    )


def test_training_step_many_steps_lower_the_loss() -> None:
    trainer = build_trainer(TrainingStep(12.0, autocast=False), torch.rand(1, 16, 16), 40, 0.1)
    losses: list[float] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.output["loss"]))
    )
    trainer.run()
    assert losses[-1] < 0.6 * losses[0]


def test_training_step_gradient_is_cut_to_the_norm() -> None:
    image = torch.rand(1, 16, 16)
    trainer = build_trainer(TrainingStep(0.001, autocast=False), image, 1, 1.0)
    before = torch.cat([parameter.detach().flatten().clone() for parameter in trainer.network.parameters()])
    trainer.run()
    after = torch.cat([parameter.detach().flatten() for parameter in trainer.network.parameters()])
    # plain gradient descent with a learning rate of 1 moves by the gradient itself
    assert float((after - before).norm()) == pytest.approx(0.001, rel=0.01)


def test_training_step_loss_that_is_not_finite_stops_and_names_the_case() -> None:
    trainer = build_trainer(TrainingStep(12.0, autocast=False), torch.full((1, 16, 16), float("nan")), 1, 0.1)
    with pytest.raises(TrainingError, match=r"The loss is nan in epoch 1, iteration 1.*case_7"):
        trainer.run()


@pytest.mark.parametrize(("is_fast", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_training_step_takes_bfloat16_where_it_is_fast_and_keeps_to_it(
    monkeypatch: pytest.MonkeyPatch, is_fast: bool, expected: str
) -> None:
    answers = iter([is_fast])
    monkeypatch.setattr("unet_pipeline.training.step.supports_fast_bfloat16", lambda device: next(answers))
    trainer = build_trainer(TrainingStep(12.0), torch.rand(1, 16, 16), 2, 0.1)
    found: list[bool] = []
    trainer.network.register_forward_hook(lambda *_: found.append(torch.is_autocast_enabled("cpu")))
    trainer.run()
    assert trainer.state.precision == expected
    assert found == [is_fast, is_fast]


def test_training_step_bfloat16_gives_nearly_the_loss_of_float32() -> None:
    image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    losses = []
    for autocast in (False, True):
        trainer = build_trainer(TrainingStep(12.0, autocast=autocast), image, 1, 0.1)
        torch.manual_seed(1)
        trainer.run()
        losses.append(float(trainer.state.output["loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: not enough memory"),
    ],
)
def test_training_step_out_of_memory_says_what_helps(error: BaseException) -> None:
    def fail(*_: object) -> None:
        raise error

    trainer = build_trainer(TrainingStep(12.0, autocast=False), torch.rand(1, 16, 16), 1, 0.1)
    trainer.network.forward = fail
    with pytest.raises(
        TrainingError, match=r"A training step needs more than the memory of this machine.*--memory GIB"
    ):
        trainer.run()


def test_training_step_other_errors_stay() -> None:
    trainer = build_trainer(TrainingStep(12.0, autocast=False), torch.rand(1, 15, 15), 1, 0.1)
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        trainer.run()
