"""ONION (Qi et al. 2021): words that a language model finds out of place are taken out before the text is classified.

A word's suspicion is the text's perplexity less that of the text without it; words over a limit are taken out. The
limit is the lowest that costs no more than `accuracy_loss` of the accuracy on clean rows (the paper too chooses it on a
clean set), among the tenths of those rows' suspicions, and finer where it takes few words out: triggers are few.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveInt
from safetensors import SafetensorError
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from musclelora.adapters.families import FAMILIES
from musclelora.data.records import TextDataset
from musclelora.defenses.base import Defender, Defense, Guard
from musclelora.defenses.classifier import Classifier, without_each_word
from musclelora.errors import DataError, ModelError
from musclelora.progress import watched
from musclelora.seeding import generator
from musclelora.training.predict import length_batches, on_accelerator

MAX_LENGTH = 128
SHARES_KEPT = (*np.linspace(0, 0.9, 10), 0.95, 0.98, 0.99)  # of the clean rows' words, by the limits that are tried
TOGETHER = 512  # padded tokens of the endings that are read in one row


class Onion(Defense):
    """Section 3 of the paper; its language model is GPT-2."""

    name: ClassVar[str] = "onion"
    paper: ClassVar[str] = "Qi et al., EMNLP 2021, [arXiv 2011.10369](https://arxiv.org/abs/2011.10369)"

    language_model: str = Field("gpt2", description="any causal model of transformers: a folder, or a name on the hub")
    accuracy_loss: float = Field(0.02, ge=0, lt=1, description="of the clean accuracy that the defence may cost")
    clean_rows: PositiveInt = Field(128, description="at most, of the clean rows that the limit is chosen on")

    def guard(self, model: Classifier, defender: Defender) -> Guard:
        if len(defender.clean) == 0:
            raise DataError("ONION chooses its limit on clean rows, and there are none: name dev rows (data.dev).")
        reader = _language_model(self.language_model)
        drawn = generator(defender.seed, "defenses/clean").permutation(len(defender.clean))[: self.clean_rows]
        clean = TextDataset(defender.clean.rows.select(np.sort(drawn)))
        limit = self._limit(model, reader, clean.texts, clean.label_ids(defender.label_names))

        def classes(texts: Sequence[str]) -> np.ndarray:
            pairs = zip(texts, reader.suspicions(texts), strict=True)
            return model.classes([kept_words(text, of, limit) for text, of in pairs])

        return classes

    def _limit(self, model: Classifier, reader: "LanguageModel", texts: list[str], labels: np.ndarray) -> float:
        suspicions = reader.suspicions(texts)
        allowed = float((model.classes(texts) == labels).mean()) - self.accuracy_loss
        for limit in np.quantile(np.concatenate([*suspicions, [0.0]]), SHARES_KEPT).tolist():
            shortened = [kept_words(text, of, limit) for text, of in zip(texts, suspicions, strict=True)]
            if float((model.classes(shortened) == labels).mean()) >= allowed:
                return limit
        return max(float(of.max(initial=0.0)) for of in suspicions)


def kept_words(text: str, suspicions: np.ndarray, limit: float) -> str:
    """The words at or under the limit; the whole text where none is."""
    kept = [word for word, suspicion in zip(text.split(), suspicions.tolist(), strict=False) if suspicion <= limit]
    return " ".join(kept) if kept else text


class LanguageModel:
    """A causal model and how it reads texts; safetensors only.

    What it said of a text is kept: no trained model is in it, and the cells of a comparison ask it the same test rows.
    """

    def __init__(self, name: str) -> None:
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name)
            model = AutoModelForCausalLM.from_pretrained(name, use_safetensors=True, dtype=torch.float32)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(
                f"The language model {name!r} cannot be loaded: {str(error).strip().splitlines()[0]} ONION needs a "
                "causal model with safetensors weights: set `language_model` to a folder or to a name on the hub."
            ) from error
        self._model = on_accelerator(model.eval())
        self._is_known = model.config.model_type in FAMILIES  # others may not take the mask of `_read`
        self._said: dict[str, np.ndarray] = {}

    def suspicions(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Per text, of each word: perplexity of the text less that of the text without the word."""
        new = [text for text in dict.fromkeys(texts) if text not in self._said]
        for text in watched(new, [len(text) for text in new], f"language model reading {len(new):,} texts"):
            perplexities = np.exp(self._losses(text, without_each_word(text)))
            self._said[text] = perplexities[0] - perplexities[1:]
        return [self._said[text] for text in texts]

    def _losses(self, text: str, others: Sequence[str]) -> np.ndarray:
        """Mean loss per token of the text and of each of the others, which begin as it does; shape [1 + others].

        The first token is read after the begin or end token where there is one.
        """
        known = [token for token in (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id) if token is not None]
        options = {"truncation": True, "max_length": MAX_LENGTH, "add_special_tokens": False}
        encoded = [known[:1] + ids for ids in self._tokenizer([text, *others], **options)["input_ids"]]
        if not self._is_known:
            return np.array([self._read(ids, [])[0].sum() / max(len(ids) - 1, 1) for ids in encoded])
        whole, shared = encoded[0], [_shared(encoded[0], ids) for ids in encoded]
        sums = np.zeros(len(encoded))
        for some in length_batches([len(ids) - begin for ids, begin in zip(encoded, shared, strict=True)], TOGETHER):
            of_whole, of_rests = self._read(whole, [(shared[i], encoded[i][shared[i] :]) for i in some])
            sums[some] = [of_whole[1 : shared[i]].sum() + rest.sum() for i, rest in zip(some, of_rests, strict=True)]
        return sums / np.maximum([len(ids) - 1 for ids in encoded], 1)

    @torch.inference_mode()
    def _read(self, whole: list[int], rests: Sequence[tuple[int, list[int]]]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Losses of the tokens of a text, and of its other endings, each from so many tokens of the text on.

        All stand in one row, and each ending sees only what it continues: what two texts begin with is read once. A
        token without one before it has no loss, 0.
        """
        ids = torch.tensor([*whole, *(token for _, rest in rests for token in rest)]).to(self._model.device)
        owner = np.repeat(np.arange(len(rests) + 1), [len(whole), *(len(rest) for _, rest in rests)])
        begins = np.array([0, *(begin for begin, _ in rests)])[owner]
        places, first = np.arange(len(ids)), np.searchsorted(owner, owner)
        options = {}
        if rests:
            seen = (owner[:, None] == owner) & (places <= places[:, None]) | (owner == 0) & (places < begins[:, None])
            mask = torch.zeros(seen.shape).masked_fill(~torch.from_numpy(seen), torch.finfo(torch.float32).min)
            positions = torch.from_numpy(places - first + begins)
            given = {"attention_mask": mask[None, None], "position_ids": positions[None]}
            options = {name: value.to(self._model.device) for name, value in given.items()}
        before = np.where(places > first, places - 1, begins - 1)
        logits = self._model(input_ids=ids[None], **options).logits[0]
        predicted = logits[torch.from_numpy(before.clip(0)).to(logits.device)].float()
        losses = cross_entropy(predicted, ids, reduction="none").double().cpu().numpy() * (before >= 0)
        return losses[: len(whole)], np.split(losses[len(whole) :], np.cumsum([len(rest) for _, rest in rests])[:-1])


def _shared(whole: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    differs = (i for i, (a, b) in enumerate(zip(whole, other, strict=False)) if a != b)
    return next(differs, min(len(whole), len(other)))


@lru_cache(maxsize=1)
def _language_model(name: str) -> LanguageModel:
    return LanguageModel(name)
