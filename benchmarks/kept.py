"""What is expensive and decided by its inputs, kept under their hash: states of texts, and trained models.

In `$XDG_CACHE_HOME/musclelora`, or `~/.cache/musclelora`. A benchmark that is started again does not compute it again.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks import results
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.training.backbone import Backbone
from musclelora.training.defended_model import DefendedModel
from musclelora.training.fit import train
from musclelora.training.recipes import Recipe

KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "musclelora"
CHUNK = 512  # texts between two writes, so that little is lost when it is stopped


def kept_states(name: str, texts: Sequence[str], compute: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
    """`compute(texts)`, float32, shape [rows, size], computed only for texts that are not kept under `name` yet.

    `name` must say all that decides a text's states but the text: weights, length, precision.
    """
    file = KEPT / "states" / f"{_hash(name)}.npz"
    known: dict[str, np.ndarray] = {}
    if file.is_file():
        with np.load(file) as kept:
            known = dict(zip(kept["keys"].tolist(), kept["states"], strict=True))
    keys = [_hash(text) for text in texts]
    missing = list({key: text for key, text in zip(keys, texts, strict=True) if key not in known}.items())
    for first in range(0, len(missing), CHUNK):
        chunk = missing[first : first + CHUNK]
        known |= zip((key for key, _ in chunk), compute([text for _, text in chunk]), strict=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(f".{os.getpid()}.npz")
        np.savez(new, keys=np.array(list(known)), states=np.stack(list(known.values())))
        new.replace(file)
        print(f"states: {min(first + CHUNK, len(missing))} of {len(missing)} texts", flush=True)
    return np.stack([known[key] for key in keys])


def kept_model(
    rows: TextDataset,
    trusted: TrustedSet,
    dev: TextDataset | None,
    recipe: Recipe,
    backbone: Backbone,
    max_length: int,
    seed: int,
) -> DefendedModel:
    """The model of these arguments; trained now where it is not kept."""
    dev_sha256 = "" if dev is None else dev.sha256
    decides = f"{recipe.model_dump_json()} {backbone.sha256} {rows.sha256} {dev_sha256} {trusted.sha256} {seed}"
    folder = KEPT / "audited" / _hash(decides)[:16]
    if not (folder / "done").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        train(rows, trusted, dev, recipe=recipe, backbone=backbone, max_length=max_length, seed=seed, folder=folder)
        (folder / "done").write_text(results.commit(), encoding="utf-8")
    return DefendedModel(folder)


def trained_by(model: DefendedModel) -> str:
    """The commit whose code has trained a kept model; "" where that was not noted down yet."""
    return (model.folder / "done").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
