"""Logits of many texts: length-grouped batches, padded to the batch, no gradients."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENS_PER_BATCH = 4096


@torch.inference_mode()
def logits_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int
) -> np.ndarray:
    """Logits in the order of `texts`, shape [rows, classes], float32; the model's mode is restored afterwards."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    out = np.empty((len(encoded), int(model.config.num_labels or 0)), dtype=np.float32)
    was_training = model.training
    model.eval()
    for rows in length_batches([len(ids) for ids in encoded]):
        batch = tokenizer.pad({"input_ids": [encoded[i] for i in rows]}, return_tensors="pt").to(model.device)
        out[rows] = model(**batch).logits.float().cpu().numpy()
    model.train(was_training)
    return out


def length_batches(lengths: list[int]) -> list[list[int]]:
    """Row numbers, shortest first, in batches of at most `TOKENS_PER_BATCH` padded tokens (at least one row)."""
    batches: list[list[int]] = [[]]
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches[-1] and lengths[i] * (len(batches[-1]) + 1) > TOKENS_PER_BATCH:
            batches.append([])
        batches[-1].append(i)
    return batches
