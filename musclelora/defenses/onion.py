"""ONION (Qi et al. 2021): words that a language model finds out of place are taken out before the text is classified.

A word's suspicion is the text's perplexity less that of the text without it; words over a limit are taken out. The
limit is the lowest that costs no more than `accuracy_loss` of the accuracy on clean rows (the paper too chooses it on a
clean set), among the tenths of those rows' suspicions.
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

from musclelora.data.records import TextDataset
from musclelora.defenses.base import Defender, Defense, Guard
from musclelora.defenses.classifier import Classifier, without_each_word
from musclelora.errors import DataError, ModelError
from musclelora.seeding import generator
from musclelora.training.predict import length_batches, on_accelerator

MAX_LENGTH = 128
CHUNK = 64  # texts whose shortened copies are read together


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
        for limit in np.quantile(np.concatenate([*suspicions, [0.0]]), np.linspace(0, 0.9, 10)).tolist():
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
        self._said: dict[str, np.ndarray] = {}

    def suspicions(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Per text, of each word: perplexity of the text less that of the text without the word."""
        new = [text for text in dict.fromkeys(texts) if text not in self._said]
        for start in range(0, len(new), CHUNK):
            chunk = new[start : start + CHUNK]
            shortened = [without_each_word(text) for text in chunk]
            read = self.perplexities([*chunk, *(text for copies in shortened for text in copies)])
            at = len(chunk)
            for number, copies in enumerate(shortened):
                self._said[chunk[number]] = read[number] - read[at : at + len(copies)]
                at += len(copies)
        return [self._said[text] for text in texts]

    @torch.inference_mode()
    def perplexities(self, texts: Sequence[str]) -> np.ndarray:
        """Shape [texts], float64; the first token is read after the begin or end token where there is one."""
        known = [token for token in (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id) if token is not None]
        options = {"truncation": True, "max_length": MAX_LENGTH, "add_special_tokens": False}
        encoded = [known[:1] + ids for ids in self._tokenizer(list(texts), **options)["input_ids"]]
        out = np.ones(len(texts))
        for rows in length_batches([len(ids) for ids in encoded]):
            longest = max(len(encoded[i]) for i in rows)
            ids = torch.tensor([encoded[i] + [0] * (longest - len(encoded[i])) for i in rows]).to(self._model.device)
            mask = torch.arange(longest).to(ids) < torch.tensor([[len(encoded[i])] for i in rows]).to(ids)
            logits = self._model(input_ids=ids, attention_mask=mask.long()).logits[:, :-1].float()
            losses = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none") * mask[:, 1:]
            mean = losses.sum(1) / mask[:, 1:].sum(1).clamp(min=1)
            out[rows] = mean.double().exp().cpu().numpy()
        return out


@lru_cache(maxsize=1)
def _language_model(name: str) -> LanguageModel:
    return LanguageModel(name)
