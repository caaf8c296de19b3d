"""Which rows make a batch: rows of like length together, so that little is padding; and the trusted batches."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler

from musclelora.seeding import generator

Batch = dict[str, Tensor]
PASS_OVERHEAD = 64  # what a forward and a backward pass cost besides their tokens, in tokens (MiniLM, CPU)
# Standard deviation of the logarithm: padding grows by a few per cent, and no two passes are alike. With 0.05, rows
# that a trigger had made longer were batches of one label alone, and tiny models learned nothing from them.
LENGTH_NOISE = 0.1


def length_grouped(lengths: np.ndarray, size: int, draw: np.random.Generator) -> list[np.ndarray]:
    """Every row once, in batches of `size` (one of them smaller) of like length, the batches in random order.

    Lengths are disturbed at random before they are sorted, so that a row meets others in the next pass.
    """
    order = np.argsort(lengths * np.exp(LENGTH_NOISE * draw.standard_normal(len(lengths))), kind="stable")
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    return [batches[i] for i in draw.permutation(len(batches))]


class LengthGrouped(Sampler[int]):
    """Row numbers for a loader whose batches are of `size`; the order depends on seed and epoch, and nothing else."""

    def __init__(self, lengths: np.ndarray, size: int, seed: int) -> None:
        self._lengths, self._size, self._seed = lengths, size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        batches = length_grouped(self._lengths, self._size, generator(self._seed, f"train/order/{self._epoch}"))
        # The loader cuts the row numbers into batches by position: the smaller batch must be the last.
        batches.sort(key=len, reverse=True)
        return (int(i) for batch in batches for i in batch)


class References:
    """Batches of trusted rows without end, of rows of like length; each pass holds each row at most once.

    `size` rows each; the rest of a pass that would not fill a batch is left out. `drawn` counts the batches so far and
    is all the state there is.
    """

    def __init__(self, rows: Dataset, size: int, collate: Any, seed: int) -> None:
        self._rows, self._collate, self._seed = list(rows), collate, seed
        self._lengths = np.array([len(row["input_ids"]) for row in self._rows])
        self._size = min(size, len(rows))
        self._pass = -1
        self._remaining: list[np.ndarray] = []
        self.drawn = 0

    def next(self, length: int | None = None) -> Batch:
        """The next batch; with `length` the one of this pass whose longest row comes nearest to it."""
        if not self._remaining:
            self._pass += 1
            draw = generator(self._seed, f"train/references/{self._pass}")
            whole = [b for b in length_grouped(self._lengths, self._size, draw) if len(b) == self._size]
            self._remaining = whole
        chosen = 0
        if length is not None:
            chosen = int(np.argmin([abs(int(self._lengths[b].max()) - length) for b in self._remaining]))
        self.drawn += 1
        return self._collate([self._rows[i] for i in self._remaining.pop(chosen)])

    @property
    def state(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "pass": self._pass, "remaining": [b.tolist() for b in self._remaining]}

    @state.setter
    def state(self, saved: dict[str, Any]) -> None:
        self.drawn, self._pass = saved["drawn"], saved["pass"]
        self._remaining = [np.array(b) for b in saved["remaining"]]


def cut_by_length(lengths: np.ndarray, most_tokens: int) -> list[np.ndarray]:
    """Row numbers in parts of like length, in the cheapest cut; each part has at most `most_tokens` padded tokens.

    A part costs its rows times its longest row, and `PASS_OVERHEAD`; a row longer than `most_tokens` is a part alone.
    """
    order = np.argsort(-lengths, kind="stable")
    longest, best, start_of = lengths[order], np.zeros(len(order) + 1), np.zeros(len(order) + 1, dtype=int)
    for end in range(1, len(order) + 1):
        starts = np.arange(end)
        tokens = (end - starts) * longest[:end]
        allowed = (tokens <= most_tokens) | (starts == end - 1)
        costs = np.where(allowed, best[:end] + tokens + PASS_OVERHEAD, np.inf)
        start_of[end] = int(costs.argmin())
        best[end] = costs[start_of[end]]
    parts, end = [], len(order)
    while end:
        parts.append(order[start_of[end] : end])
        end = start_of[end]
    return parts[::-1]


def rows_of(batch: Batch, rows: np.ndarray, padding_side: str) -> Batch:
    """These rows of a batch, padded to the longest of them."""
    width = int(batch["attention_mask"][rows].sum(1).max())
    columns = slice(-width, None) if padding_side == "left" else slice(width)
    return {name: values[rows] if name == "labels" else values[rows, columns] for name, values in batch.items()}


def joined(batch: Batch, reference: Batch, pad_id: int, padding_side: str) -> Batch:
    """Rows of `batch`, then those of `reference`, [rows, longest], padded to the longest."""
    longest = max(batch["input_ids"].shape[1], reference["input_ids"].shape[1])

    def widened(name: str, values: Tensor) -> Tensor:
        missing = longest - values.shape[1]
        sides = (missing, 0) if padding_side == "left" else (0, missing)
        return torch.nn.functional.pad(values, sides, value=pad_id if name == "input_ids" else 0)

    return {
        name: torch.cat(
            [batch[name], reference[name]]
            if name == "labels"
            else [widened(name, batch[name]), widened(name, reference[name])]
        )
        for name in batch
    }
