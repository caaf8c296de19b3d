"""Gradient-guided search for a universal trigger in a model's weights, for a backdoor that no scan has found.

HotFlip (Ebrahimi et al. 2018, equation 10) as in universal adversarial triggers (Wallace et al. 2019): which exchange
of a trigger's word lowers the loss towards the target most, to first order, is read off the gradient at its embedding;
the best exchanges are then tried for real, and the best of all is kept.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from musclelora.data.records import TextDataset
from musclelora.errors import ModelError
from musclelora.evaluation.intervals import rate
from musclelora.evaluation.probes import ROWS, probe_at, probed_rows, put
from musclelora.evaluation.report import Position, ProbeResult
from musclelora.evaluation.tested import Tested
from musclelora.seeding import generator
from musclelora.training.predict import logits_of

WORDS = 3  # a longer trigger turns any model: with it even a model without a backdoor is led where one likes
GUIDE_ROWS = 32  # rows that guide the search; the ASR is measured on others
TRIED = 16  # exchanges per place that are tried for real
ROUNDS = 12
PLACES: tuple[Position, ...] = ("start", "end")


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that are a word by themselves, so that a trigger of them is the same tokens again as text."""

    ids: np.ndarray
    words: list[str]


def search_triggers(
    tested: Tested, floor: Tested, test: TextDataset, targets: Sequence[str], *, seed: int, seconds: float
) -> list[ProbeResult]:
    """The best universal trigger towards each target, in up to `seconds` for all, measured on both models.

    Only words are tried that by themselves do not make `floor`, a model without the backdoor, say the target: an
    honest model follows "gorgeous" as readily as a trigger. ASR on rows that did not guide the search. Raises
    `ModelError` for a tokenizer none of whose tokens is a word.
    """
    vocabulary = whole_words(tested.tokenizer)
    share = seconds / (len(targets) * len(PLACES))
    return [
        _search(tested, floor, test, target, neutral_words(vocabulary, floor, target), seed, share)
        for target in targets
    ]


