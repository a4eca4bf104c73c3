"""What a number depends on beside the data: code, libraries, environment variables and the machine.

This is the only place where a record reads the environment.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import resource
import subprocess
import sys
from importlib import metadata as distributions
from pathlib import Path

from unet_pipeline import __version__
from unet_pipeline.bundle.run_record import CodeVersion, Machine
from unet_pipeline.device.cores import count_cores

OWN_NAME = "unet-pipeline"
PACKAGES = (
    "monai",
    "torch",
    "pytorch-ignite",
    "numpy",
    "scipy",
    "nibabel",
    "SimpleITK",
    "pydicom",
    "pillow",
    "scikit-image",
    "pandas",
    "pydantic",
    "tensorboard",
    "nilearn",
    "onnxruntime",
    "mlflow-skinny",
)
# what changes the numbers or the speed of a run; the README lists them
ENVIRONMENT = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "KMP_AFFINITY",
    "GOMP_CPU_AFFINITY",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTHONHASHSEED",
    "SLURM_JOB_ID",
)
_LIBRARIES_FIRST = "LD_PRELOAD"  # only the names of the files are kept: a record names no folder of a machine
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def read_versions() -> dict[str, str]:
    """Versions of this package and of those that matter, as far as they are installed."""
    return dict(_read_versions())


@functools.cache  # the files of every installed package are looked through for each of them
def _read_versions() -> dict[str, str]:
    versions = {OWN_NAME: __version__}
    for name in PACKAGES:
        try:
            versions[name] = distributions.version(name)
        except distributions.PackageNotFoundError:
            continue
    return versions


def read_environment() -> dict[str, str]:
    """The environment variables that matter and are set."""
    variables = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    if libraries := os.environ.get(_LIBRARIES_FIRST):
        variables[_LIBRARIES_FIRST] = " ".join(Path(part).name for part in libraries.replace(":", " ").split())
    return variables


def describe_machine() -> Machine:
    """The machine that this process runs on."""
    import psutil
    import torch

    has_gpu = torch.cuda.is_available()
    return Machine(
        processor=_read_cpu_line("model name") or platform.processor() or platform.machine(),
        instructions=[name for name in _INSTRUCTIONS if name in _read_cpu_line("flags").split()],
        num_cores=os.cpu_count(),
        num_physical_cores=psutil.cpu_count(logical=False),
        num_threads=torch.get_num_threads(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpu=torch.cuda.get_device_name() if has_gpu else None,
        num_gpus=torch.cuda.device_count() if has_gpu else 0,
        gpu_memory_gib=round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if has_gpu else None,
        gpu_driver=_read_gpu_driver() if has_gpu else None,
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version() if has_gpu else None,
        system=platform.platform(),
        python=sys.version.split()[0],
    )


def describe_device() -> str:
    """What is computed on if no device is named: a GPU, or the processor with its cores and instructions."""
    machine = describe_machine()
    if machine.gpu is not None:
        further = f", and {machine.num_gpus - 1} more" if machine.num_gpus > 1 else ""
        return f"cuda, {machine.gpu} with {machine.gpu_memory_gib} GiB{further}"
    return f"cpu, {machine.processor}, {count_cores()} cores"


def _read_cpu_line(name: str) -> str:
    """A line of the first processor in /proc/cpuinfo; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def _read_gpu_driver() -> str | None:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    return next((word for word in text.split() if word.count(".") >= 1 and word[0].isdecimal()), None)


def identify_boot() -> str:
    """Digest that is the same for all processes of this machine until it is started again; it tells no name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        import psutil

        boot = str(int(psutil.boot_time()))
    return hashlib.sha256(f"{platform.node()}/{boot}".encode()).hexdigest()[:16]


def read_code_version() -> CodeVersion:
    """Commit of the source tree and whether it was changed since; None for an installed package without one."""
    source = Path(__file__).parent

    def ask_git(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", *arguments], cwd=source, capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.strip()

    commit = ask_git("rev-parse", "HEAD") if ask_git("ls-files", "--error-unmatch", Path(__file__).name) else None
    changed = bool(ask_git("status", "--porcelain", "--", "..")) if commit else None
    return CodeVersion(commit=commit, changed=changed)


def read_peak_memory_gib() -> float:
    """Most resident memory that this process ever had."""
    return _as_gib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def read_peak_memory_of_worker_gib() -> float:
    """Most resident memory of the largest process that this one started and that has ended; 0 without one."""
    return _as_gib(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def read_peak_gpu_memory_gib() -> float | None:
    """Most memory that PyTorch had reserved on one GPU; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    return max(torch.cuda.max_memory_reserved(index) for index in range(torch.cuda.device_count())) / 2**30


def _as_gib(peak: int) -> float:
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20  # bytes there, KiB elsewhere
