"""RAP (Yang et al. 2021): a word that makes any clean text of a label less sure of it, but not a triggered one.

The vector of one rare word is learned, all else frozen, so that the word put before clean texts of a label lowers the
probability of that label by at least `least_drop` and at most `largest_drop`. A text that is called that label and
falls by less than nearly all clean ones (all but `refused_share`) is refused.

The paper protects the label that it knows to be the target. Nobody knows it, so that each label gets a vector here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from musclelora.defenses.base import REFUSED, Defender, Defense, Guard
from musclelora.defenses.classifier import Classifier
from musclelora.errors import ConfigError
from musclelora.seeding import generator

BATCH = 32


class Rap(Defense):
    """Section 3.3 of the paper; steps and learning rate are ours."""

    name: ClassVar[str] = "rap"
    paper: ClassVar[str] = "Yang et al., EMNLP 2021, [arXiv 2110.07831](https://arxiv.org/abs/2110.07831)"

    word: str = Field("mb", description="rare, and one token of the model's tokenizer")
    least_drop: float = Field(0.1, gt=0, lt=1, description="of a clean text's probability, that the word is to cause")
    largest_drop: float = Field(0.3, gt=0, lt=1, description="beyond which triggered texts would fall too")
    steps: PositiveInt = Field(100, description="of learning the word's vector")
    learning_rate: PositiveFloat = Field(1e-2, description="of the vector (AdamW)")
    refused_share: float = Field(0.05, gt=0, lt=1, description="of a label's clean texts that are refused by mistake")

    def guard(self, model: Classifier, defender: Defender) -> Guard:
        clean = defender.clean if len(defender.clean) else defender.trusted.data
        called = model.classes(clean.texts)
        token = self._token(model)
        vectors, limits = {}, {}
        for label in np.unique(called).tolist():
            texts = [text for text, of in zip(clean.texts, called.tolist(), strict=True) if of == label]
            vectors[label] = self._learned(model, token, texts, label, defender.seed)
            limits[label] = np.quantile(self._drops(model, token, vectors[label], texts, label), self.refused_share)

        def classes(texts: Sequence[str]) -> np.ndarray:
            answers = model.classes(texts)
            out = answers.copy()
            for label, vector in vectors.items():
                at = np.flatnonzero(answers == label)
                if len(at):
                    drops = self._drops(model, token, vector, [texts[i] for i in at.tolist()], label)
                    out[at[drops < limits[label]]] = REFUSED
            return out

        return classes

    def _token(self, model: Classifier) -> int:
        ids = model.tokenizer(self.word, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == model.tokenizer.unk_token_id:
            raise ConfigError(
                f"RAP's word {self.word!r} is {len(ids)} tokens of this model, or unknown to it, and must be one: set "
                "`word` to a rare word of its vocabulary."
            )
        return int(ids[0])

    def _drops(self, model: Classifier, token: int, vector: Tensor, texts: list[str], label: int) -> np.ndarray:
        """By how much the word lowers the label's probability, shape [texts]."""
        with _replaced(model, token, vector):
            after = model.probabilities([f"{self.word} {text}" for text in texts])[:, label]
        return model.probabilities(texts)[:, label] - after

    def _learned(self, model: Classifier, token: int, texts: list[str], label: int, seed: int) -> Tensor:
        table = torch.as_tensor(model.model.get_input_embeddings().weight)
        vector = table[token].detach().clone().requires_grad_(True)
        optimizer = torch.optim.AdamW([vector], lr=self.learning_rate)
        before = torch.from_numpy(model.probabilities(texts)[:, label]).to(table.device)
        rng = generator(seed, f"defenses/rap/{label}")
        for _ in range(self.steps):
            chosen = rng.permutation(len(texts))[:BATCH]
            batch = model.tokenizer(
                [f"{self.word} {texts[i]}" for i in chosen],
                truncation=True,
                max_length=model.max_length,
                padding=True,
                return_tensors="pt",
            ).to(table.device)
            with _replaced(model, token, vector):
                drop = before[chosen] - model.model(**batch).logits.double().softmax(-1)[:, label]
            loss = (self.least_drop - drop).clamp(min=0).mean() + (drop - self.largest_drop).clamp(min=0).mean()
            (vector.grad,) = torch.autograd.grad(loss, [vector])
            optimizer.step()
        return vector.detach()


@contextmanager
def _replaced(model: Classifier, token: int, vector: Tensor) -> Iterator[None]:
    """Within the block the token's embedding is `vector`; the model's weights stay as they are."""

    def replace(_: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.where((inputs[0] == token)[..., None], vector.to(output.dtype), output)

    handle = model.model.get_input_embeddings().register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()
