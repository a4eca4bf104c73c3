"""The seconds of each stage, when one thread does everything and when several do."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from unet_pipeline.prediction.stopwatch import STAGES, Stopwatch, TimedNetwork


class Sleeping(torch.nn.Module):
    """A network that takes its time."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return images


def predict(stopwatch: Stopwatch, num_windows: int) -> None:
    network = TimedNetwork(Sleeping(), stopwatch)
    with stopwatch.measure("postprocess"):
        for _ in range(num_windows):
            network(torch.zeros(1))


def test_stopwatch_new_has_no_shares() -> None:
    assert Stopwatch().list_shares() == {}


def test_stopwatch_postprocessing_does_not_count_the_network_inside_it() -> None:
    stopwatch = Stopwatch()
    predict(stopwatch, 3)
    shares = stopwatch.list_shares()
    assert tuple(shares) == STAGES
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["network"] > 0.9
    assert 0 < shares["postprocess"] < 0.1


def test_stopwatch_network_of_another_thread_is_not_subtracted() -> None:
    stopwatch = Stopwatch()
    threads = [threading.Thread(target=predict, args=(stopwatch, 5)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stopwatch.seconds["network"] >= 4 * 5 * 0.02
    assert stopwatch.seconds["postprocess"] > 0
