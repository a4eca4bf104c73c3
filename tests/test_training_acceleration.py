"""Forms of a network, compared on the CPU with the plain one; and which is chosen."""

from __future__ import annotations

import copy
import locale
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.losses import DeepSupervisionLoss, DiceCELoss

from unet_pipeline.device.instance_norm import InstanceNorm2d, InstanceNorm3d
from unet_pipeline.device.memory_format import FORMATS, OrderChoice
from unet_pipeline.networks.dynunet import DeepSupervisionDynUNet
from unet_pipeline.training import acceleration as acceleration_module
from unet_pipeline.training.acceleration import STEPS_THAT_PAY, STEPS_WORTH_A_PROBE, Acceleration, FastNetwork, try_out
from unet_pipeline.training.step import TrainingStep

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
NUM_STEPS = 6
PLAIN = Acceleration(channels_last=False, compile_network=False)


def build_network(dims: int = 2) -> DeepSupervisionDynUNet:
    torch.manual_seed(0)
    sizes = {"kernel_size": [3] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
    return DeepSupervisionDynUNet(dims, 1, 2, **sizes, filters=[8, 8, 8], deep_supervision=True, deep_supr_num=1)


def build_images(dims: int = 2, count: int = NUM_STEPS) -> torch.Tensor:
    return torch.rand(count, 1, *[16] * dims, generator=torch.Generator().manual_seed(1))


def train(
    acceleration: Acceleration | None, dims: int = 2, first: int = 0, last: int = NUM_STEPS, state: Any = None
) -> tuple[list[float], tuple[dict[str, torch.Tensor], dict[str, Any]], SupervisedTrainer]:
    """Losses of some steps, one image each; the state after them, from which another call continues."""
    network = build_network(dims)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    if state is not None:
        network.load_state_dict(state[0])
        optimizer.load_state_dict(state[1])
    samples = [{"image": image, "label": (image > 0.5).float(), "case": "any"} for image in build_images(dims)]
    trainer = SupervisedTrainer(
        device=CPU,
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(samples[first:last]), batch_size=1),
        network=network,
        optimizer=optimizer,
        loss_function=DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True)),
        iteration_update=TrainingStep(12.0, autocast=False, acceleration=acceleration),
        decollate=False,
    )
    losses: list[float] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"]))
    trainer.run()
    return losses, copy.deepcopy((network.state_dict(), optimizer.state_dict())), trainer


def assert_equal(weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(weights) == list(expected)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize("acceleration", [PLAIN, Acceleration()], ids=["switched off", "chosen by the device"])
@pytest.mark.parametrize("dims", [2, 3])
def test_acceleration_on_a_cpu_changes_only_the_kernel_of_the_norms(dims: int, acceleration: Acceleration) -> None:
    plain, fast = train(None, dims), train(acceleration, dims)
    assert fast[0] == pytest.approx(plain[0], rel=1e-5)
    assert list(fast[1][0]) == list(plain[1][0])  # weights keep their names
    assert ("too few steps" in fast[2].state.acceleration) == (acceleration != PLAIN)
    assert fast[2].state.memory_format == "contiguous"
    norm = InstanceNorm2d if dims == 2 else InstanceNorm3d
    assert sum(isinstance(module, norm) for module in fast[2].network.modules()) > 4
    assert not any(isinstance(module, norm) for module in plain[2].network.modules())


@pytest.mark.parametrize("dims", [2, 3])
def test_acceleration_channels_last_trains_as_the_plain_network(dims: int) -> None:
    plain, fast = train(None, dims), train(Acceleration(channels_last=True, compile_network=False), dims)
    assert fast[0] == pytest.approx(plain[0], rel=1e-4)
    memory_format = torch.channels_last if dims == 2 else torch.channels_last_3d
    kernels = [weight for weight in fast[2].network.parameters() if weight.dim() > 2 and min(weight.shape[:3]) > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=memory_format) for kernel in kernels)
    assert fast[2].state.acceleration == "network on cpu: channels last"
    assert fast[2].state.memory_format == "channels_last"


