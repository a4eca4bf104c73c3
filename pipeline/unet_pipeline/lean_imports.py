"""Shorter start and end for a process that runs one verb: Python, PyTorch and MONAI take most of a small prediction.

`import monai` loads all of MONAI, and with it every optional library that it finds. Ignite, pandas, matplotlib, MLflow and TensorBoard
are three quarters of that time, and a prediction touches none of them. MONAI works where they are not installed; so they are
hidden from it, and from it alone, while it is imported. Python's search for unreachable objects finds next to none among the million
objects of these libraries, and goes over all of them again and again: it rests while they load, and leaves them out from then on.
"""

from __future__ import annotations

import atexit
import gc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType

HIDDEN = (
    "ignite",
    "jsonschema",
    "matplotlib",
    "mlflow",
    "pandas",
    "pydicom",
    "requests",
    "scipy.optimize",
    "scipy.signal",
    "scipy.stats",
    "sklearn",
    "tensorboard",
    "tensorboardX",
)
# MONAI's readers look for their libraries when a transform is built, and DICOM is read here, not by MONAI
_HIDDEN_FROM_READERS = ("pydicom",)
# what MONAI measures and mends label maps with: connected parts, holes, splines
FOR_LABEL_MAPS = ("scipy", "skimage")
_MONAI = "monai"
# nibabel looks for pydicom to show one kind of extension of a header, and that is most of its own import
_SLOW: dict[str, tuple[str, ...]] = {
    "unet_pipeline.verbs.check": (),
    "unet_pipeline.verbs.plan": (),
    "unet_pipeline.verbs.predict": (),
    "unet_pipeline.verbs.evaluate": (),
    "torch": (),
    "nibabel": ("pydicom",),
    _MONAI: (),
}


def arrange_quick_start() -> None:
    """Let the next imports of PyTorch and MONAI, and the end of this process, go without Python's search for unreachable objects.

    What is computed stays the same. nibabel does not find pydicom, and leaves DICOM headers inside of NIfTI files as bytes.
    """
    if _find_own_finder() is None:
        sys.meta_path.insert(0, _SlowFinder())
        atexit.register(gc.freeze)


def arrange_lean_import(with_label_maps: bool = True) -> bool:
    """Let the next `import monai` of this process leave `HIDDEN` out.

    Afterwards everything can be imported as always; but MONAI's own engines, handlers, plots and the few transforms that need what was
    hidden raise `OptionalImportError`. So this is for a process that predicts and ends.

    Args:
        with_label_maps: False leaves `FOR_LABEL_MAPS` out too, for a bundle without post-processing.

    Returns:
        False where MONAI was imported before: then nothing changes.
    """
    if _MONAI in sys.modules:
        return False
    arrange_quick_start()
    finder = _find_own_finder()
    if finder is not None:
        finder.hidden = HIDDEN if with_label_maps else (*HIDDEN, *FOR_LABEL_MAPS)
    return True


@contextmanager
def leave_out_readers() -> Iterator[None]:
    """Within the block, MONAI's `LoadImage` is built without its DICOM reader; nothing changes but after `arrange_lean_import`."""
    finder = _find_own_finder()
    with _hide(_HIDDEN_FROM_READERS if finder is not None and finder.hidden else ()):
        yield


class _SlowFinder(MetaPathFinder):
    """Finds PyTorch, nibabel and MONAI as Python does, with a loader that is faster.

    Attributes:
        hidden: libraries that MONAI shall not find.
    """

    def __init__(self) -> None:
        self.hidden: tuple[str, ...] = ()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _SLOW:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LeanLoader(spec.loader, self.hidden if fullname == _MONAI else _SLOW[fullname])
        return spec


def _find_own_finder() -> _SlowFinder | None:
    return next((finder for finder in sys.meta_path if isinstance(finder, _SlowFinder)), None)


class _LeanLoader(Loader):
    """Executes a module with libraries hidden; where it cannot do without them, once more with all."""

    def __init__(self, inner: Loader, hidden: Sequence[str]) -> None:
        self.inner, self.hidden = inner, hidden

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.inner
        module.__loader__ = self.inner
        with _rest_collection():
            try:
                with _hide(self.hidden):
                    self.inner.exec_module(module)
            except ImportError:
                if not self.hidden:
                    raise
                for name in [name for name in sys.modules if name.startswith(f"{module.__name__}.")]:
                    del sys.modules[name]
                self.inner.exec_module(module)


@contextmanager
def _rest_collection() -> Iterator[None]:
    """Within the block, Python does not look for unreachable objects, and what is there at its end stays until the process ends."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


class _Absent(MetaPathFinder):
    """Answers for some libraries as Python does for those that are not installed."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        # a library may be there already, without the parts that take the time
        if any(fullname == name or fullname.startswith(f"{name}.") for name in self.names):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


@contextmanager
def _hide(names: Sequence[str]) -> Iterator[None]:
    """Within the block, libraries that are not imported yet cannot be."""
    absent = _Absent(names)
    sys.meta_path.insert(0, absent)
    try:
        yield
    finally:
        sys.meta_path.remove(absent)
