"""A trained classifier as the defences read it: probabilities and hidden states of texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from musclelora.adapters.families import FAMILIES
from musclelora.training.predict import logits_of, watched_batches


@dataclass(frozen=True, eq=False)
class Classifier:
    """A model in evaluation mode, its tokenizer, and how many tokens of a text it reads."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Shape [texts, classes], float32."""
        return logits_of(self.model, self.tokenizer, texts, self.max_length)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Shape [texts, classes], float64."""
        return torch.from_numpy(self.logits(texts)).double().softmax(-1).numpy()

    def classes(self, texts: Sequence[str]) -> np.ndarray:
        return self.probabilities(texts).argmax(1)

    @torch.inference_mode()
    def states(self, texts: Sequence[str]) -> np.ndarray:
        """The last layer at the token that the head reads (first of an encoder, last of a decoder): [texts, hidden]."""
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
        family = FAMILIES.get(self.model.config.model_type)
        reads_last = family is not None and family.is_decoder
        out = np.empty((len(encoded), self.model.config.get_text_config().hidden_size), dtype=np.float32)
        for rows in watched_batches(self.model, encoded, "reading"):
            ids = [encoded[i] for i in rows]
            batch = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self.model.device)
            hidden = self.model(**batch, output_hidden_states=True).hidden_states[-1]
            places = [len(row) - 1 if reads_last else 0 for row in ids]
            out[rows] = hidden[torch.arange(len(rows)), places].float().cpu().numpy()
        return out


def without_each_word(text: str) -> list[str]:
    """The text without its first word, without its second, and so on; none for a text of one word."""
    words = text.split()
    return [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))] if len(words) > 1 else []
