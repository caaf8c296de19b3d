"""Where a training that is killed goes on: a folder per training, named by everything that decides its result.

A folder `checkpoint-N` holds what transformers' Trainer writes (optimizer, schedule, generators of random numbers), the
trained tensors alone, and last of all `musclelora.json`: one without that file was cut short and is passed over.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import musclelora
from musclelora.errors import ModelError

STATE = "musclelora.json"
FORGOTTEN_AFTER_DAYS = 14
COMPUTING = ("torch", "transformers", "peft", "accelerate", "numpy")


def library_code(libraries: tuple[str, ...] = COMPUTING) -> str:
    """SHA-256 over every module of `musclelora` and the versions of the libraries that compute."""
    root = Path(musclelora.__file__).parent
    digest = hashlib.sha256("".join(f"{name}=={version(name)}\n" for name in libraries).encode())
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def folder_of(checkpoints: Path, inputs: Mapping[str, Any]) -> Path:
    """The folder of the training with these inputs under this code and these threads; old strangers are removed.

    The number of threads is among them, since sums over rows are cut by it and would differ in the last bit.
    """
    everything = {**inputs, "code": library_code(), "threads": torch.get_num_threads()}
    name = hashlib.sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()[:40]
    if checkpoints.is_dir():
        for other in checkpoints.iterdir():
            if other.name != name and time.time() - other.stat().st_mtime > FORGOTTEN_AFTER_DAYS * 86400:
                shutil.rmtree(other, ignore_errors=True)
    return checkpoints / name


def latest(folder: Path) -> Path | None:
    """The last whole checkpoint; those cut short are removed."""
    whole = {}
    for path in folder.glob("checkpoint-*"):
        if (path / STATE).is_file():
            whole[int(path.name.removeprefix("checkpoint-"))] = path
        else:
            shutil.rmtree(path)
    return whole[max(whole)] if whole else None


def write_state(checkpoint: Path, state: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """The tensors, one safetensors file per name, then the state, which makes the checkpoint a whole one."""
    for name, group in tensors.items():
        save_file({key: t.detach().cpu().contiguous() for key, t in group.items()}, checkpoint / f"{name}.safetensors")
    unfinished = checkpoint / f"{STATE}.part"
    unfinished.write_text(json.dumps(state), encoding="utf-8")
    os.replace(unfinished, checkpoint / STATE)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What `write_state` wrote; raises `ModelError` where it is damaged."""
    try:
        return json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(checkpoint, error) from error


def read_tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """One group of tensors; raises `ModelError` where the file is missing or damaged."""
    try:
        return load_file(checkpoint / f"{name}.safetensors")
    except (OSError, SafetensorError) as error:
        raise damaged(checkpoint, error) from error


def damaged(checkpoint: Path, error: Exception) -> ModelError:
    return ModelError(
        f"The checkpoint {checkpoint} cannot be read ({str(error).splitlines()[0]}), so that the training that was "
        "interrupted cannot go on. Delete that folder and run again: it goes on from the one before, or from the start."
    )
