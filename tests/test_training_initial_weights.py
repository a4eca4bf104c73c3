"""Weights of another training: what fits is taken, the rest is said, and what is too little is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from unet_pipeline.errors import TrainingError
from unet_pipeline.training.initial_weights import InitialWeightsHandler, take_weights


def build(classes: int = 2, channels: int = 1) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, 8, 3), torch.nn.Conv2d(8, 8, 3), torch.nn.Conv2d(8, classes, 1)
    )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(build().state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_take_weights_same_network_is_taken_whole(weights: Path) -> None:
    network = build()
    result = take_weights(network, weights)
    assert result.anew == ()
    for name, tensor in torch.load(weights, weights_only=True).items():
        assert torch.equal(network.state_dict()[name], tensor)


def test_take_weights_other_classes_and_channels_start_anew(weights: Path) -> None:
    network = build(classes=5, channels=3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    result = take_weights(network, weights)
    assert result.taken == ("0.bias", "1.weight", "1.bias")
    assert result.anew == ("0.weight", "2.weight", "2.bias")
    for name in result.anew:
        assert torch.equal(network.state_dict()[name], before[name])


def test_take_weights_of_another_network_are_refused(weights: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 9, 3))
    before = network.state_dict()["0.weight"].clone()
    with pytest.raises(TrainingError, match=r"model\.pt fits 0 of the network's 90 parameters; expected at least half"):
        take_weights(network, weights)
    assert torch.equal(network.state_dict()["0.weight"], before)


@pytest.mark.parametrize(("content", "message"), [(None, "does not exist"), (b"PK nonsense", "is no file of weights")])
def test_take_weights_unusable_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "models" / "model.pt"
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=rf"models/model\.pt {message}"):
        take_weights(build(), path)


@pytest.mark.parametrize(
    ("given", "resume", "taken"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_initial_weights_handler_loads_at_the_start_of_a_new_training_only(
    weights: Path, given: bool, resume: bool, taken: bool
) -> None:
    network = build()
    engine = Engine(lambda engine, batch: None)
    InitialWeightsHandler(network, str(weights) if given else None, resume).attach(engine)
    engine.run([0], max_epochs=1)
    same = torch.equal(network.state_dict()["1.weight"], torch.load(weights, weights_only=True)["1.weight"])
    assert same == taken
