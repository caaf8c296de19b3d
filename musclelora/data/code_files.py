"""Files of a model folder that may run code of whoever wrote them: pickles, and Python that a config points to."""

import json
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from musclelora.errors import ModelError

# What torch, joblib, numpy and pickle write: loading one runs code of whoever wrote it.
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill", ".npy", ".h5", ".msgpack"}
PYTHON = {".py", ".pyc", ".so"}
CONFIGS = ("config.json", "tokenizer_config.json", "processor_config.json")


def pickles_among(names: Iterable[str]) -> list[str]:
    """The names that a pickle may hide behind, sorted."""
    return sorted(name for name in names if PurePosixPath(name).suffix.lower() in PICKLES)


def refuse_code(folder: Path, allowed: Collection[str] = ()) -> None:
    """Raise `ModelError` for a model folder with a pickle or code of its own, unless `allowed` names the file.

    Nothing here loads such a file either way; others might.
    """
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    found = pickles_among(names) + [name for name in names if PurePosixPath(name).suffix.lower() in PYTHON]
    found += [name for name in CONFIGS if name in names and _points_to_code(folder / name)]
    refused = sorted(set(found) - set(allowed))
    if refused:
        raise ModelError(
            f"The model folder {folder} holds {', '.join(refused[:5])}{' and others' if len(refused) > 5 else ''}: "
            "pickles, or code that comes with the model, which run whatever their author wrote. Save the model again "
            "with safetensors and a class of transformers, take the file out, or allow it by its name: model.allow."
        )


def _points_to_code(config: Path) -> bool:
    """Whether transformers would load classes of the model's own (`auto_map`) if it were told to trust them."""
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # what loads the config says what is wrong with it
    return isinstance(settings, dict) and bool(settings.get("auto_map"))
