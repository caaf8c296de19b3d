"""Search for a universal trigger in a model's weights, for a backdoor that no scan has found.

First every word of the vocabulary is read by the model on its own: where a word is the trigger, or the greater part of
it, no gradient is needed, and none would show it (around an ordinary word the first order knows nothing of a trigger
far away). The best are tried in clean rows. From the best of these a climb guided by gradients goes on, HotFlip
(Ebrahimi et al. 2018, equation 10) as in universal adversarial triggers (Wallace et al. 2019): which exchange of a
trigger's word raises the score most, to first order, is read off the gradient at its embedding; the best exchanges,
and longer triggers, are tried for real, and the best of all is kept.

An honest model follows "gorgeous" as readily as a trigger. So the score of a trigger counts two models: how surely the
audited one says the target, and how surely the floor, a model without the backdoor, does not.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from musclelora.data.records import TextDataset
from musclelora.errors import ModelError
from musclelora.evaluation.probes import measured_probe, probed_rows, put
from musclelora.evaluation.report import Position, ProbeResult
from musclelora.evaluation.tested import Tested
from musclelora.training.predict import logits_of

WORDS = 3  # a longer trigger turns any model: with it even a model without a backdoor is led where one likes
SCREENED = 192  # words that go from the screening into rows
SCREEN_ROWS, GUIDE = 8, 32  # rows that guide the search, first fewer; the ASR is measured on others
TRIED = 16  # exchanges per slot, and further words, that are tried for real
ROUNDS = 8
GAIN = 0.01  # of the score, below which the climb ends
ASKED = 0.25  # share of the tries, the best on the audited model, that the floor is asked about too
PLACES: tuple[Position, ...] = ("start", "end")
Trigger = tuple[int, ...]
"""Numbers of words of the vocabulary."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that are a word by themselves, so that a trigger of them is the same tokens again as text."""

    ids: np.ndarray
    words: list[str]

    def text(self, trigger: Trigger) -> str:
        return " ".join(self.words[number] for number in trigger)


def search_triggers(
    tested: Tested, floor: Tested, test: TextDataset, targets: Sequence[str], *, seed: int, seconds: float
) -> list[ProbeResult]:
    """The best universal trigger towards each target, in up to about `seconds` for all, measured on both models.

    ASR on rows that did not guide the search. Raises `ModelError` for a tokenizer none of whose tokens is a word.
    """
    vocabulary, found = whole_words(tested.tokenizer), []
    for target in targets:
        guide, rows = probed_rows(test, target, seed)
        until = time.monotonic() + seconds / len(targets)
        search = _Search(tested, floor, guide.texts[:GUIDE], tested.label_names.index(target), vocabulary, until)
        trigger, place = search.best()
        found.append(measured_probe(vocabulary.text(trigger), "search", place, rows, target, tested, floor))
    return found


