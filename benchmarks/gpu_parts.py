"""The parts of `gpu.py`, each of which runs in a process of its own and leaves its rows as it goes."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gpu_results as results
import peer_environment as peer
import synthetic_ct
from gpu_results import Row
from measured_process import Measured, measure_verb

from unet_pipeline.bundle.folder import BundleFolder, open_bundle
from unet_pipeline.files import write_json
from unet_pipeline.planning.network_rules import estimate_training_gib
from unet_pipeline.planning.plan import read_plan

SHORT_PLAN = {"patch_size": [16, 24, 16], "window_size": [16, 24, 16], "batch_size": 2, "filters": [4, 8, 16, 32]}
SHORT_OVERRIDES = ("num_epochs=1", "iterations_per_epoch=3", "val_interval=1", "warmup_iterations=1")
NUM_PREDICTED = 52


@dataclass(frozen=True)
class Setting:
    """What every part is given.

    Attributes:
        dataset: Task04_Hippocampus, or a part of it.
        work: folder for bundles and whatever else is made.
        device: cuda or cpu.
        is_short: a few steps on small arrays.
        rows: file that gets one JSON object a row.
    """

    dataset: Path
    work: Path
    device: str
    is_short: bool
    rows: Path

    @property
    def quick(self) -> Path:
        return self.work / "quick"

    @property
    def like_nnunet(self) -> Path:
        return self.work / "nnunet_like"

    def scale(self, usual: int, short: int) -> int:
        """A number of steps or turns."""
        return short if self.is_short else usual

    def emit(self, row: Row) -> None:
        """Keep a row, whatever happens afterwards."""
        with self.rows.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(row)) + "\n")
        print(row, flush=True)

    def attempt(self, key: tuple[str, str], measure: Callable[[], Row]) -> Row:
        """The row that is measured, or one that says why there is none."""
        try:
            row = measure()
        except (Exception, SystemExit) as error:  # whatever fails, the other rows are measured all the same
            lines = str(error).strip().splitlines() or [""]
            row = Row(*key, failure=f"{type(error).__name__}: {lines[0]} ... {lines[-1]}"[:400])
        self.emit(row)
        return row


def prepare(setting: Setting) -> None:
    """The bundles that several parts use: nnU-Net's plan, and quick."""
    from train_step import NNUNET_PLAN, plan_like_nnunet

    numbers = {name: str(value) for name, value in SHORT_PLAN.items()} if setting.is_short else NNUNET_PLAN
    plan_like_nnunet(setting.dataset, setting.like_nnunet, numbers)
    measure_verb(["plan", setting.dataset, setting.quick, "--preset", "quick"])
    if setting.is_short:
        shrink(setting.quick)


def shrink(bundle: Path) -> None:
    """A plan with as many levels, of few channels."""
    filters = [4] * len(read_plan(open_bundle(bundle).plan).filters)
    synthetic_ct.set_numbers(bundle, {"filters": filters})


def write_small_dataset(dataset: Path, target: Path, count: int) -> Path:
    """The first cases of a data set in the layout of the Decathlon."""
    content = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    content["training"] = sorted(content["training"], key=lambda case: case["image"])[:count]
    for path in (Path(case[key]) for case in content["training"] for key in ("image", "label")):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(dataset / path, target / path)
    write_json(target / "dataset.json", content)
    return target


# the bare network


def measure_bare(setting: Setting) -> None:
    """The ceiling: a step of nnU-Net's plan on a batch that is there already."""
    from bare_forms import Form

    forms = {"eager": Form()}
    if setting.device == "cuda":
        forms[results.BARE[1]] = Form("reduce-overhead")
    forms["compiled"] = Form(name_mode(setting))
    if setting.device == "cuda":  # last, because a failed capture may spoil what comes after it
        forms["compiled, the whole step in one CUDA graph"] = Form("default", whole_step=True)
        forms["eager, the whole step in one CUDA graph"] = Form(whole_step=True)
    for what, form in forms.items():
        emit_form(setting, open_bundle(setting.like_nnunet), ("bare", what), form, 4, 50)


def name_mode(setting: Setting) -> str:
    """Of a compilation; on a busy processor a real one takes minutes."""
    return "traced" if setting.is_short else "default"


