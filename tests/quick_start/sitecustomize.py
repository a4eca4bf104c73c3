"""Python processes that the tests start load MONAI in half of the time: conftest.py puts this folder on their path.

MONAI does not find the optional libraries that no bundle's config names, as on a machine that lacks them; all can be imported
afterwards. The search for unreachable objects is rarer, and left out at the end. The fixture `full_start` of conftest.py leaves this out.
"""

import atexit
import gc
import sys

HIDDEN = (
    "matplotlib",
    "mlflow",
    "pandas",
    "requests",
    "scipy.optimize",
    "scipy.signal",
    "scipy.stats",
    "sklearn",
    "tensorboardX",
)


class Absent:
    """Answers for the hidden libraries as Python does for those that are not installed, while MONAI is imported."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):
        specification = getattr(sys.modules.get("monai"), "__spec__", None)
        if getattr(specification, "_initializing", False) and any(
            f"{name}.".startswith(f"{hidden}.") for hidden in HIDDEN
        ):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent)
gc.set_threshold(500_000, 20, 100)
atexit.register(gc.freeze)
