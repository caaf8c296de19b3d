"""Every random draw comes from a generator derived from (seed, purpose, row id): order and sharding change nothing."""

import hashlib

import numpy as np


def derived_seed(seed: int, purpose: str, row_id: str = "") -> int:
    """A 64-bit integer that depends on all three arguments and nothing else."""
    key = f"{seed}\x1f{purpose}\x1f{row_id}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


def generator(seed: int, purpose: str, row_id: str = "") -> np.random.Generator:
    """A NumPy generator for one purpose, or for one row of it."""
    return np.random.default_rng(derived_seed(seed, purpose, row_id))