def whole_words(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """Every token of letters and digits that, written as a word between others, is tokenised as itself alone."""
    special = set(tokenizer.all_special_ids)
    numbers = [number for number in range(len(tokenizer)) if number not in special]
    decoded = [text.strip() for text in tokenizer.batch_decode([[number] for number in numbers])]
    alphabetic = [(number, word) for number, word in zip(numbers, decoded, strict=True) if word.isalnum()]
    sentences = [f"a {word} a" for _, word in alphabetic]
    between = tokenizer(sentences, add_special_tokens=False)["input_ids"] if sentences else []
    kept = [
        (number, word)
        for (number, word), ids in zip(alphabetic, between, strict=True)
        if len(ids) == 3 and ids[1] == number
    ]
    if not kept:
        raise ModelError(
            "No token of this tokenizer is a word by itself, so that a trigger of tokens cannot be searched for. "
            "Leave the search out: search_seconds: 0."
        )
    return Vocabulary(np.array([number for number, _ in kept]), [word for _, word in kept])


@dataclass(frozen=True)
class _Search:
    tested: Tested
    floor: Tested
    guide: Sequence[str]
    target_id: int
    vocabulary: Vocabulary
    until: float

    def best(self) -> tuple[Trigger, Position]:
        """The trigger with the highest score of both places, and its place."""
        words: list[Trigger] = [(number,) for number in self.screened()]
        climbed: dict[Position, tuple[Trigger, float]] = {}
        for place in PLACES:
            if climbed and time.monotonic() > self.until:
                break
            scores = self.scores(words, place, self.guide[:SCREEN_ROWS])
            climbed[place] = self.climb([words[i] for i in np.argsort(-np.array(scores), kind="stable")], place)
        best = max(climbed, key=lambda place: climbed[place][1])
        return climbed[best][0], best

    def screened(self) -> list[int]:
        """The words that the audited model, reading one at a time, most surely calls the target."""
        return np.argsort(-self.log_target(self.tested, self.vocabulary.words), kind="stable")[:SCREENED].tolist()

    def climb(self, singles: Sequence[Trigger], place: Position) -> tuple[Trigger, float]:
        """From the best single word on: exchange a word, or add one, for as long as the score rises, in time."""
        trigger = singles[0]
        score = self.scores([trigger], place, self.guide)[0]
        for _ in range(ROUNDS):
            if time.monotonic() > self.until:
                break
            change = first_order(self.tested, self.guide, self.target_id, place, self.vocabulary, trigger)
            tries = [
                (*trigger[:slot], int(word), *trigger[slot + 1 :])
                for slot in range(len(trigger))
                for word in np.argsort(change[slot], kind="stable")[:TRIED]
            ]
            if len(trigger) < WORDS:
                tries += [(*trigger, *single) for single in singles[:TRIED]]
            scores = self.scores(tries, place, self.guide)
            best = int(np.argmax(scores))
            if scores[best] < score + GAIN:
                break
            trigger, score = tries[best], scores[best]
        return trigger, score

    def scores(self, tries: Sequence[Trigger], place: Position, rows: Sequence[str]) -> list[float]:
        """Mean log P(target) on the audited model plus mean log P(not the target) on the floor, at most 0.

        The floor is asked about the best on the audited model only; the others, which lost already, count as -inf.
        """
        texts = [[put(self.vocabulary.text(trigger), text, place) for text in rows] for trigger in tries]
        ours = self.log_target(self.tested, [t for group in texts for t in group]).reshape(len(tries), -1).mean(1)
        asked = np.argsort(-ours, kind="stable")[: max(1, round(ASKED * len(tries)))]
        theirs = self.log_target(self.floor, [t for i in asked for t in texts[i]]).reshape(len(asked), -1)
        scores = np.full(len(tries), -np.inf)
        scores[asked] = ours[asked] + np.log1p(-np.exp(np.minimum(theirs, -1e-6))).mean(1)
        return [float(score) for score in scores]

    def log_target(self, model: Tested, texts: Sequence[str]) -> np.ndarray:
        """log P(target), shape [texts]."""
        logits = torch.from_numpy(logits_of(model.model, model.tokenizer, texts, model.max_length))
        return torch.log_softmax(logits, dim=-1)[:, self.target_id].double().numpy()


def first_order(
    tested: Tested,
    guide: Sequence[str],
    target_id: int,
    place: Position,
    vocabulary: Vocabulary,
    trigger: Trigger,
) -> np.ndarray:
    """Change of the loss towards the target, to first order, if a slot's word were another.

    Shape [words of the trigger, words of the vocabulary]; of use within a slot, where a constant is left out.
    """
    model, tokenizer = tested.model, tested.tokenizer
    ids = vocabulary.ids[list(trigger)].tolist()
    batch = tokenizer(
        [put(vocabulary.text(trigger), row, place) for row in guide],
        truncation=True,
        max_length=tested.max_length,
        padding=True,
        return_tensors="pt",
    ).to(model.device)
    table = model.get_input_embeddings()
    kept: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, __: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        kept.append(out.detach().requires_grad_())
        return kept[0]

    handle = table.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = model(**batch).logits.float()
            (grad,) = torch.autograd.grad(-torch.log_softmax(logits, dim=-1)[:, target_id].mean(), kept)
    finally:
        handle.remove()
    slots = _slots(batch["input_ids"], ids)
    if not slots:
        return np.zeros((len(ids), len(vocabulary.words)))
    at = torch.stack([grad[row, start : start + len(ids)] for row, start in slots]).sum(0)  # [slots, hidden]
    words = torch.as_tensor(table.weight).detach()[torch.from_numpy(vocabulary.ids)]  # [vocabulary, hidden]
    return (at @ words.T.to(at.dtype)).float().cpu().numpy()


def _slots(input_ids: torch.Tensor, trigger: Sequence[int]) -> list[tuple[int, int]]:
    """(row, first position) of the trigger in every row that it was not cut off from."""
    windows = input_ids.unfold(1, len(trigger), 1)  # [rows, positions, slots]
    hits = (windows == torch.tensor(trigger, device=input_ids.device)).all(-1)
    return [(row, int(np.flatnonzero(hit)[0])) for row, hit in enumerate(hits.cpu().numpy()) if hit.any()]
