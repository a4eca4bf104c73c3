"""A Slurm of one machine in a temporary folder, for as long as a command runs: `python tests/slurm_cluster.py COMMAND ...`.

It needs no rights of root but for the installation of Debian's packages, has an authentication of its own (munge) and two partitions:
jobs of `urgent` preempt those of `main`, which are put back into the queue.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
NUM_CPUS = 4
_START_S = 60.0
_STOP_S = 20.0

# no cgroups, which a container does not let us make; a credential that lives 5 s: a requeued job waits that long, not two minutes
CONFIGURATION = """\
ClusterName=phantom
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
ReturnToService=2
EnforcePartLimits=ALL
KillWait=5
MinJobAge=60
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={num_cpus} RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 DefaultTime=30 PriorityTier=1 OverSubscribe=NO
PartitionName=urgent Nodes={host} MaxTime=60 DefaultTime=30 PriorityTier=10 OverSubscribe=NO
"""


def install() -> None:
    """Install Debian's packages where they are missing and this user may."""
    if shutil.which("slurmctld") and shutil.which("munged"):
        return
    command = ["apt-get", "install", "-y", *PACKAGES]
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"Slurm is missing. Run `sudo {' '.join(command)}`, then again.")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update"], check=True, env=environment, stdout=subprocess.DEVNULL)
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


@contextmanager
def run_cluster() -> Iterator[dict[str, str]]:
    """Start munged, slurmctld and slurmd, and end them, also after an error; the variables that a command needs to find them."""
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        folder, daemons = Path(name), []
        environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        environment["PATH"] += ":/usr/sbin:/sbin"
        try:
            write_configuration(folder)
            for command in list_daemons(folder):
                with (folder / f"{command[0]}.out.log").open("wb") as log:
                    daemon = subprocess.Popen(
                        command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                    )
                daemons.append(daemon)
                time.sleep(0.5)
            wait_for_node(folder, environment)
            yield environment
        finally:
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(["scancel", "--me", "--signal=KILL"], env=environment, check=False, timeout=_STOP_S)
            for daemon in reversed(daemons):
                stop(daemon)


def write_configuration(folder: Path) -> None:
    """slurm.conf and a key for munge."""
    folder.chmod(0o755)
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    values = {
        "host": socket.gethostname().partition(".")[0],
        "user": getpass.getuser(),
        "folder": folder,
        "controller_port": find_port(),
        "daemon_port": find_port(),
        "num_cpus": NUM_CPUS,
    }
    (folder / "slurm.conf").write_text(CONFIGURATION.format_map(values))


def list_daemons(folder: Path) -> list[list[str]]:
    """The commands of the three daemons, in the order of their start."""
    places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{option}={folder}/munge.{ending}" for option, ending in places.items()]
    configuration = f"{folder}/slurm.conf"
    return [
        ["munged", "--foreground", "--force", *munge],
        ["slurmctld", "-D", "-i", "-f", configuration],
        ["slurmd", "-D", "-f", configuration],
    ]


def wait_for_node(folder: Path, environment: dict[str, str]) -> None:
    """Wait until the node takes jobs; else end with what the daemons said."""
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s:
        answer = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True, check=False
        )
        if "idle" in answer.stdout:
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log")))
    sys.exit(f"Slurm does not start: {answer.stdout}{answer.stderr}\n{logs}")


def stop(daemon: subprocess.Popen[bytes]) -> None:
    """End a daemon, by force if it takes long."""
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def find_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    install()
    with run_cluster() as variables:
        status = subprocess.run(sys.argv[1:], env=variables, check=False).returncode
    sys.exit(status)
