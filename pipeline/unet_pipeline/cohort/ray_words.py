"""What `ray_engine.RayEngine` and its driver say to each other, each a line of JSON."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from unet_pipeline.cohort.items import Arguments


class Asked(TypedDict):
    """The first line to the driver: number and share of the workers, the cluster, and the work."""

    num_workers: int
    num_threads: int
    device: str | None
    num_gpus: float | None
    address: str | None
    patience_s: float
    opener: str
    arguments: Arguments


class ToldItem(TypedDict):
    """An `Item`."""

    name: str
    key: str
    arguments: Arguments
    expected_s: float
    inputs_sha256: dict[str, str]


class ToldAttempt(TypedDict):
    """An `Attempt`."""

    item: ToldItem
    number: int
    smaller: bool


class ToldOutcome(TypedDict):
    """An `Outcome` without its attempt; of a worker that died state and message alone."""

    state: str
    message: NotRequired[str]
    result: NotRequired[Arguments]
    host: NotRequired[str]
    started: NotRequired[float]
    duration_s: NotRequired[float]


class Opened(TypedDict):
    """What an actor says when it has opened the work; `problem` where it could not."""

    host: str
    version: str
    problem: NotRequired[str]


class Reply(TypedDict, total=False):
    """A line of the driver.

    `ready` names the host of a worker that can begin; `begun` an attempt by its number, with `host` and the time `at`; `over` one with its
    `outcome`; `say` is for the user; `failed` ends the driver, and `may_come` is whether another one may do better.
    """

    ready: str
    begun: int
    host: str
    at: float
    over: int | None
    outcome: ToldOutcome
    say: str
    failed: str
    may_come: bool
