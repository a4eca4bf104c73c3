"""Determinism: the kernels, their number of threads, the golden loss curve, and bfloat16."""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from monai.losses import DeepSupervisionLoss, DiceCELoss

from unet_pipeline.files import write_json
from unet_pipeline.networks.dynunet import DeepSupervisionDynUNet
from unet_pipeline.training.augmentation import PatchAugmentation
from unet_pipeline.training.determinism import NondeterministicKernels, StepSeedHandler, use_deterministic_kernels
from unet_pipeline.training.intensity import IntensityAugmentation
from unet_pipeline.training.randomness import derive_seed, seed_weights
from unet_pipeline.training.samples import Sample, collate
from unet_pipeline.training.sampling import Source
from unet_pipeline.training.schedule import build_schedule
from unet_pipeline.training.spatial import SpatialAugmentation
from unet_pipeline.training.step import TrainingStep

from .augmentation_phantoms import draw_batch

GOLDEN = Path(__file__).parent / "golden" / "loss_curve.json"
NUM_STEPS = 20


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    yield
    use_deterministic_kernels(False, num_threads)


def build_samples(augmentation: PatchAugmentation) -> list[Sample]:
    """Discs on noise, each with the numbers of its patch."""
    samples = []
    for index in range(2 * NUM_STEPS):
        generator = np.random.default_rng(index)
        row, column = np.indices((40, 40)) - generator.uniform(14, 26, (2, 1, 1))
        disc = (row**2 + column**2 < 60)[None]
        image = (disc + generator.normal(0, 0.3, disc.shape)).astype(np.float32)
        case = Source(torch.from_numpy(image), torch.from_numpy(disc.astype(np.uint8)))
        seed = derive_seed("golden", index)
        (row_of_numbers,), (source,) = draw_batch(augmentation, [case], [seed])
        samples.append(Sample(str(index), row_of_numbers.numpy(), source))
    return samples


def record_losses(autocast: bool = False) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of the parts of train.json in 20 steps, and the weights after them."""
    seed_weights(0, 0)
    network = DeepSupervisionDynUNet(
        2, 1, 2, [3] * 3, [1, 2, 2], [2, 2], filters=[8, 16, 16], deep_supervision=True, deep_supr_num=1
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003, weight_decay=0.01)
    schedule = build_schedule(optimizer, 1, NUM_STEPS, 4)
    augmentation = PatchAugmentation(
        (32, 32),
        1,
        (0.5, 0.5),
        SpatialAugmentation((1.0, 1.0), 0.7, (0.5,), (0.8, 1.25), 0.1, 0.5, (5, 5), 1.0, (0.5, 0.5)),
        IntensityAugmentation(0.3, 0.1, 0.3, (0.5, 1.0), 0.3, 0.2, 0.3, 0.2, 0.3, (0.5, 1.0), 0.3, (0.7, 1.5)),
    )
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(build_samples(augmentation), batch_size=2, collate_fn=collate),
        network=network,
        optimizer=optimizer,
        loss_function=DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True, batch=True)),
        iteration_update=TrainingStep(12.0, augmentation, autocast=autocast),
        decollate=False,
    )
    losses: list[float] = []

    def follow(engine: Engine) -> None:
        losses.append(float(engine.state.output["loss"]))
        schedule.step()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, follow)
    trainer.run()
    return losses, {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_golden_loss_curve_is_that_of_the_file() -> None:
    """A change of the numerics updates it, `python tests/test_training_determinism.py`, and says so in the changelog."""
    use_deterministic_kernels(True, 1)
    losses, _ = record_losses()
    assert losses == pytest.approx(json.loads(GOLDEN.read_text(encoding="utf-8"))["losses"], rel=2e-3)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_training_step_deterministic_repeats_every_bit(autocast: bool) -> None:
    use_deterministic_kernels(True, 1)
    (first, before), (second, after) = record_losses(autocast), record_losses(autocast)
    assert first == second
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_use_deterministic_kernels_sets_and_takes_back_what_pytorch_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    use_deterministic_kernels(True, 2)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.get_num_threads() == 2
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    use_deterministic_kernels(False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 2


def test_nondeterministic_kernels_keeps_their_names_once_and_lets_others_through() -> None:
    with warnings.catch_warnings(record=True), NondeterministicKernels() as kernels:
        for _ in range(2):
            warnings.warn(
                "grid_sampler_2d_backward_cuda does not have a deterministic implementation, but", stacklevel=1
            )
        warnings.warn("something else", stacklevel=1)
    assert kernels.messages == ["grid_sampler_2d_backward_cuda"]


def test_step_seed_handler_dropout_is_a_function_of_the_iteration() -> None:
    drawn: dict[int, torch.Tensor] = {}
    engine = Engine(lambda engine, _: drawn.__setitem__(engine.state.iteration, torch.rand(4)))
    StepSeedHandler(3, 1, deterministic=True).attach(engine)
    engine.run([0] * 4, max_epochs=1)
    first = dict(drawn)
    torch.rand(7)  # what was drawn before does not matter
    engine.run([0] * 4, max_epochs=1)
    assert all(torch.equal(first[step], drawn[step]) for step in first)
    assert not torch.equal(first[1], first[2])


if __name__ == "__main__":
    argparse.ArgumentParser(description="Writes the golden loss curve.").parse_args()
    use_deterministic_kernels(True, 1)
    write_json(GOLDEN, {"losses": [round(loss, 6) for loss in record_losses()[0]]})
