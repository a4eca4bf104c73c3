"""May a bundle's config or code use this dotted name? Decided from the name and from the files of the installed packages.

Nothing is imported but harmless modules of the standard library. An allowed package is not allowed whole: what loads
code, starts programs, writes files or opens the network is named here, and a name that passes through a module of
another package is followed into that package.
"""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Set
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from unet_pipeline.messages import DANGER, WARNING


def _words(text: str) -> list[str]:
    return text.split()


@dataclass(frozen=True)
class Verdict:
    """What a name may do; `severity` is empty where it is allowed."""

    severity: str = ""
    reason: str = ""


ALLOWED = Verdict()

# harmless with any argument; all other builtins are refused
BUILTINS = frozenset(
    _words("""
abs all any hasattr bool bytes callable complex dict divmod enumerate filter float frozenset hash hex int isinstance
issubclass iter len list map max min next oct ord pow print range repr reversed round set slice sorted str sum tuple
zip True False None Exception ValueError TypeError KeyError IndexError RuntimeError NotImplementedError AttributeError
StopIteration ImportError AssertionError FileNotFoundError Warning UserWarning DeprecationWarning object super
property staticmethod classmethod NotImplemented Ellipsis type id format
""")
)
# modules of the standard library: every name, or only those listed
STANDARD: dict[str, frozenset[str] | None] = {
    "__future__": None,
    "abc": None,
    "collections": None,
    "copy": None,
    "dataclasses": None,
    "datetime": None,
    "enum": None,
    "fractions": None,
    "functools": frozenset(
        _words("""
partial reduce lru_cache cache wraps cached_property total_ordering singledispatch
""")
    ),
    "glob": frozenset(("glob", "iglob", "escape")),
    "itertools": None,
    "json": frozenset(("loads", "dumps", "JSONDecodeError")),
    "logging": frozenset(
        _words("""
getLogger Logger INFO DEBUG WARNING ERROR CRITICAL info debug warning error
""")
    ),
    "math": None,
    "numbers": None,
    "operator": frozenset(
        _words("""
not_ itemgetter add sub mul truediv floordiv mod neg eq ne lt le gt ge and_ or_ is_ is_not contains getitem index
""")
    ),
    "os": frozenset(("path", "sep", "getcwd", "listdir", "makedirs", "cpu_count", "curdir", "pardir")),
    "pathlib": frozenset(("PurePath", "PurePosixPath")),
    "random": None,
    "re": None,
    "statistics": None,
    "string": frozenset(
        _words(
            "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits punctuation whitespace Template capwords"
        )
    ),
    "sys": frozenset(("stdout", "stderr", "maxsize", "float_info", "version_info", "byteorder", "platform")),
    "textwrap": None,
    "time": None,
    "traceback": frozenset(),
    "types": frozenset(("SimpleNamespace", "MappingProxyType")),
    "typing": None,
    "typing_extensions": None,
    "warnings": frozenset(("warn", "filterwarnings", "simplefilter", "catch_warnings")),
}
# parts of the allowed packages that a bundle may reach; what is no module of its own, such as torch.float32, is free
MODULES: dict[str, frozenset[str]] = {
    "monai": frozenset(
        _words("""
transforms data networks losses metrics inferers handlers engines optimizers visualize utils config apps.deepedit
apps.deepgrow apps.detection apps.pathology apps.reconstruction apps.vista3d apps.nuclick apps.generation
apps.deepatlas apps.vista
""")
    ),
    "torch": frozenset(
        _words("""
nn optim amp cuda backends distributions linalg fft special random types functional autograd mps cpu xpu version
sparse signal profiler utils.data utils.tensorboard utils.checkpoint distributed
""")
    ),
    "numpy": frozenset(
        _words("""
random linalg fft ma polynomial typing dtypes
""")
    ),
    "ignite": frozenset(("engine", "handlers", "metrics", "contrib", "utils", "exceptions", "distributed")),
    "unet_pipeline": frozenset(("device", "training", "networks")),
}
_DISTRIBUTED = frozenset(
    _words("""
init_process_group destroy_process_group is_initialized is_available get_rank get_world_size barrier all_reduce
all_gather broadcast ReduceOp is_nccl_available is_gloo_available
""")
)
DENIED = {
    "torch": _words("""
load save hub load_state_dict_from_url load_library load_inline from_file compile jit classes ops fx package export
onnx serialization _dynamo _inductor set_flush_denormal import_ir_module
"""),
    "numpy": _words("""
load save savez savez_compressed savetxt fromfile memmap open_memmap DataSource genfromtxt loadtxt fromregex lib
ctypeslib f2py distutils testing tofile rec core info source lookfor
"""),
    "monai": _words("""
download_url download_and_extract extractall run_cmd run_debug optional_import instantiate load_submodules locate
pickle_operations pickle_hashing load_net_with_metadata load_pretrain from_pretrained load_module torch_load
exec_module create_workflow run_workflow download load_bundle_config get_package_version DecathlonDataset
MedNISTDataset CrossValidation TciaDataset
"""),
    "ignite": ["launcher", "spawn", "Parallel", "DiskSaver"],
    "unet_pipeline": [],
}
_SENDS = (
    "MLFlowHandler",
    "mlflow",
    "ClearML",
    "clearml",
    "wandb",
    "WandB",
    "neptune",
    "Neptune",
    "polyaxon",
    "Polyaxon",
    "visdom",
)
# never reached through another module
DANGEROUS_MODULES = frozenset(
    _words("""
os posix nt posixpath ntpath sys subprocess shutil socket ssl socketserver importlib builtins ctypes pickle _pickle
cloudpickle dill joblib runpy code codeop pty marshal shelve multiprocessing threading asyncio concurrent urllib http
ftplib smtplib poplib imaplib telnetlib requests urllib3 aiohttp httpx boto3 webbrowser tempfile pathlib zipfile
tarfile inspect gc pydoc pkgutil signal atexit pdb bdb timeit trace profile cProfile zipimport site sysconfig fsspec
gdown paramiko psutil platform fileinput io mmap yaml cffi numba cupy nt_types antigravity venv ensurepip pip
setuptools distutils cpp_extension linecache doctest unittest
""")
)
# methods and attributes with which an object that looks harmless starts programs, loads code or writes files
DENIED_ATTRIBUTES = frozenset(
    _words("""
system popen Popen check_call check_output getoutput getstatusoutput import_module exec_module load_module run_module
run_path urlopen urlretrieve write_text write_bytes unlink rmtree rmdir execv execve execvp execl spawnl spawnv fork
forkpty kill loads load open connect sendall runcode runsource extractall f_globals f_locals f_builtins f_back
gi_frame gi_code cr_frame ag_frame tb_frame func_globals tofile dump dumps symlink hardlink_to symlink_to rename
replace_file chmod chown mro attrgetter methodcaller
""")
)
# a file or folder of this name in a bundle's root is imported instead of the package
SHADOWED = frozenset(sys.stdlib_module_names) | frozenset(
    _words("""
monai torch ignite numpy scipy pandas nibabel SimpleITK skimage PIL matplotlib yaml tqdm einops pydicom itk pipeline
unet_pipeline tensorboard sitecustomize usercustomize torchvision transformers fire psutil sklearn cv2 onnx onnxruntime jsonschema
""")
)
# functions of the standard library that evaluate what they are given
_EVALUATES = frozenset(
    ("typing.get_type_hints", "typing.ForwardRef", "dataclasses.make_dataclass", "collections.namedtuple")
)
_PRIVATE = "is private: from there everything can be reached"


