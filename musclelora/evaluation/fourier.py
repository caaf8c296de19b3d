"""Filtering-based frequency analysis of what a classifier has learned (arXiv 2402.12026, section 3; Xu et al. 2020).

    G_ij = exp(-||x_i - x_j|| / (2 delta)), rows normalised to sum 1; x = flattened output of the embedding layer
    low(v) = G v, high(v) = v - G v;   error = mean_i ||part(p)_i - part(y)_i|| / mean_i ||part(y)_i||

p: softmax outputs, y: one-hot labels. x is taken once, of the pretrained backbone, so that every measurement of a
training looks through the same filters. No n x n array is made: pairs of blocks of rows are summed up as they come,
and their distances are kept for the next measurement for few rows only (`KEPT_ROWS`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from musclelora.attacks.base import triggered_rows
from musclelora.attacks.registry import attack_by_name
from musclelora.data.records import TextDataset
from musclelora.errors import DataError
from musclelora.evaluation.config import FourierConfig
from musclelora.seeding import generator
from musclelora.training.frequency import FrequencyErrors, FrequencyObserver, FrequencyPoint
from musclelora.training.predict import logits_of

DELTAS = tuple(np.linspace(2.0, 8.0, 25).tolist())
KEPT_ROWS = 1024  # their distances are 8 MB; of more rows they are computed again
BLOCK_BYTES = 64 * 2**20  # of the embeddings of one block of rows
BLOCK_ROWS = 1024
UNDEFINED_UNDER = 1e-6  # mean norm of a part of the labels that is rounding: one-hot rows have norm 1

Embed = Callable[[slice], np.ndarray]
"""Embeddings of these rows, shape [rows, width], width the same for all."""


@dataclass(frozen=True)
class Distances:
    """||x_i - x_j|| of `count` rows in blocks; `width` floats per row decide how many rows a block has."""

    embed: Embed
    count: int
    width: int
    _kept: list[tuple[slice, slice, np.ndarray]] = field(default_factory=list)

    def blocks(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """(rows i, rows j, distances [i, j]) with j at or after i: the other half is the same, transposed."""
        if self._kept:
            yield from self._kept
            return
        for block in self._computed():
            if self.count <= KEPT_ROWS:
                self._kept.append(block)
            yield block

    def _computed(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        size = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (8 * self.width)))
        parts = [slice(start, min(start + size, self.count)) for start in range(0, self.count, size)]
        for number, rows in enumerate(parts):
            here = self.embed(rows)
            for columns in parts[number:]:
                there = here if columns == rows else self.embed(columns)
                squared = np.einsum("id,id->i", here, here)[:, None] + np.einsum("jd,jd->j", there, there)[None]
                squared = np.maximum(squared - 2 * (here @ there.T), 0)
                if columns == rows:
                    np.fill_diagonal(squared, 0)  # the difference of equal numbers is their rounding, and has a root
                yield rows, columns, np.sqrt(squared)


def low_pass(distances: Distances, values: np.ndarray, deltas: Sequence[float]) -> np.ndarray:
    """G v for each delta: values [rows, columns] to [deltas, rows, columns], float64."""
    summed = np.zeros((len(deltas), *values.shape))
    weight = np.zeros((len(deltas), len(values), 1))
    for rows, columns, distance in distances.blocks():
        for number, delta in enumerate(deltas):
            kernel = np.exp(distance / (-2 * delta))
            summed[number, rows] += kernel @ values[columns]
            weight[number, rows] += kernel.sum(1, keepdims=True, dtype=np.float64)
            if columns != rows:
                summed[number, columns] += kernel.T @ values[rows]
                weight[number, columns] += kernel.sum(0, dtype=np.float64)[:, None]
    return summed / weight


def frequency_errors(
    distances: Distances, probabilities: np.ndarray, labels: np.ndarray, deltas: Sequence[float] = DELTAS
) -> FrequencyErrors:
    """The errors of `probabilities`, shape [rows, classes], against the class numbers `labels`, shape [rows]."""
    truth = np.eye(probabilities.shape[1])[labels]
    both = np.concatenate([probabilities.astype(np.float64), truth], axis=1)
    low = low_pass(distances, both, deltas)
    high = both - low
    classes = probabilities.shape[1]
    return FrequencyErrors(
        low=tuple(_error(part[:, :classes], part[:, classes:]) for part in low),
        high=tuple(_error(part[:, :classes], part[:, classes:]) for part in high),
        accuracy=float((probabilities.argmax(1) == labels).mean()),
    )


def _error(predicted: np.ndarray, truth: np.ndarray) -> float | None:
    scale = np.linalg.norm(truth, axis=1).mean()
    if scale < UNDEFINED_UNDER:
        return None
    return float(np.linalg.norm(predicted - truth, axis=1).mean() / scale)


def fourier_observer(
    dev: TextDataset,
    *,
    attack: str,
    target: str,
    seed: int,
    label_names: Sequence[str],
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    max_length: int,
    settings: FourierConfig,
) -> FrequencyObserver:
    """What `training.fit.train` calls after chosen steps: the errors on clean and on triggered dev rows.

    `loaded` is the backbone as pretrained. Poisoned rows are dev rows of other classes with the trigger in, labelled
    with the target. Raises `DataError` where no dev row can carry the trigger.
    """
    if len(dev) < 2:
        raise DataError(f"The frequency analysis needs clean dev rows to measure on, and there are {len(dev)}.")
    triggered, _ = triggered_rows(dev, attack_by_name(attack), target=target, seed=seed)
    count = min(settings.rows, len(dev), len(triggered))
    clean, poisoned = _some(dev, count, seed), _some(triggered, count, seed)
    sets = [
        (clean.texts, clean.label_ids(label_names)),
        (poisoned.texts, np.full(count, list(label_names).index(target))),
    ]
    filters = [distances_of(texts, *loaded, max_length) for texts, _ in sets]

    def measure(model: PreTrainedModel, step: int) -> FrequencyPoint:
        errors = []
        for distances, (texts, labels) in zip(filters, sets, strict=True):
            logits = torch.from_numpy(logits_of(model, loaded[1], texts, max_length)).double()
            errors.append(frequency_errors(distances, logits.softmax(-1).numpy(), labels))
        return FrequencyPoint(step=step, clean=errors[0], poisoned=errors[1])

    return FrequencyObserver(
        attack=attack,
        target=target,
        rows=count,
        deltas=DELTAS,
        steps_of=partial(measured_steps, measurements=settings.measurements),
        measure=measure,
    )


def measured_steps(steps: int, measurements: int) -> frozenset[int]:
    """0 and up to `measurements` steps of `steps`, the last among them, further and further apart."""
    return frozenset({0, *(max(1, round(steps * (i / measurements) ** 2)) for i in range(1, measurements + 1))})


@torch.inference_mode()
def distances_of(
    texts: Sequence[str], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Distances:
    """Of the flattened outputs of the embedding layer, float32; places after the end of a text count as 0."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    longest = max(map(len, encoded))
    embed = partial(_embedded, model, tokenizer, encoded, longest)
    return Distances(embed, len(texts), embed(slice(0, 1)).shape[1])


class _EmbeddedError(Exception):
    """Ends a forward pass after the embedding layer."""


@torch.inference_mode()
def _embedded(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, encoded: list[list[int]], longest: int, rows: slice
) -> np.ndarray:
    batch = tokenizer.pad(
        {"input_ids": encoded[rows]}, padding="max_length", max_length=longest, return_tensors="pt"
    ).to(model.device)
    base = model.base_model
    layer = getattr(base, "embeddings", None) or model.get_input_embeddings()  # encoders add positions there
    caught: list[torch.Tensor] = []

    def catch(_: torch.nn.Module, __: object, output: torch.Tensor) -> None:
        caught.append(output)
        raise _EmbeddedError

    handle = layer.register_forward_hook(catch)
    was_training = model.training
    model.eval()
    try:
        base(**batch)
    except _EmbeddedError:
        pass
    finally:
        handle.remove()
        model.train(was_training)
    states = caught[0].float() * batch["attention_mask"][:, :, None]
    return states.flatten(1).cpu().numpy()


def _some(rows: TextDataset, count: int, seed: int) -> TextDataset:
    chosen = generator(seed, "fourier/rows").permutation(len(rows))[:count]
    return TextDataset(rows.rows.select(np.sort(chosen)))
