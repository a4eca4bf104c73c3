"""The networks that MONAI lacks, in PyTorch alone.

Each module runs by itself with `blocks.py` beside it, because `plan` copies both into the bundle, where inference must not
need this package. Imports among them are therefore relative.
"""