def classify(name: str, own: Set[str] = frozenset()) -> Verdict:
    """Whether a bundle may use a dotted name.

    Args:
        name: such as "monai.transforms.LoadImaged"; a name without a dot is a class of MONAI or a builtin, as `_target_` has it.
        own: modules of the bundle itself, with dots, folders included.
    """
    parts = name.strip().split(".")
    if not all(part.isidentifier() for part in parts):
        return Verdict(DANGER, "is no dotted name")
    if len(parts) == 1:
        if parts[0] in DENIED["monai"] or (hasattr(builtins, parts[0]) and parts[0] not in BUILTINS):
            return Verdict(DANGER, "is a function that can run anything")
        return ALLOWED
    if name in _EVALUATES:
        return Verdict(DANGER, "evaluates texts as Python code")
    if private := [
        part for part in parts if part.startswith("_") and part != "__version__" and parts[0] != "__future__"
    ]:
        return Verdict(DANGER, f"{private[0]} {_PRIVATE}")
    root = parts[0]
    if root in ("builtins", "__builtin__"):
        return ALLOWED if parts[1] in BUILTINS else Verdict(DANGER, "is a builtin that can run or write anything")
    if root in own:
        return _classify_rest(parts, _own_depth(parts, own))
    if root in MODULES:
        return _classify_allowed_package(parts)
    if root in STANDARD:
        return _classify_standard(parts)
    return Verdict(DANGER, "is outside of monai, torch, ignite, numpy and the bundle's own modules")