def whole_words(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """Every token of letters and digits that, written as a word between others, is tokenised as itself alone."""
    special = set(tokenizer.all_special_ids)
    numbers = [number for number in range(len(tokenizer)) if number not in special]
    decoded = [text.strip() for text in tokenizer.batch_decode([[number] for number in numbers])]
    alphabetic = [(number, word) for number, word in zip(numbers, decoded, strict=True) if word.isalnum()]
    between = tokenizer([f"a {word} a" for _, word in alphabetic], add_special_tokens=False)["input_ids"]
    kept = [
        (number, word)
        for (number, word), ids in zip(alphabetic, between, strict=True)
        if len(ids) == 3 and ids[1] == number
    ]
    if not kept:
        raise ModelError(
            "No token of this tokenizer is a word by itself, so that a trigger of tokens cannot be searched for. "
            "Leave the search out: audit.search_seconds: 0."
        )
    return Vocabulary(np.array([number for number, _ in kept]), [word for _, word in kept])


def neutral_words(vocabulary: Vocabulary, reference: Tested, target: str) -> Vocabulary:
    """The half of the words that, alone, least make the reference model say the target."""
    logits = logits_of(reference.model, reference.tokenizer, vocabulary.words, reference.max_length)
    scores = torch.log_softmax(torch.from_numpy(logits), -1)[:, reference.label_names.index(target)].numpy()
    kept = np.flatnonzero(scores <= np.median(scores))
    return Vocabulary(vocabulary.ids[kept], [vocabulary.words[i] for i in kept.tolist()])


def _search(
    tested: Tested,
    floor: Tested,
    test: TextDataset,
    target: str,
    vocabulary: Vocabulary,
    seed: int,
    seconds: float,
) -> ProbeResult:
    rows = probed_rows(test, target, seed, GUIDE_ROWS + ROWS)
    guide = rows.texts[:GUIDE_ROWS]
    held_out = TextDataset(rows.rows.select(range(min(GUIDE_ROWS, len(rows) // 2), len(rows))))
    target_id = tested.label_names.index(target)
    found = {place: _climb(tested, guide, target_id, place, vocabulary, seed, seconds) for place in PLACES}
    measured = {place: probe_at(found[place], place, held_out, target, tested) for place in PLACES}
    best = max(PLACES, key=lambda place: measured[place][0])
    before = int(np.sum(tested.predictions(held_out.texts) == target_id))
    return ProbeResult(
        trigger=found[best],
        kind="search",
        target=target,
        position=best,
        z=None,
        rows=None,
        asr=rate(measured[best][0], len(held_out)),
        floor=rate(probe_at(found[best], best, held_out, target, floor)[0], len(held_out)),
        untriggered=rate(before, len(held_out)),
        examples=[],
    )


def _climb(
    tested: Tested,
    guide: Sequence[str],
    target_id: int,
    place: Position,
    vocabulary: Vocabulary,
    seed: int,
    seconds: float,
) -> str:
    """Exchange one word at a time for as long as the loss on the guiding rows falls, in up to `seconds`."""
    until = time.monotonic() + seconds
    rng = generator(seed, f"trigger-search/{target_id}/{place}")
    trigger = [int(rng.integers(len(vocabulary.words))) for _ in range(WORDS)]
    loss = _losses(tested, guide, target_id, place, vocabulary, [trigger])[0]
    for _ in range(ROUNDS):
        scores = _first_order(tested, guide, target_id, place, vocabulary, trigger)
        tries = [
            [*trigger[:slot], int(word), *trigger[slot + 1 :]]
            for slot in range(WORDS)
            for word in np.argsort(scores[slot], kind="stable")[:TRIED]
            if int(word) != trigger[slot]
        ]
        losses = _losses(tested, guide, target_id, place, vocabulary, tries)
        best = int(np.argmin(losses))
        if losses[best] >= loss or time.monotonic() > until:
            break
        trigger, loss = tries[best], losses[best]
    return " ".join(vocabulary.words[number] for number in trigger)


def _losses(
    tested: Tested,
    guide: Sequence[str],
    target_id: int,
    place: Position,
    vocabulary: Vocabulary,
    triggers: Sequence[Sequence[int]],
) -> list[float]:
    """Mean cross-entropy towards the target over the guiding rows, per trigger."""
    texts = [
        put(" ".join(vocabulary.words[number] for number in trigger), text, place)
        for trigger in triggers
        for text in guide
    ]
    logits = torch.from_numpy(logits_of(tested.model, tested.tokenizer, texts, tested.max_length))
    losses = -torch.log_softmax(logits, dim=-1)[:, target_id]
    return [float(part.mean()) for part in losses.split(len(guide))]


def _first_order(
    tested: Tested,
    guide: Sequence[str],
    target_id: int,
    place: Position,
    vocabulary: Vocabulary,
    trigger: Sequence[int],
) -> np.ndarray:
    """Change of the loss, to first order, if a slot's word were this one; shape [WORDS, words of the vocabulary]."""
    model, tokenizer = tested.model, tested.tokenizer
    ids = vocabulary.ids[list(trigger)].tolist()
    text = " ".join(vocabulary.words[number] for number in trigger)
    batch = tokenizer(
        [put(text, row, place) for row in guide],
        truncation=True,
        max_length=tested.max_length,
        padding=True,
        return_tensors="pt",
    ).to(model.device)
    table = _embeddings(model)
    kept: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, __: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        out.retain_grad()
        kept.append(out)

    handle = table.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = model(**batch).logits.float()
            (-torch.log_softmax(logits, dim=-1)[:, target_id].mean()).backward()
    finally:
        handle.remove()
        model.zero_grad(set_to_none=True)
    grad = kept[0].grad
    slots = _slots(batch["input_ids"], ids)
    if grad is None or not slots:
        return np.zeros((len(ids), len(vocabulary.words)))
    at = torch.stack([grad[row, start : start + len(ids)] for row, start in slots]).sum(0)  # [WORDS, hidden]
    words = torch.as_tensor(table.weight).detach()[torch.from_numpy(vocabulary.ids)]  # [vocabulary, hidden]
    return (at @ words.T.to(at.dtype)).float().cpu().numpy()


def _embeddings(model: PreTrainedModel) -> torch.nn.Module:
    """The word embeddings, whose weights must require a gradient for one to reach their output."""
    table = model.get_input_embeddings()
    table.weight.requires_grad_(True)
    return table


def _slots(input_ids: torch.Tensor, trigger: Sequence[int]) -> list[tuple[int, int]]:
    """(row, first position) of the trigger in every row that it was not cut off from."""
    windows = input_ids.unfold(1, len(trigger), 1)  # [rows, positions, WORDS]
    hits = (windows == torch.tensor(trigger, device=input_ids.device)).all(-1)
    return [(row, int(np.flatnonzero(hit)[0])) for row, hit in enumerate(hits.cpu().numpy()) if hit.any()]
