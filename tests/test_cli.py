"""The command line as a user meets it: exit status, one message, nothing half-written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

import unet_pipeline
from unet_pipeline.cli import app
from unet_pipeline.planning.plan import read_plan

from . import cohort_phantoms
from . import phantom_bundles as phantoms

VERBS = tuple(verb.replace("_", "-") for verb in unet_pipeline.VERBS)
HEAVY_MODULES = ("torch", "monai", "ignite", "pandas", "scipy", "matplotlib", "numpy")


@dataclass(frozen=True)
class Outcome:
    """What one call of the command line left."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one error message on stderr; before it there may be lines of the progress, and nothing else.

        A message may take several lines, but there must not be a second one.
        """
        lines = self.err.splitlines()
        starts = [index for index, line in enumerate(lines) if re.match(r"Error: ", line)]
        assert len(starts) == 1, f"expected one message on stderr, found:\n{self.err}"
        assert all(re.match(r"\w+: \d+/\d+ ", line) for line in lines[: starts[0]]), self.err
        assert "Traceback" not in self.err
        return "\n".join(lines[starts[0] :])


Run = Callable[..., Outcome]


@pytest.fixture
def run(call_main: Callable[..., tuple[int, str, str]]) -> Run:
    """Calls `main` with arguments, in a temporary folder as the current one."""
    return lambda *arguments: Outcome(*call_main(*arguments))


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset of pictures and its bundle, which has no weights."""
    folder = tmp_path_factory.mktemp("planned")
    dataset = phantoms.write_pictures(folder / "cells", num_cases=5)
    labels = {"background": 0, "cell": 255}
    return dataset, phantoms.plan_small(dataset, folder / "cell_bundle", labels=labels, **phantoms.SMALL_2D)


def list_files(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its contents, and every folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in sorted(root.rglob("*"))
    }


# help


def test_verbs_are_those_of_the_command_line() -> None:
    assert tuple(typer.main.get_command(app).commands) == VERBS  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_explains_every_parameter(run: Run, verb: str) -> None:
    outcome = run(verb, "--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert f"unet-pipeline {verb}" in outcome.out
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    assert command.help
    shown = " ".join(outcome.out.split())
    for parameter in command.params:
        assert parameter.help, parameter.name
        assert parameter.help.split()[0] in shown
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in shown


def test_help_without_verb_names_every_verb(run: Run) -> None:
    outcome = run("--help")
    assert outcome.status == 0
    assert all(re.search(rf"^\s+{verb}\s", outcome.out, re.MULTILINE) for verb in VERBS)


@pytest.mark.usefixtures("full_start")
def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from unet_pipeline.cli import main
for verb in {["", *VERBS]}:
    sys.argv = ["unet-pipeline", *([verb] if verb else []), "--help"]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0, verb
print("LOADED", *sorted(sys.modules.keys() & set({HEAVY_MODULES})))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "LOADED"


# wrong usage: status 2


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("nope", "nope"),
        ("--nope", "--nope"),
        ("check", "dataset"),
        ("check cells --nope", "--nope"),
        ("check cells --out", "--out"),
        ("check cells --label cell", "--label is 'cell'; expected NAME=VALUE"),
        ("check cells --label cell=x", "--label is 'cell=x'; expected NAME=VALUE"),
        ("check cells --label =255", "--label is '=255'; expected NAME=VALUE"),
        ("plan", "expected DATASET and BUNDLE"),
        ("plan cells", "expected DATASET and BUNDLE"),
        ("plan cells bundle --label cell", "--label is 'cell'; expected NAME=VALUE"),
        ("plan cells bundle --folds 1", "--folds"),
        ("plan cells bundle --seed x", "--seed"),
        ("plan cells bundle --preset quik", "did you mean 'quick'"),
        ("train", "bundle"),
        ("train bundle --fold x", "--fold is 'x'; expected a number or all"),
        ("train bundle --fold -1", "--fold is '-1'; expected a number or all"),
        ("train bundle num_epochs", "'num_epochs' is no override; expected KEY=VALUE"),
        ("predict bundle images", "out"),
        ("predict bundle images out more", "more"),
        ("package bundle --zip", "--zip"),
    ],
)
def test_wrong_usage_is_status_2_and_writes_nothing(run: Run, tmp_path: Path, line: str, named: str) -> None:
    phantoms.write_pictures(tmp_path / "cells", num_cases=2)
    before = list_files(tmp_path)
    outcome = run(*line.split())
    assert outcome.status == 2
    assert outcome.out == ""
    assert named.lower() in " ".join(outcome.err.split()).lower()
    assert "check: " not in outcome.err, "wrong usage must be noticed before the dataset is read"
    assert "Traceback" not in outcome.err
    assert list_files(tmp_path) == before


