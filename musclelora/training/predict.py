"""Logits of many texts: length-grouped batches, padded to the batch, no gradients, no row of the last layer unread.

Precision is the model's own: load it in `DTYPES["bf16"]` for several times the rows per second where the processor
computes in bf16. Logits then differ in the third digit, and some rows near the boundary change their class.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from musclelora.progress import watched
from musclelora.training.first_token import first_token_only
from musclelora.training.recipes import InferencePrecision

DTYPES: dict[InferencePrecision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Of a batch: few enough that the feed-forward's states stay in a core's cache; an accelerator wants many.
TOKENS_ON_CPU, TOKENS_ON_ACCELERATOR = 1024, 16384
Model = TypeVar("Model", bound=PreTrainedModel)


def computing_device() -> torch.device:
    """The GPU where there is one: torch names the one that it was built for unless it is told to look."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def on_accelerator(model: Model) -> Model:
    """The model itself, moved to the GPU where there is one."""
    movable: Any = model  # the type of transformers' `to` is that of what it wraps
    movable.to(computing_device())
    return model


@torch.inference_mode()
def logits_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int
) -> np.ndarray:
    """Logits in the order of `texts`, shape [rows, classes], float32; the model's mode is restored afterwards."""
    if not texts:
        return np.empty((0, int(model.config.num_labels or 0)), dtype=np.float32)
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    out = np.empty((len(encoded), int(model.config.num_labels or 0)), dtype=np.float32)
    was_training = model.training
    model.eval()
    with first_token_only(model):
        for rows in watched_batches(model, encoded, "classifying"):
            batch = tokenizer.pad({"input_ids": [encoded[i] for i in rows]}, return_tensors="pt").to(model.device)
            out[rows] = model(**batch).logits.float().cpu().numpy()
    model.train(was_training)
    return out


def watched_batches(model: PreTrainedModel, encoded: Sequence[Sequence[int]], doing: str) -> Iterator[list[int]]:
    """`length_batches` of what the model's device takes at once. How far they are is said, as what `doing`."""
    lengths = [len(ids) for ids in encoded]
    batches = length_batches(lengths, TOKENS_ON_CPU if model.device.type == "cpu" else TOKENS_ON_ACCELERATOR)
    return watched(batches, [sum(lengths[i] for i in batch) for batch in batches], f"{doing} {len(encoded):,} texts")


def length_batches(lengths: list[int], tokens: int = TOKENS_ON_CPU) -> list[list[int]]:
    """Row numbers, shortest first, in batches of at most `tokens` padded tokens (at least one row)."""
    batches: list[list[int]] = [[]]
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches[-1] and lengths[i] * (len(batches[-1]) + 1) > tokens:
            batches.append([])
        batches[-1].append(i)
    return batches
