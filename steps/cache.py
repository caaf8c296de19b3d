"""When a cached step may be served: same inputs, same parameters, and the same library code and versions."""

import hashlib
from importlib.metadata import version
from pathlib import Path

from zenml.config import CachePolicy

import musclelora

COMPUTING = ("torch", "transformers", "peft", "great-expectations")


def library_code() -> str:
    """SHA-256 over every module of `musclelora` and the versions of the libraries that compute."""
    root = Path(musclelora.__file__).parent
    digest = hashlib.sha256("".join(f"{name}=={version(name)}\n" for name in COMPUTING).encode())
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


LIBRARY_CODE = CachePolicy(cache_func=library_code)
