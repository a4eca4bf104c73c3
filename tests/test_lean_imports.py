"""A process with a short start has the same libraries as any other, but for those that MONAI was not to find."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unet_pipeline import lean_imports

pytestmark = pytest.mark.usefixtures("full_start")

# flags such as has_pandas, by module, of everything that the configs of a bundle can name for a prediction
LIST_FLAGS = """
import json, sys
import monai, monai.bundle, monai.networks.nets, monai.inferers, monai.transforms
flags = {
    f"{name}.{flag}": bool(value)
    for name, module in list(sys.modules.items())
    if name.startswith(("monai.transforms", "monai.data", "monai.inferers", "monai.networks", "monai.bundle"))
    for flag, value in list(vars(module).items())
    if flag.startswith("has_") and isinstance(value, bool)
}
"""


def run(code: str, folder: Path | None = None) -> str:
    """What a Python process of its own prints, with `folder` in front of the other modules."""
    environment = dict(os.environ)
    if folder is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_false_monai(folder: Path, text: str) -> Path:
    """A package monai that takes no time."""
    (folder / "monai").mkdir()
    (folder / "monai" / "__init__.py").write_text(text, encoding="utf-8")
    (folder / "monai" / "part.py").write_text("COUNT = 1\n", encoding="utf-8")
    return folder


LEAN = "from unet_pipeline.lean_imports import arrange_lean_import\narrange_lean_import()\n"
BUILD_READERS = """
from unet_pipeline.lean_imports import leave_out_readers
from monai.transforms import LoadImage
with leave_out_readers():
    loader = LoadImage()