def classify_module(name: str, own: Set[str] = frozenset()) -> Verdict:
    """Whether a bundle may import a module as a whole; what it uses of it is judged by `classify`."""
    parts = name.split(".")
    if any(part.startswith("_") for part in parts) and name != "__future__":
        return Verdict(DANGER, f"{name} {_PRIVATE}")
    root = parts[0]
    if root in own or (root in STANDARD and len(parts) == 1) or name == "os.path":
        return ALLOWED
    if root in MODULES:
        return ALLOWED if len(parts) == 1 else _classify_allowed_package(parts)
    if root in STANDARD:
        return ALLOWED if STANDARD[root] is None else Verdict(DANGER, f"is none of the harmless names of {root}")
    return Verdict(DANGER, "is outside of monai, torch, ignite, numpy and the bundle's own modules")


def _classify_standard(parts: list[str]) -> Verdict:
    """A name of the standard library."""
    root = parts[0]
    listed = STANDARD[root]
    if listed is not None and parts[1] not in listed:
        return Verdict(DANGER, f"is none of the harmless names of {root}")
    if parts[:2] == ["os", "path"]:
        return _classify_rest(parts, 2)
    if isinstance(getattr(import_module(root), parts[1], None), ModuleType) and find_depth(tuple(parts)) < 2:
        return Verdict(DANGER, f"reaches another module through {root}")
    return _classify_rest(parts, find_depth(tuple(parts)))


def _classify_allowed_package(parts: list[str]) -> Verdict:
    root, depth = parts[0], find_depth(tuple(parts))
    if denied := next((part for part in parts[1:] if part in DENIED[root]), None):
        return Verdict(DANGER, f"{root}'s {denied} loads code, starts programs, opens the network or writes files")
    if depth > 1:
        inside = ".".join(parts[1:depth])
        if not any(
            inside == part or inside.startswith(f"{part}.") or part.startswith(f"{inside}.") for part in MODULES[root]
        ):
            return Verdict(DANGER, f"{root}.{inside} is none of the parts of {root} that a bundle needs")
        distributed = parts[:2] == ["torch", "distributed"] and len(parts) > 2
        if distributed and parts[2] not in _DISTRIBUTED:
            return Verdict(DANGER, "torch.distributed can start programs and run code of other machines")
    if depth < len(parts) and (other := _imported_as(tuple(parts[:depth]), parts[depth])):
        return classify_module(other) if depth + 1 == len(parts) else classify(".".join([other, *parts[depth + 1 :]]))
    found = _classify_rest(parts, depth)
    if not found.severity and any(part.startswith(_SENDS) for part in parts[1:]):
        return Verdict(WARNING, "can send data to a server")
    return found


def _classify_rest(parts: list[str], depth: int) -> Verdict:
    """What lies behind the last module of a name: a class, a function, or somebody else's module."""
    rest = parts[depth:]
    if dangerous := next((part for part in rest if part in DANGEROUS_MODULES), None):
        return Verdict(DANGER, f"reaches the module {dangerous} through {'.'.join(parts[:depth])}")
    if denied := next((part for part in rest if part in DENIED_ATTRIBUTES), None):
        return Verdict(DANGER, f"{denied} can load code, start programs or write files")
    if len(rest) > 1 and rest[0][:1].islower() and rest[0] in SHADOWED | {"np", "nn", "nib", "sitk", "pd", "plt"}:
        return Verdict(DANGER, f"reaches {rest[0]} through {'.'.join(parts[:depth])}, which is not its place")
    return ALLOWED


def _own_depth(parts: list[str], own: Set[str]) -> int:
    return max(depth for depth in range(1, len(parts) + 1) if ".".join(parts[:depth]) in own)


@lru_cache(maxsize=4096)
def find_depth(parts: tuple[str, ...]) -> int:
    """How many parts of a name are a package or module on the disk; at least 1."""
    folder = _find_package(parts[0])
    depth = 1
    while folder is not None and depth < len(parts):
        below = folder / parts[depth]
        if below.is_dir():
            folder = below
        elif below.with_name(f"{parts[depth]}.py").is_file():
            folder = None
        else:
            break
        depth += 1
    return depth


@lru_cache(maxsize=4096)
def _imported_as(module: tuple[str, ...], name: str) -> str:
    """Module that the source of an installed module imports under another name; empty if none."""
    folder = _find_package(module[0])
    if folder is None or not name[:1].islower():
        return ""
    path = folder.joinpath(*module[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    found = re.search(rf"^[ \t]*import[ \t]+([\w.]+)[ \t]+as[ \t]+{name}\b", text, re.MULTILINE)
    return found[1] if found else ""


@lru_cache
def _find_package(root: str) -> Path | None:
    try:
        spec = find_spec(root)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
