"""All randomness of a training, derived from (seed, fold, epoch, sample).

A derived seed is a hash of its parts, so that neither the number of workers nor a restart changes a sample.
"""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """Seed from 0 to 2^32 - 1 that depends on every part and on their order."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little")


def seed_weights(seed: int, fold: int) -> None:
    """Seed PyTorch's generators before the network is built, for its initial weights."""
    torch.manual_seed(derive_seed("weights", seed, fold))