def emit_form(
    setting: Setting, folder: BundleFolder, key: tuple[str, str], form: Any, num_blocks: int, num_steps: int
) -> None:
    """Patches a second of one form."""
    import torch
    from bare_forms import build_problem, measure_form

    def measure() -> Row:
        problem = build_problem(folder, torch.device(setting.device))
        found = measure_form(problem, form, setting.scale(num_blocks, 2), setting.scale(num_steps, 2))
        batch = len(problem.images)
        details = {"ms a step": 1000 * batch / _middle(batch / step_s for step_s in found.step_s), "batch": batch}
        details |= {"warm-up (s)": found.warm_s, "peak memory (GiB)": found.peak_gib or None}
        return Row(*key, "patches/s", tuple(batch / step_s for step_s in found.step_s), details)

    setting.attempt(key, measure)


def _middle(values: Any) -> float:
    from statistics import median

    return median(values)


# our loop, and nnU-Net's


def measure_loop(setting: Setting) -> None:
    """`train.json` as `train` runs it, for a training of 48,000 steps that is ended early."""
    steps = (setting.scale(60, 2), setting.scale(5, 2), setting.scale(50, 2))
    loop_steps(setting, open_bundle(setting.like_nnunet), results.LOOP, *steps)


def measure_profile(setting: Setting) -> None:
    """How much of a step's wall time the GPU computes."""
    if setting.device == "cuda":
        steps = (setting.scale(60, 2), setting.scale(3, 2), setting.scale(50, 2), setting.scale(30, 2))
        loop_steps(setting, open_bundle(setting.like_nnunet), results.KERNELS, *steps)
    else:
        setting.emit(Row(*results.KERNELS, failure="needs a GPU"))


def loop_steps(
    setting: Setting,
    folder: BundleFolder,
    key: tuple[str, str],
    num_warm: int,
    num_blocks: int,
    num_steps: int,
    num_profiled: int = 0,
    num_epochs: int = 48,
) -> None:
    """Time blocks of steps of the real training, then profile some where that is asked for; ends the process.

    The row is patches a second, or the share of kernels when it is profiled.
    """
    from ignite.engine import Events
    from loop_clock import LoopClock
    from train_step import build_workflow

    started_s = time.perf_counter()
    workflow = build_workflow(folder, key[0], setting.device, num_epochs)
    plan = read_plan(folder.plan)
    clock = LoopClock(num_warm, num_blocks, num_steps, num_profiled, setting.device == "cuda")

    def finish(trainer: Any) -> None:
        details = {"ms a step": 1000 * _middle(clock.step_s), "batch": plan.batch_size}
        details |= {"as a training of so many steps": num_epochs * plan.iterations_per_epoch}
        details |= {"start and warm-up (s)": clock.warm_ended_s - started_s, **clock.describe(trainer)}
        if num_profiled:
            values = (clock.kernel_s / _middle(clock.step_s),)
            setting.emit(Row(*key, results.RATIO, values, details))
        else:
            setting.emit(Row(*key, "patches/s", tuple(plan.batch_size / step_s for step_s in clock.step_s), details))
        trainer.terminate()

    clock.finish = finish
    workflow.trainer.add_event_handler(Events.ITERATION_COMPLETED, clock)
    workflow.run()


def measure_peer(setting: Setting) -> None:
    """nnU-Net's trainer on its own plan, where it can be imported."""
    key = results.PEER
    if importlib.util.find_spec("nnunetv2") is None:
        setting.emit(Row(*key, failure="nnunetv2 cannot be imported"))
        return
    setting.attempt(key, lambda: _measure_peer(setting))


def _measure_peer(setting: Setting) -> Row:
    work = setting.work / "peer"
    environment = peer.build_environment(work, None)
    peer.write_dataset(setting.dataset, open_bundle(setting.quick).read_split(0).model_dump(), work)
    started_s = time.perf_counter()
    peer.prepare(Path(sys.executable), work, None)
    prepared_s = time.perf_counter() - started_s
    script = Path(__file__).with_name("peer_step.py")
    words = ["--device", setting.device, "--warm-up", str(setting.scale(50, 1))]
    words += ["--steps", str(setting.scale(50, 1)), "--turns", str(setting.scale(5, 1))]
    command = [sys.executable, str(script), *words]
    with (setting.work / "peer_step.log").open("w", encoding="utf-8") as log:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise SystemExit(f"peer_step.py ended with {done.returncode}: {_read_end(setting.work / 'peer_step.log')}")
    details = json.loads(lines[-1])
    batch = details["batch"]
    seconds = [float(line) for line in lines if re.fullmatch(r"[\d.e+-]+", line)]
    details |= {"ms a step": 1000 * _middle(seconds), "preprocessing (s)": prepared_s, "nnunetv2": peer.VERSION}
    return Row(*results.PEER, "patches/s", tuple(batch / step_s for step_s in seconds), details)