@pytest.fixture
def found_faster(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Every try finds channels last faster; how often it was tried, and whether in bfloat16."""
    tries: list[bool] = []

    def choose(network: torch.nn.Module, images: torch.Tensor, autocast: bool = False) -> OrderChoice:
        tries.append(autocast)
        return OrderChoice(FORMATS[images.dim()], "channels last took 0.60 of the time")

    monkeypatch.setattr(acceleration_module, "choose_memory_format", choose)
    return tries


ENOUGH = STEPS_WORTH_A_PROBE


@pytest.mark.parametrize(
    ("settings", "num_steps", "num_processes", "before", "expected", "is_tried"),
    [
        ({}, ENOUGH, 1, None, "channels_last", True),
        ({}, ENOUGH - 1, 1, None, "contiguous", False),
        ({}, ENOUGH, 2, None, "contiguous", False),
        ({"deterministic": True}, ENOUGH, 1, None, "contiguous", False),
        ({"deterministic": True}, ENOUGH, 1, "channels_last", "channels_last", False),
        ({}, ENOUGH, 1, "contiguous", "contiguous", False),
        ({}, 1, 1, "channels_last", "channels_last", False),
        ({"channels_last": False}, ENOUGH, 1, "channels_last", "contiguous", False),
        ({"channels_last": True}, 1, 2, "contiguous", "channels_last", False),
    ],
)
def test_choose_order_on_a_cpu(
    found_faster: list[bool],
    settings: dict[str, bool],
    num_steps: int,
    num_processes: int,
    before: str | None,
    expected: str,
    is_tried: bool,
) -> None:
    order = Acceleration(**settings).choose_order(
        build_network(), build_images(), num_steps, True, num_processes, before
    )
    assert order.name == expected
    assert found_faster == ([True] if is_tried else [])
    assert bool(order.reason) == ("channels_last" not in settings)


@pytest.mark.parametrize(("settings", "expected"), [({}, "channels_last"), ({"channels_last": False}, "contiguous")])
def test_choose_order_on_a_gpu_is_not_tried_out_and_not_recalled(
    found_faster: list[bool], settings: dict[str, bool], expected: str
) -> None:
    class OnGpu(torch.Tensor):
        device = GPU

    images = build_images().as_subclass(OnGpu)
    order = Acceleration(**settings).choose_order(build_network(), images, ENOUGH, before="contiguous")
    assert (order.name, order.reason) == (expected, "")
    assert not found_faster


def test_acceleration_says_what_was_chosen_and_why(found_faster: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration_module, "STEPS_WORTH_A_PROBE", 1)
    _, _, trainer = train(Acceleration())
    assert found_faster == [False]
    assert trainer.state.acceleration == "network on cpu: channels last (channels last took 0.60 of the time)"
    assert trainer.state.memory_format == "channels_last"


def test_acceleration_channels_last_resumed_gives_every_bit_of_one_training() -> None:
    acceleration = Acceleration(channels_last=True, compile_network=False)
    losses, (weights, _), _ = train(acceleration)
    before, state, _ = train(acceleration, last=3)
    after, (resumed, _), _ = train(acceleration, first=3, state=state)
    assert before + after == losses
    assert_equal(resumed, weights)


@pytest.fixture
def own_locale() -> Iterator[None]:
    """That of the environment: an imaging library may have set the process to C, and PyTorch's compiler reads its own sources by it."""
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "")
    yield
    locale.setlocale(locale.LC_CTYPE, before)


@pytest.mark.usefixtures("own_locale")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_acceleration_compiled_trains_as_the_plain_network(backend: str) -> None:
    """The list of heads, which the network fills while it runs, must come out of the compiled one too."""
    plain = train(None)
    fast = train(Acceleration(channels_last=False, compile_network=True, backend=backend))
    assert fast[2].state.acceleration == "network on cpu: compiled"
    assert fast[0] == pytest.approx(plain[0], rel=1e-6)
    assert list(fast[1][0]) == list(plain[1][0])  # weights keep their names