found = "pydicom" in sys.modules
assert {"NibabelReader", "PILReader"} <= {type(reader).__name__ for reader in loader.readers}
import pydicom
print(found, "pydicom" in sys.modules)
"""


@cache
def show(start: str) -> list[str]:
    """The last lines of a process that loads MONAI after `start`: its flags and modules, and whether readers load pydicom."""
    tell = "print(json.dumps({'flags': flags, 'loaded': sorted(sys.modules)}))\n"
    return run(start + LIST_FLAGS + tell + BUILD_READERS).splitlines()[-2:]


@pytest.mark.slow
def test_arrange_lean_import_monai_lacks_nothing_but_what_is_hidden() -> None:
    lean, full = (json.loads(show(start)[-2]) for start in (LEAN, ""))
    hidden = {name.split(".")[0] for name in lean_imports.HIDDEN if "." not in name}
    assert not hidden & set(lean["loaded"])
    assert hidden & set(full["loaded"]), "where none is installed, this shows nothing"
    assert {"monai.transforms.post.array", "skimage.measure", "scipy.ndimage", "nibabel"} <= set(lean["loaded"])
    shared = lean["flags"].keys() & full["flags"].keys()
    differing = {flag.split(".")[-1] for flag in shared if lean["flags"][flag] != full["flags"][flag]}
    assert len(shared) > 20
    training = {"has_ignite", "has_pandas", "has_matplotlib", "has_hilbert", "has_iirnotch", "has_tensorboard"}
    # DICOM is read here, not by MONAI, and nothing is downloaded
    assert differing <= training | {"has_pydicom", "has_requests"}


@pytest.mark.slow
@pytest.mark.parametrize(("start", "expected"), [(LEAN, "False True"), ("", "True True")])
def test_leave_out_readers_only_in_a_lean_process(start: str, expected: str) -> None:
    """Building `LoadImage` imports the library of every reader; afterwards each is found as always."""
    assert show(start)[-1] == expected


@pytest.mark.slow
def test_arrange_lean_import_without_label_maps_loads_nothing_of_scipy() -> None:
    lean = LEAN.replace("lean_import()", "lean_import(with_label_maps=False)")
    tell = (
        "import monai.bundle, monai.networks.nets, monai.inferers, monai.transforms, sys\n"
        "print([name for name in ('scipy.ndimage', 'scipy.spatial', 'skimage') if name in sys.modules])\n"
        "import skimage.measure, scipy.ndimage\n"  # the rest of the program still finds them
        "print('scipy.ndimage' in sys.modules, 'skimage.measure' in sys.modules)"
    )
    assert run(lean + tell).splitlines()[-2:] == ["[]", "True True"]


@pytest.mark.slow
def test_arrange_quick_start_nibabel_reads_a_file_with_a_dicom_header_inside(tmp_path: Path) -> None:
    """nibabel does without pydicom, and the bytes of such a header stay what they are."""
    path = tmp_path / "volume.nii.gz"
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("dicom", b"\x08\x00\x60\x00CS\x02\x00MR" + b"\x00" * 6))
    nib.save(image, path)
    code = (
        "from unet_pipeline.lean_imports import arrange_quick_start\narrange_quick_start()\n"
        "import sys, nibabel\nprint('pydicom' in sys.modules)\n"
        f"image = nibabel.load({str(path)!r})\n"
        "print(image.get_fdata().sum(), len(image.header.extensions), image.header.extensions[0].get_code())\n"
        "import pydicom\nprint('pydicom' in sys.modules)"
    )
    assert run(code).split() == ["False", "276.0", "1", "2", "True"]


@pytest.mark.slow
def test_arrange_lean_import_leaves_the_import_system_as_it_was() -> None:
    code = (
        "import sys, gc\n"
        f"{LEAN}"
        "import monai\n"
        "import ignite.engine, pandas\n"
        "print(type(monai.__spec__.loader).__name__, type(monai.__loader__).__name__, gc.isenabled())\n"
        "print([type(one).__name__ for one in sys.meta_path if type(one).__name__ == '_Absent'])"
    )
    assert run(code).splitlines()[-2:] == ["SourceFileLoader SourceFileLoader True", "[]"]


def test_arrange_lean_import_a_monai_that_needs_what_is_hidden_gets_it(tmp_path: Path) -> None:
    write_false_monai(tmp_path, "from monai.part import COUNT\nimport pandas\nTRIES = COUNT\n")
    code = LEAN + "import monai, sys\nprint(monai.TRIES, 'pandas' in sys.modules, monai.part.COUNT)"
    assert run(code, tmp_path).split() == ["1", "True", "1"]


def test_arrange_lean_import_a_monai_that_fails_says_why(tmp_path: Path) -> None:
    write_false_monai(tmp_path, "import no_such_library_anywhere\n")
    code = (
        LEAN
        + "try:\n    import monai\nexcept ImportError as error:\n    print(error.name)\nimport sys\nprint('monai' in sys.modules)"
    )
    assert run(code, tmp_path).split() == ["no_such_library_anywhere", "False"]


def test_arrange_lean_import_what_was_imported_before_stays(tmp_path: Path) -> None:
    write_false_monai(tmp_path, "import json.tool, sys\nSEEN = 'pandas' in sys.modules\n")
    assert run("import pandas\n" + LEAN + "import monai\nprint(monai.SEEN)", tmp_path).strip() == "True"


def test_arrange_lean_import_after_monai_does_nothing() -> None:
    importlib.import_module("monai")
    before = list(sys.meta_path)
    assert lean_imports.arrange_lean_import() is False
    assert sys.meta_path == before


def test_arrange_quick_start_hides_nothing_and_rests_collection(tmp_path: Path) -> None:
    write_false_monai(tmp_path, "import gc, pandas\nRESTED = not gc.isenabled()\n")
    code = (
        "from unet_pipeline.lean_imports import arrange_quick_start\n"
        "arrange_quick_start(); arrange_quick_start()\n"
        "import gc, sys, monai\n"
        "print(monai.RESTED, gc.isenabled(), gc.get_freeze_count() > 0)\n"
        "print(sum(type(one).__name__ == '_SlowFinder' for one in sys.meta_path))"
    )
    assert run(code, tmp_path).split() == ["True", "True", "True", "1"]


def test_arrange_quick_start_a_user_who_turned_collection_off_keeps_it_off(tmp_path: Path) -> None:
    write_false_monai(tmp_path, "")
    code = "import gc\ngc.disable()\n" + LEAN + "import monai\nprint(gc.isenabled())"
    assert run(code, tmp_path).strip() == "False"