def _read_end(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8", errors="replace").split())[-300:]


# whole processes


def measure_quick(setting: Setting) -> None:
    """`train` of quick from start to end, then the Dice of its weights."""

    def train() -> Row:
        overrides = list(SHORT_OVERRIDES) if setting.is_short else []
        overrides += [f"device=$torch.device('{setting.device}')"]
        measured = measure_verb(["train", setting.quick, *overrides])
        runs = sorted(open_bundle(setting.quick).runs.glob("fold_0-*/run.json"))
        record = json.loads(runs[-1].read_text(encoding="utf-8"))
        details = {"profile (s)": record["profile"].get("seconds"), "choices": record["device_choices"]}
        details |= {"precision": record["precision"], "processor (s)": measured.processor_s}
        return Row(*results.QUICK, "s", (measured.seconds,), details)

    def score() -> Row:
        answer = setting.work / "quick_evaluation.json"
        measured = measure_verb(["evaluate", setting.quick, "--device", setting.device, "--json", answer])
        rows = json.loads(answer.read_text(encoding="utf-8"))["rows"]
        dice = {row["label"]: row for row in rows if row["metric"] == "dice" and row["in_mean"]}
        first = dice.pop("mean of labels")
        details = {f"Dice of {label}": row["mean"] for label, row in dice.items()}
        details |= {"cases": first["n"], "low": first["low"], "high": first["high"], "evaluate (s)": measured.seconds}
        return Row(*results.DICE, "", (first["mean"],), details)

    if setting.attempt(results.QUICK, train).values:
        setting.attempt(results.DICE, score)


def require_weights(setting: Setting) -> str:
    """Random weights where the part that trains was left out or failed; says which there are."""
    folder = BundleFolder(setting.quick)
    if folder.weights.is_file():
        return "of `quick`"
    synthetic_ct.write_random_weights(setting.quick)
    return "random"


def measure_predict(setting: Setting) -> None:
    """`predict` of 52 cases, in a process of its own each time."""
    weights = require_weights(setting)
    inputs, out, answer = setting.work / "inputs", setting.work / "predicted", setting.work / "predicted.json"
    inputs.mkdir(exist_ok=True)
    for path in sorted((setting.dataset / "imagesTr").glob("[!.]*.nii.gz"))[: setting.scale(NUM_PREDICTED, 3)]:
        shutil.copyfile(path, inputs / path.name)

    def predict() -> Row:
        found = []
        for _ in range(setting.scale(2, 1)):
            shutil.rmtree(out, ignore_errors=True)
            words = ["predict", setting.quick, inputs, out, "--device", setting.device, "--json", answer]
            found.append(measure_verb(words))
        content = json.loads(answer.read_text(encoding="utf-8"))
        details = {"cases": len(content["written"]), "weights": weights, "shares": content["shares"]}
        return Row(*results.PREDICT, "s", tuple(one.seconds for one in found), details | _describe(found))

    setting.attempt(results.PREDICT, predict)


def measure_evaluate(setting: Setting) -> None:
    """`evaluate` with its prediction, in a process of its own each time."""
    weights = require_weights(setting)
    folder, answer = open_bundle(setting.quick), setting.work / "evaluated.json"

    def evaluate() -> Row:
        found = []
        for _ in range(setting.scale(2, 1)):
            shutil.rmtree(folder.evaluations, ignore_errors=True)  # its label maps would be used again
            found.append(measure_verb(["evaluate", setting.quick, "--device", setting.device, "--json", answer]))
        num_cases = len(folder.read_split(0).validation)
        details = {"cases": num_cases, "weights": weights}
        return Row(*results.EVALUATE, "s", tuple(one.seconds for one in found), details | _describe(found))

    setting.attempt(results.EVALUATE, evaluate)


def _describe(found: list[Measured]) -> dict[str, Any]:
    return {
        "processor (s)": _middle(one.processor_s for one in found),
        "peak main memory (GiB)": max(one.peak_mib for one in found) / 1024,
    }


def measure_volume(setting: Setting) -> None:
    """`predict` of 512x512x300 with 3 and with 60 classes, plans of preset standard with random weights."""
    from predict_volume import FINER, FULL_SHAPE, plan_untrained

    shape = (64, 48, 40) if setting.is_short else FULL_SHAPE
    preset = "quick" if setting.is_short else "standard"
    spacing_mm = [FINER * size for size in synthetic_ct.SPACING_MM]
    image = synthetic_ct.draw_image(synthetic_ct.draw_labels(shape, 3), 0)
    volume = synthetic_ct.write_volume(setting.work / "volume" / "ct.nii.gz", image, spacing_mm)
    for num_classes in (3, 60):
        bundle = plan_untrained(setting.work, num_classes, shape, 0.5, preset)
        if setting.is_short:
            shrink(bundle)
            synthetic_ct.write_random_weights(bundle)
        for precision in ("float32", "bfloat16"):
            _predict_volume(setting, bundle, volume, num_classes, precision)


def _predict_volume(setting: Setting, bundle: Path, volume: Path, num_classes: int, precision: str) -> None:
    out, answer, stages = (setting.work / name for name in ("volume_out", "volume.json", "stages.json"))
    for path in (answer, stages):
        path.unlink(missing_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    key, words = results.name_volume(num_classes, precision), ["predict", bundle, volume, out]
    words += ["--device", setting.device, "--precision", precision, "--json", answer]

    def predict() -> Row:
        measured = measure_verb(words, stages)
        shares = json.loads(answer.read_text(encoding="utf-8"))["shares"]
        window = "x".join(map(str, read_plan(open_bundle(bundle).plan).window_size))
        return Row(*key, "s", (measured.seconds,), {"window": window, "shares": shares} | _describe([measured]))

    def read_network() -> Row:
        seconds = json.loads(stages.read_text(encoding="utf-8"))
        return Row(*results.name_network(num_classes, precision), "s", (seconds["network"],), {"stages (s)": seconds})

    if setting.attempt(key, predict).values:
        setting.attempt(results.name_network(num_classes, precision), read_network)


# CT


def measure_ct_bare(setting: Setting) -> None:
    """The bare compiled network of `standard`, planned for synthetic CT."""
    from bare_forms import Form

    folder = plan_ct(setting)
    emit_form(setting, folder, results.CT_BARE, Form(name_mode(setting)), 4, 10)


def measure_ct_loop(setting: Setting) -> None:
    """Our loop on the same plan, and what it took of the memory against the forecast."""
    folder = plan_ct(setting)
    steps = (setting.scale(10, 2), setting.scale(4, 2), setting.scale(10, 2))
    # as long as it is planned, since what is done about the device depends on it; all of these steps are of one epoch
    loop_steps(setting, folder, results.CT_LOOP, *steps, num_epochs=read_plan(folder.plan).num_epochs)
    rows = {(row.part, row.what): row for row in results.read_rows(setting.rows)}
    taken_gib = rows[results.CT_LOOP].details.get("peak memory (GiB)")
    if taken_gib is None:
        setting.emit(Row(*results.CT_MEMORY, failure="needs a GPU"))
        return
    plan = read_plan(folder.plan)
    forecast_gib = estimate_training_gib(plan.shape, plan.patch_size, plan.batch_size, in_bfloat16=True)
    placed_gib = rows[results.CT_LOOP].details["cases on the device (GiB)"]
    details = {"taken (GiB)": taken_gib - placed_gib, "forecast (GiB)": forecast_gib}
    setting.emit(Row(*results.CT_MEMORY, results.RATIO, ((taken_gib - placed_gib) / forecast_gib,), details))


def plan_ct(setting: Setting) -> BundleFolder:
    """A bundle of preset standard for synthetic CT, made once."""
    bundle = setting.work / "ct"
    if not bundle.is_dir():
        shape = (64, 48, 40) if setting.is_short else (256, 256, 128)
        dataset = synthetic_ct.write_dataset(setting.work / "ct_cases", 5, shape, 3)
        measure_verb(["plan", dataset, bundle, "--preset", "standard", "--folds", "5"])
        if setting.is_short:
            shrink(bundle)
    return open_bundle(bundle)


@dataclass(frozen=True)
class Part:
    """A process of the benchmark.

    Attributes:
        work: what it does.
        limit_s: the most seconds that it may take.
        shares_compiled: with the others that say so; the rest start as a user's process does, with nothing compiled before.
    """

    work: Callable[[Setting], None]
    limit_s: float
    shares_compiled: bool = False


# in the order in which they run: what others are held against first
PARTS = {
    "bare": Part(measure_bare, 150, True),
    "loop": Part(measure_loop, 120, True),
    "nnunet": Part(measure_peer, 150),
    "quick": Part(measure_quick, 210),
    "predict": Part(measure_predict, 60),
    "evaluate": Part(measure_evaluate, 70),
    "profile": Part(measure_profile, 100, True),
    "volume": Part(measure_volume, 170),
    "ct": Part(measure_ct_bare, 150, True),
    "ct loop": Part(measure_ct_loop, 150, True),
}