def test_no_verb_at_all_shows_the_help(run: Run) -> None:
    outcome = run()
    assert outcome.status == 2
    assert "Usage:" in outcome.out + outcome.err


# a problem of the input: status 1, one message that names the file


def remove(root: Path, name: str) -> None:
    (root / name).unlink()


def cut(root: Path, name: str) -> None:
    content = (root / name).read_bytes()
    (root / name).write_bytes(content[: len(content) // 2])


PROBLEMS = [
    pytest.param(remove, "labels/case_03.nii.gz", "images/case_03.nii.gz has no label", id="image without label"),
    pytest.param(remove, "images/case_03.nii.gz", "labels/case_03.nii.gz has no image", id="label without image"),
    pytest.param(cut, "images/case_02.nii.gz", "images/case_02.nii.gz cannot be read", id="truncated image"),
    pytest.param(cut, "labels/case_02.nii.gz", "labels/case_02.nii.gz cannot be read", id="truncated label"),
]


@pytest.mark.parametrize(("harm", "file", "expected"), PROBLEMS)
def test_plan_dataset_with_a_problem_names_the_file_and_writes_nothing(
    run: Run, nifti_folders: Path, tmp_path: Path, harm: Callable[[Path, str], None], file: str, expected: str
) -> None:
    harm(nifti_folders, file)
    before = list_files(tmp_path)
    outcome = run("plan", nifti_folders.name, "bundle", "--json", "plan.json")
    assert outcome.status == 1
    assert outcome.message.startswith(f"Error: Dataset {nifti_folders.name} has 1 error(s):\n")
    assert expected in outcome.message
    assert str(tmp_path) not in outcome.err
    assert outcome.out == ""
    assert list_files(tmp_path) == before


@pytest.mark.parametrize(("harm", "file", "expected"), PROBLEMS)
def test_check_dataset_with_a_problem_lists_the_file(
    run: Run, nifti_folders: Path, tmp_path: Path, harm: Callable[[Path, str], None], file: str, expected: str
) -> None:
    harm(nifti_folders, file)
    before = list_files(tmp_path)
    outcome = run("check", nifti_folders.name)
    assert outcome.status == 1
    assert f"1 error(s) in {nifti_folders.name}" in outcome.message
    assert expected in outcome.message, "stdout with the list may have gone elsewhere"
    assert outcome.out.count("error: ") == 1
    assert f"error: {expected}" in outcome.out
    assert list_files(tmp_path) == before


@pytest.mark.parametrize("verb", ["check", "plan"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere", "Dataset folder nowhere does not exist"),
        ("empty", "Dataset folder empty is empty"),
        ("notes.txt", "Dataset folder notes.txt is a file, not a folder"),
        ("other", "Dataset folder other has no known layout"),
    ],
)
def test_dataset_that_is_none_is_named(run: Run, tmp_path: Path, verb: str, name: str, expected: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "other" / "scans").mkdir(parents=True)
    before = list_files(tmp_path)
    outcome = run(verb, name, *(["bundle"] if verb == "plan" else ["--out", "out"]))
    assert outcome.status == 1
    assert outcome.message.startswith(f"Error: {expected}")
    assert len(outcome.message.splitlines()) == 1
    assert list_files(tmp_path) == before


BUNDLE_CALLS = {
    "train": ["train", "BUNDLE"],
    "describe": ["describe", "BUNDLE", "--svg", "network.svg"],
    "tune": ["tune", "BUNDLE"],
    "predict": ["predict", "BUNDLE", "cells/images", "out"],
    "evaluate": ["evaluate", "BUNDLE", "--out", "out"],
    "package": ["package", "BUNDLE", "--zip", "bundle.zip"],
    "refresh": ["plan", "--refresh", "BUNDLE"],
}


@pytest.mark.parametrize("call", BUNDLE_CALLS)
@pytest.mark.parametrize(
    ("bundle", "expected"),
    [("nowhere", "Bundle folder not found: nowhere"), ("cells", "configs/plan.yaml is missing")],
    ids=["missing", "no bundle"],
)
def test_bundle_that_is_none_is_named(run: Run, tmp_path: Path, call: str, bundle: str, expected: str) -> None:
    phantoms.write_pictures(tmp_path / "cells", num_cases=2)
    before = list_files(tmp_path)
    outcome = run(*(bundle if argument == "BUNDLE" else argument for argument in BUNDLE_CALLS[call]))
    assert outcome.status == 1
    assert outcome.message.startswith("Error: ")
    assert expected in outcome.message
    assert "unet-pipeline plan DATASET" in outcome.message, "what to do"
    assert len(outcome.message.splitlines()) == 1
    assert list_files(tmp_path) == before


@pytest.mark.parametrize("call", ["predict", "evaluate", "package"])
def test_bundle_without_weights_is_named_and_nothing_is_written(
    run: Run, planned: tuple[Path, Path], tmp_path: Path, call: str
) -> None:
    dataset, bundle = planned
    before, before_here = list_files(bundle), list_files(tmp_path)
    replaced = {"BUNDLE": str(bundle), "cells/images": str(dataset / "images")}
    outcome = run(*(replaced.get(argument, argument) for argument in BUNDLE_CALLS[call]))
    assert outcome.status == 1
    assert "cell_bundle has no weights: models/model.pt is missing" in outcome.message
    assert "unet-pipeline train" in outcome.message, "what to do"
    assert list_files(bundle) == before
    assert list_files(tmp_path) == before_here


@pytest.mark.parametrize(
    ("argument", "expected"),
    [("epochs=1", "did you mean 'num_epochs'"), ("--fold=9", "Fold 9 does not exist in cell_bundle")],
)
def test_train_id_or_fold_that_is_none_is_named(
    run: Run, planned: tuple[Path, Path], argument: str, expected: str
) -> None:
    before = list_files(planned[1])
    outcome = run("train", planned[1], argument)
    assert outcome.status == 1
    assert expected in outcome.message
    assert list_files(planned[1]) == before


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unet_pipeline", "--debug", "check", "nowhere"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback (most recent call last):" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith(
        "unet_pipeline.errors.DatasetError: Dataset folder nowhere does not"
    )


def test_interrupt_is_status_130_and_says_how_to_continue(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("unet_pipeline.check", interrupt)
    outcome = run("check", "cells")
    assert outcome.status == 130
    assert "Interrupted." in outcome.err
    assert "--resume" in outcome.err


# --json: what was printed, as data


def test_check_json_has_what_was_printed(run: Run, nifti_folders: Path) -> None:
    outcome = run("check", nifti_folders.name, "--json", "check.json")
    assert outcome.status == 0
    assert "no problem found" in outcome.out
    content = json.loads(Path("check.json").read_text(encoding="utf-8"))
    assert content["layout"] == "plain folders"
    assert content["problems"] == []
    assert content["name"] == nifti_folders.name
    assert content["num_cases"] == 4
    assert content["channels"] == ["channel_0"]
    assert content["labels"] == {"background": 0, "label_1": 1, "label_2": 2}
    assert content["spatial_dims"] == 3
    assert content["median_shape"] == [12, 16, 10]


def test_check_json_has_the_problems_of_a_dataset_that_fails(run: Run, nifti_folders: Path) -> None:
    (nifti_folders / "labels" / "case_03.nii.gz").unlink()
    outcome = run("check", nifti_folders.name, "--json", "check.json")
    assert outcome.status == 1
    (problem,) = json.loads(Path("check.json").read_text(encoding="utf-8"))["problems"]
    assert problem["severity"] == "error"
    assert problem["file"] == "images/case_03.nii.gz"
    assert problem["cause"] == "has no label"
    assert problem["remedy"]


def test_plan_json_is_the_plan_that_was_written(run: Run, tmp_path: Path) -> None:
    phantoms.write_pictures(tmp_path / "cells", num_cases=3)
    labels = ["--label", "background=0", "--label", "cell=255"]
    outcome = run(
        "plan",
        "cells",
        "bundle",
        "--preset",
        "quick",
        "--folds",
        "3",
        *labels,
        "--no-forecast",
        "--json",
        "out/plan.json",
    )
    assert outcome.status == 0
    content = json.loads(Path("out/plan.json").read_text(encoding="utf-8"))
    assert content == yaml.safe_load(Path("bundle/configs/plan.yaml").read_text(encoding="utf-8"))
    assert content["label_table"] == {"background": 0, "cell": 255}
    assert content["num_folds"] == 3
    assert "unet-pipeline train bundle" in outcome.out, "the next step"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "cells", "out"]


@pytest.mark.usefixtures("full_start")
def test_check_does_without_torch_and_monai(tmp_path: Path) -> None:
    """It takes a second instead of seven; `plan` counts what a network costs from its module."""
    phantoms.write_pictures(tmp_path / "cells", num_cases=3)
    code = (
        "import sys, unet_pipeline; from pathlib import Path\n"
        "unet_pipeline.check('cells')\n"
        "print(sorted({'torch', 'monai', 'ignite', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.usefixtures("full_start")
def test_plan_without_forecast_leaves_pytorchs_compiler_and_most_of_monai_out(tmp_path: Path) -> None:
    """It takes two seconds of a processor instead of seven; the plan is that of the API, which loads all."""
    dataset = phantoms.write_pictures(tmp_path / "cells", num_cases=3)
    code = (
        "import sys; from unet_pipeline.cli import main\n"
        "sys.argv[1:] = ['plan', 'cells', 'lean', '--preset', 'quick', '--folds', '3', '--no-forecast']\n"
        "try:\n    main()\nfinally:\n"
        "    print(sorted({'monai', 'ignite', 'pandas', 'scipy.stats', 'sympy', 'torch._dynamo'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "['monai']"
    whole = phantoms.silently(unet_pipeline.plan, dataset, tmp_path / "whole", preset="quick", folds=3)
    assert read_plan(tmp_path / "lean" / "configs" / "plan.yaml") == whole.plan


@pytest.mark.usefixtures("full_start")
def test_no_verb_loads_pytorch_before_it_has_looked_at_what_it_was_given() -> None:
    """Which also comes before a process can be arranged for a short import of MONAI."""
    code = (
        "import importlib, pkgutil, sys; from unet_pipeline import verbs\n"
        "[importlib.import_module(f'{verbs.__name__}.{one.name}') for one in pkgutil.iter_modules(verbs.__path__)]\n"
        "print('unet_pipeline.verbs.predict' in sys.modules, *sorted({'torch', 'monai', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


@pytest.mark.usefixtures("full_start")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_predict_leaves_most_of_monai_out(tmp_path: Path, jobs: str) -> None:
    """It takes half the processor's time for one image, and as little as that in the process that hands images to workers."""
    cohort_phantoms.build_bundle(tmp_path)
    cohort_phantoms.write_images(tmp_path / "images", 2)
    code = (
        "import sys; from unet_pipeline.cli import main; from unet_pipeline.lean_imports import HIDDEN\n"
        f"sys.argv[1:] = ['predict', 'bundle', 'images', 'out', '--jobs', '{jobs}']\n"
        "try:\n    main()\nfinally:\n    print(sorted({*HIDDEN, 'torch._dynamo', 'sympy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def planned_twice(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """Two plans of the same cells, with a step of 2 ms and with one of 20 s."""
    from unet_pipeline.training import probe

    phantoms.write_pictures(tmp_path / "cells", num_cases=3)
    outcomes = []
    for name, step_s in (("fast", 0.002), ("slow", 20.0)):
        monkeypatch.setattr(
            probe, "time_step", lambda folder, plan, step_s=step_s: probe.StepTime(step_s, step_s, "cpu", 1.0)
        )
        outcomes.append(run("plan", "cells", f"{name}/bundle", "--preset", "quick"))
    return outcomes


def test_plan_says_how_long_the_training_will_take(planned_twice: list[Outcome]) -> None:
    fast, slow = planned_twice
    assert fast.status == slow.status == 0
    assert re.search(
        r"^  time +less than a minute for one fold on this machine \(6,000 steps of 2 ms on cpu\)$", fast.out, re.M
    )
    assert "promises" not in fast.out
    assert re.search(r"^  time +about 3\d hours for one fold on this machine", slow.out, re.M)
    assert "the preset quick promises 30 minutes at most, which this machine cannot keep" in slow.out
    assert "unet-pipeline train slow/bundle num_epochs=1 iterations_per_epoch=" in slow.out


def test_plan_writes_no_number_of_the_machine(planned_twice: list[Outcome], tmp_path: Path) -> None:
    assert all(outcome.status == 0 for outcome in planned_twice)
    fast, slow = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("fast", "slow")
    )
    assert fast.keys() == slow.keys()
    assert [path for path in fast if fast[path] != slow[path]] == []


def test_plan_without_forecast_is_asked_for(run: Run, tmp_path: Path) -> None:
    phantoms.write_pictures(tmp_path / "cells", num_cases=3)
    outcome = run("plan", "cells", "bundle", "--preset", "quick", "--no-forecast")
    assert outcome.status == 0
    assert "time" not in outcome.out
    assert "Next: unet-pipeline train bundle" in outcome.out


def test_plan_step_that_cannot_be_timed_is_said_and_the_plan_stays(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unet_pipeline.training import probe

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(probe, "time_step", fail)
    phantoms.write_pictures(tmp_path / "cells", num_cases=3)
    outcome = run("plan", "cells", "bundle", "--preset", "quick")
    assert outcome.status == 0
    assert "time      not known. A step of the training cannot be timed on this machine (MemoryError" in outcome.out
    assert Path("bundle/configs/plan.yaml").is_file()
    assert "Next: unet-pipeline train bundle" in outcome.out


@pytest.mark.parametrize("verb", ["check", "plan"])
def test_json_that_no_file_can_be_is_refused_before_the_work(run: Run, nifti_folders: Path, verb: str) -> None:
    Path("taken.json").mkdir()
    arguments = (verb, nifti_folders.name, *(("bundle",) if verb == "plan" else ()), "--json", "taken.json")
    outcome = run(*arguments)
    assert outcome.status == 1
    assert "taken.json is a folder; expected a file. Give the name of a file." in outcome.err
    assert not Path("bundle").exists()
    assert outcome.out == ""


@pytest.mark.parametrize("target", ["nowhere", "bundle"])
def test_plan_into_a_link_that_leads_nowhere_is_refused(run: Run, nifti_folders: Path, target: str) -> None:
    Path("bundle").symlink_to(target)
    outcome = run("plan", nifti_folders.name, "bundle")
    assert outcome.status == 1
    assert "bundle is a link to something that does not exist" in outcome.err
    assert Path("bundle").is_symlink()


# options of the program


def test_version_tells_what_runs_and_where(run: Run) -> None:
    import monai
    import torch

    outcome = run("--version")
    lines = dict(line.split(maxsplit=1) for line in outcome.out.splitlines())
    assert (outcome.status, outcome.err) == (0, "")
    assert list(lines) == ["unet-pipeline", "python", "torch", "monai", "device"]
    assert lines["unet-pipeline"] == unet_pipeline.__version__
    assert (lines["torch"], lines["monai"]) == (torch.__version__, monai.__version__)
    assert lines["device"].startswith("cuda, " if torch.cuda.is_available() else "cpu, ")


def test_own_options_stand_behind_the_verb_too(run: Run) -> None:
    assert run("check", "nowhere", "--version").out.startswith("unet-pipeline ")


def test_quiet_prints_results_and_errors_only(run: Run, tmp_path: Path) -> None:
    phantoms.write_pictures(tmp_path / "cells", num_cases=3)
    loud, quiet = run("check", "cells"), run("check", "cells", "--quiet")
    assert loud.err.startswith("check: 3/3")
    assert quiet.err == ""
    assert loud.out == quiet.out + "Next: unet-pipeline plan cells cells_bundle --preset quick\n"
    assert run("--quiet", "check", "nowhere").message.startswith("Error: ")
    assert run("check", "cells").err.startswith("check: 3/3")  # the next call is not quiet


def test_check_next_step_has_the_options_that_say_how_it_is_read(run: Run, tmp_path: Path) -> None:
    phantoms.write_pictures(tmp_path / "my cells", num_cases=3)
    words = ["--label", "background=0", "--label", "cell=255", "--layout", "folders", "--follow-links"]
    out = run("check", "my cells", *words, "--out", "report").out
    assert out.endswith(f"Next: unet-pipeline plan 'my cells' 'my cells_bundle' --preset quick {' '.join(words)}\n")


def test_next_step_names_the_program_where_it_lies(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unet_pipeline.commands import output

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(tmp_path / ".venv" / "bin" / "unet-pipeline")])
    output.tell_next("report", Path("demo") / "a bundle")
    assert capsys.readouterr().out == "Next: .venv/bin/unet-pipeline report 'demo/a bundle'\n"


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("tr", "train"),
        ("plan D B --preset q", "quick"),
        ("plan D B --network unet3", "unet3d2016"),
        ("train B num_e", "num_epochs="),
        ("check D --layout case", "case_folders"),
        ("predict --mir", "--mirror"),
    ],
)
def test_completion_completes_names(words: str, completed: str) -> None:
    typed = f"unet-pipeline {words}"
    environment = {
        "_UNET_PIPELINE_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(words.count(" ") + 1),
    }
    outcome = CliRunner().invoke(app, [], prog_name="unet-pipeline", env=environment)
    assert outcome.output.split() == [completed]


def test_completion_scripts_are_printed() -> None:
    outcome = CliRunner().invoke(app, ["--show-completion", "bash"], prog_name="unet-pipeline")
    assert "complete -o default -F _unet_pipeline_completion unet-pipeline" in outcome.output