def test_acceleration_compiler_that_fails_falls_back_and_says_so() -> None:
    def fail(*_: object) -> None:
        raise OSError("no compiler here")

    torch._dynamo.reset()
    plain, fast = train(None), train(Acceleration(channels_last=False, compile_network=True, backend=fail))  # type: ignore[arg-type]
    assert fast[0] == pytest.approx(plain[0], rel=1e-5)
    assert "not compiled, because torch.compile failed" in fast[2].state.acceleration
    assert "no compiler here" in fast[2].state.acceleration


def test_try_out_leaves_buffers_gradients_and_random_numbers_as_they_were() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    assert try_out(network, FastNetwork(network), build_images(), autocast=False) is None
    assert torch.equal(torch.rand(3), expected)
    assert_equal(network.state_dict(), before)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("settings", "device", "num_steps", "num_processes", "expected"),
    [
        ({}, GPU, STEPS_THAT_PAY, 1, True),
        ({}, GPU, STEPS_THAT_PAY - 1, 1, False),
        ({}, GPU, STEPS_THAT_PAY, 2, False),
        ({}, CPU, STEPS_THAT_PAY, 1, False),
        ({"deterministic": True}, GPU, STEPS_THAT_PAY, 1, False),
        ({"compile_network": True}, CPU, 1, 1, True),
        ({"compile_network": False}, GPU, STEPS_THAT_PAY, 1, False),
    ],
)
def test_should_compile_follows_settings_device_and_length(
    settings: dict[str, bool], device: torch.device, num_steps: int, num_processes: int, expected: bool
) -> None:
    assert Acceleration(**settings).should_compile(device, num_steps, num_processes) is expected


@pytest.mark.parametrize(("voxels_of_step", "expected"), [(4_000_000, True), (98_304, False)])
def test_should_compile_few_steps_of_many_voxels_pay_too(voxels_of_step: int, expected: bool) -> None:
    """A thousand steps of two patches of CT, and of the hippocampus."""
    assert Acceleration().should_compile(GPU, 1_070, 1, voxels_of_step) is expected


@pytest.mark.parametrize(
    ("settings", "device", "num_processes", "expected"),
    [
        ({}, GPU, 1, True),
        ({}, GPU, 2, False),  # gradients are exchanged in between
        ({}, CPU, 1, False),
        ({"deterministic": True}, GPU, 1, True),
        ({"cuda_graph": False}, GPU, 1, False),
        ({"cuda_graph": True}, CPU, 1, False),
    ],
)
def test_should_capture_follows_settings_device_and_processes(
    settings: dict[str, bool], device: torch.device, num_processes: int, expected: bool
) -> None:
    assert Acceleration(**settings).should_capture(device, num_processes) is expected


def test_training_step_reads_the_loss_from_the_device_once() -> None:
    """Every reading makes the host wait for a GPU, and handlers ask for the loss too."""
    readings = []

    class Count(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.ops.aten._local_scalar_dense.default:
                readings.append(function)
            return function(*args, **(kwargs or {}))

    step, network = TrainingStep(12.0, autocast=False), build_network()

    def count(engine: Engine, batch: dict[str, Any]) -> dict[str, Any]:
        with Count():
            return step(engine, batch)

    samples = [{"image": image, "label": (image > 0.5).float()} for image in build_images(count=2)]
    trainer = SupervisedTrainer(
        device=CPU,
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(samples), batch_size=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.01),
        loss_function=DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True)),
        iteration_update=count,
        decollate=False,
    )

    @trainer.on(Events.ITERATION_COMPLETED)
    def ask(engine: Engine) -> None:
        assert isinstance(engine.state.output["loss"], float)

    trainer.run()
    assert len(readings) == 2  # one in each step
