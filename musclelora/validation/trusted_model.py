"""What the trusted rows alone say of a label: a frozen encoder and a logistic head, which no untrusted row trained."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.training.backbone import Backbone, load_tokenizer
from musclelora.training.contrastive import embeddings
from musclelora.validation.token_scan import SuspectFeature, scan_tokens

LOGISTIC_C = 10.0
EXTREME = 0.02  # a calibrated probability nearer to 0 or 1 would let a handful of rows make any feature suspect


class TrustedModel:
    """Mean-pooled, normalised states of the frozen encoder; logistic regression on the trusted rows."""

    def __init__(self, backbone: Backbone, trusted: TrustedSet, max_length: int) -> None:
        self._tokenizer = load_tokenizer(backbone)
        encoder = AutoModel.from_pretrained(backbone.location, use_safetensors=True, dtype=torch.float32)
        self._encoder = encoder.eval()
        self._max_length = max_length
        self.label_names = trusted.label_names
        states, labels = self.states(trusted.data.texts), trusted.data.label_ids(self.label_names)
        self._head = LogisticRegression(C=LOGISTIC_C, max_iter=1000).fit(states, labels)

    def states(self, texts: Sequence[str]) -> np.ndarray:
        """Shape [rows, hidden size], float32, of length 1."""
        return embeddings(self._encoder, self._tokenizer, texts, self._max_length)

    def accuracy(self, rows: TextDataset) -> float:
        """Share of `rows` whose label the head predicts."""
        return float(self._head.score(self.states(rows.texts), rows.label_ids(self.label_names)))

    def calibrated(self, rows: TextDataset) -> np.ndarray:
        """P(given label = class), shape [rows, classes]: the head's, calibrated on the given labels one by one.

        Isotonic regression (Zadrozny and Elkan 2002): its only freedom is monotone, so that a weak head says little
        rather than something wrong.
        """
        raw = self._head.predict_proba(self.states(rows.texts))
        given = rows.label_ids(self.label_names)
        columns = []
        for number in range(len(self.label_names)):
            isotonic = IsotonicRegression(out_of_bounds="clip", y_min=EXTREME, y_max=1 - EXTREME)
            columns.append(isotonic.fit_transform(raw[:, number], given == number))
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class TokenScan:
    """The token scan with the trusted model as what is expected; built only when it runs."""

    backbone: Backbone
    trusted: TrustedSet
    max_length: int

    def __call__(self, rows: TextDataset) -> list[SuspectFeature]:
        model = TrustedModel(self.backbone, self.trusted, self.max_length)
        return scan_tokens(rows.texts, rows.label_ids(model.label_names), model.calibrated(rows), model.label_names)
