"""When a cached step may be served: same inputs, same parameters, and the same library code and versions."""

from zenml.config import CachePolicy

from musclelora.training import checkpoints

COMPUTING = ("torch", "transformers", "peft", "great-expectations")


def library_code() -> str:
    """SHA-256 over every module of `musclelora` and the versions of the libraries that compute."""
    return checkpoints.library_code(COMPUTING)


LIBRARY_CODE = CachePolicy(cache_func=library_code)
