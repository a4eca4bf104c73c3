"""The training of several processes is that of one: samples, losses, weights, a killed process, batch normalisation."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from unet_pipeline.errors import TrainingError
from unet_pipeline.training import joint_step

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, warm_python: Path) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("joint")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    command = [warm_python, "-m", "tests.joint_trainings", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    trained: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return trained


def read_weights(result: dict[str, Any]) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(result["checkpoint"], weights_only=True)["network"]
    return weights


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_size", "num_processes", "num_steps"),
    [(9, 2, 8), (9, 4, 8), (2, 4, 4)],
    ids=["uneven halves", "uneven quarters", "fewer samples than processes"],
)
def test_several_processes_train_what_one_does(
    results: dict[str, Any], batch_size: int, num_processes: int, num_steps: int
) -> None:
    one, several = results[f"{batch_size}_1"], results[f"{batch_size}_{num_processes}"]
    assert several["samples"] == one["samples"]
    assert [len(samples) for samples in one["samples"]] == [batch_size] * num_steps
    assert len(several["losses"]) == num_processes
    for losses in several["losses"]:  # that of the whole batch, in every process
        assert losses == pytest.approx(one["losses"][0], abs=1e-5)
    before, after = read_weights(one), read_weights(several)
    assert max((before[name] - after[name]).abs().max().item() for name in before) < 1e-4
    assert all(torch.equal(before[name], after[name]) for name in before)
    dice = [result["record"]["result"]["best_dice_resampled_grid"] for result in (one, several)]
    assert dice[0] == pytest.approx(dice[1], abs=1e-6)
    assert (one["record"]["num_processes"], several["record"]["num_processes"]) == (1, num_processes)


@pytest.mark.slow
def test_killed_process_is_named_and_more_processes_go_on_to_the_same_weights(results: dict[str, Any]) -> None:
    assert results["killed_message"].startswith("Process 1 of 0 to 1 was ended by the signal SIGKILL")
    assert "--resume" in results["killed_message"]
    assert results["killed_s"] < 60
    resumed, undisturbed = read_weights(results["resumed_4"]), read_weights(results["9_4"])
    assert all(torch.equal(resumed[name], tensor) for name, tensor in undisturbed.items())
    record = results["resumed_4"]["record"]
    assert record["num_processes"] == 4
    assert [session["num_processes"] for session in record["sessions"]] == [2]


@pytest.fixture
def four_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint_step, "num_processes", lambda: 4)


@pytest.mark.usefixtures("four_processes")
def test_batch_normalisation_on_a_processor_is_refused() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    with pytest.raises(TrainingError, match=r"batch normalisation, which 4 processes would.*GPUs only"):
        joint_step.JointNetwork(network, 8)


def test_join_batch_of_one_process_changes_nothing() -> None:
    heads, labels = [torch.ones(2, 3), torch.zeros(2, 1)], torch.ones(2, 1)
    assert joint_step.join_batch(heads, labels, [2]) == (heads, labels)


def test_join_batch_gives_gradients_to_the_own_share_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Process 1 of 3 with 2, 2 and 1 samples; the loss is the square of the sum over all."""
    others = [torch.tensor([[1.0], [2.0]]), None, torch.tensor([[5.0], [0.0]])]

    def gather(received: list[torch.Tensor], sent: torch.Tensor) -> None:
        for place, share in zip(received, others, strict=True):
            place.copy_(sent if share is None else share)

    monkeypatch.setattr(joint_step, "rank", lambda: 1)
    monkeypatch.setattr(joint_step.dist, "all_gather", gather)
    own = torch.tensor([[3.0], [4.0]], requires_grad=True)
    joint, labels = joint_step.join_batch(own, own.detach(), [2, 2, 1])
    assert isinstance(joint, torch.Tensor)
    assert joint.flatten().tolist() == labels.flatten().tolist() == [1, 2, 3, 4, 5]
    (joint.sum() ** 2).backward()
    assert own.grad is not None
    assert own.grad.flatten().tolist() == [30, 30]
