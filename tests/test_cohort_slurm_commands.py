"""What Slurm's commands print and take; no Slurm."""

from __future__ import annotations

import pytest

from unet_pipeline.cohort import slurm_commands
from unet_pipeline.cohort.slurm_commands import TaskState, read_options, read_states, require_slurm
from unet_pipeline.errors import CohortError


def test_read_states_of_arrays_and_of_a_job_without_one() -> None:
    answer = "12_1|a|PENDING|PartitionTimeLimit\n12_0|a|RUNNING|None\n15|b|OUT_OF_MEMORY|OutOfMemory\n"
    assert read_states(answer) == {
        "a": {1: TaskState("12_1", "PENDING", "PartitionTimeLimit"), 0: TaskState("12_0", "RUNNING")},
        "b": {0: TaskState("15", "OUT_OF_MEMORY")},
    }
    assert read_states("") == {}


@pytest.mark.parametrize(
    ("state", "is_over"),
    [("RUNNING", False), ("PENDING", False), ("COMPLETING", False), ("REQUEUED", False), ("SUSPENDED", False)]
    + [(state, True) for state in ("COMPLETED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")],
)
def test_task_state_is_over(state: str, is_over: bool) -> None:
    assert TaskState("1", state).is_over == is_over


def test_read_options_take_long_names_and_options_without_a_value() -> None:
    sbatch = {"partition": "gpu", "gpus-per-task": "1", "--mem": "8G", "exclusive": ""}
    assert read_options(sbatch) == {"partition": "gpu", "gpus_per_task": "1", "mem": "8G", "exclusive": True}


@pytest.mark.parametrize("name", ["array", "job-name", "--output", "open_mode"])
def test_read_options_refuse_what_the_engine_sets(name: str) -> None:
    with pytest.raises(CohortError, match=f"The option {name} of Slurm's sbatch is set by the engine. Leave it out."):
        read_options({name: "1"})


@pytest.mark.parametrize("name", ["", "Partition", "part ition", "p\n#SBATCH --x"])
def test_read_options_refuse_what_is_no_name(name: str) -> None:
    with pytest.raises(CohortError, match="is no option of Slurm's sbatch; expected a long name"):
        read_options({name: "1"})


def test_require_slurm_names_the_commands_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_commands.shutil, "which", lambda name: None if name == "sbatch" else f"/bin/{name}")
    with pytest.raises(CohortError, match=r"this machine has no sbatch\. .*or take --engine local or ray"):
        require_slurm()


def test_require_slurm_names_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_commands.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(slurm_commands, "find_spec", lambda name: None)
    with pytest.raises(CohortError, match=r"pip install 'unet-pipeline\[slurm\]'"):
        require_slurm()
