"""What libraries say about themselves and no user can act on."""

from __future__ import annotations

import logging
import warnings


def silence_libraries() -> None:
    """Let this process print none of it; what concerns the user is an error or a line of output."""
    # MONAI and PyTorch warn about their own code
    warnings.filterwarnings("ignore", module=r"(monai|torch|ignite)\b")
    warnings.filterwarnings("ignore", message="parsing config_file")
    # an optional decoder for DICOM on GPUs, which this package does not use
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    # about headers that this package judges itself, without naming the file
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom\b")
    # without a home folder it keeps its fonts elsewhere, and says so
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
