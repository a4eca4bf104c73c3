"""Verbs of a user whom the system does not know and who has no folder of his own, as in a container: for real, in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import unet_pipeline

from .conftest import TrainedBundle
from .test_boundary import BUNDLE, OUT, VERBS

pytestmark = pytest.mark.other_user
_UNKNOWN = 12345
_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "TMPDIR")


def run_as_unknown(command: list[str], folder: Path, home: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in _NAMES}
    places = (str(Path(unet_pipeline.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")]))
    environment |= {"PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {} if home is None else {"HOME": home}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        user=_UNKNOWN,
        group=_UNKNOWN,
        extra_groups=[],
    )


@pytest.fixture
def place(bundle_2d: TrainedBundle, tmp_path: Path) -> Iterator[Path]:
    """Data and bundle that anybody may read, and a folder `out` that anybody may write."""
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("only an administrator can become another user")
    pwd = pytest.importorskip("pwd")
    with pytest.raises(KeyError):
        pwd.getpwuid(_UNKNOWN)
    bundle_2d.copy_to(tmp_path)
    (tmp_path / OUT).mkdir()
    (tmp_path / OUT).chmod(0o777)
    (tmp_path / "home").mkdir(mode=0o555)
    opened = {
        folder: folder.stat().st_mode for folder in (*tmp_path.parents, tmp_path) if not folder.stat().st_mode & 1
    }
    for folder, mode in opened.items():
        folder.chmod(mode | 0o5)
    try:
        try:
            found = run_as_unknown(["-c", "import unet_pipeline, torch, monai"], tmp_path, None)
            cause = found.stderr.strip().rpartition("\n")[2] if found.returncode else ""
        except PermissionError as error:
            cause = str(error)
        if cause and "getpwuid" not in cause:
            pytest.skip(f"another user cannot run this Python: {cause}")
        yield tmp_path
    finally:
        for folder, mode in opened.items():
            folder.chmod(mode)


@pytest.mark.parametrize("home", [None, "home"])
@pytest.mark.parametrize("verb", ["check", "plan", "predict"])
def test_verb_of_a_real_unknown_user_works(verb: str, home: str | None, place: Path) -> None:
    arguments, result = VERBS[verb]
    at_home = None if home is None else str(place / home)
    done = run_as_unknown(["-m", "unet_pipeline", *arguments], place, at_home)
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stderr.count("Error")) == (0, 0), done.stderr
    assert (place / result).is_file()
    assert (place / result).stat().st_uid == _UNKNOWN


def test_verb_of_a_real_unknown_user_who_may_not_write_is_one_sentence(place: Path) -> None:
    arguments, result = VERBS["predict"]
    (place / OUT).chmod(0o755)
    done = run_as_unknown(["-m", "unet_pipeline", *arguments], place, str(place / "home"))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    (told,) = [line for line in done.stderr.splitlines() if "Error: " in line]
    assert "may not" in told
    assert not (place / result).exists()
    (place / OUT).chmod(0o777)
    done = run_as_unknown(["-m", "unet_pipeline", "train", BUNDLE], place, str(place / "home"))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert sum("Error: " in line for line in done.stderr.splitlines()) == 1
