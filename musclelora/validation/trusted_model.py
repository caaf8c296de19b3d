"""What the trusted rows alone say of a label: an encoder and a logistic head, which no untrusted row has trained.

The same model teaches the guided recipes (`musclelora.training.contrastive`), and is trained once for both.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any, Literal

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import StratifiedKFold

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.errors import DataError
from musclelora.progress import watched
from musclelora.seeding import derived_seed, generator
from musclelora.training.backbone import Backbone
from musclelora.training.contrastive import ContrastiveModel, contrastive_model, train_contrastive
from musclelora.training.fit import computes_in_bf16
from musclelora.training.recipes import Contrastive
from musclelora.validation.config import ONE_PROCESS, EngineConfig
from musclelora.validation.engine import LOCAL, Engine, cuts_of, running
from musclelora.validation.report import TrustedModelRecord
from musclelora.validation.sensitivity import Judged, lower_bound, right_of, sensitivity
from musclelora.validation.token_scan import EXTREME, SuspectFeature, scan_tokens
from musclelora.validation.word_model import word_model

FOLDS = 3  # each trains the encoder again
_last: dict[tuple[Any, ...], np.ndarray] = {}  # what the last model said of the last rows
_last_found: dict[tuple[Any, ...], list[SuspectFeature]] = {}  # what the last token scan found in all of its rows


class TrustedModel:
    """Mean-pooled, normalised states of an encoder tuned on pairs of trusted rows, and logistic regression on them."""

    def __init__(
        self,
        backbone: Backbone,
        trusted: TrustedSet,
        max_length: int,
        *,
        contrastive: Contrastive | None = None,
        seed: int = 0,
        sample_rows: int | None = None,
    ) -> None:
        """`contrastive` with 0 steps leaves the encoder as it is. `sample_rows`: see `said_of`."""
        self.backbone, self.trusted, self.seed, self.sample_rows = backbone, trusted, seed, sample_rows
        self.settings = contrastive or Contrastive()
        self._options: dict[str, Any] = {
            "settings": self.settings,
            "backbone": backbone,
            "max_length": max_length,
            "seed": seed,
            "bf16": computes_in_bf16("auto"),
        }
        self.label_names = trusted.label_names

    @cached_property
    def _model(self) -> ContrastiveModel:
        """Trained when it is first asked, unless this process has that of the same arguments. Raises as
        `train_contrastive` does."""
        return contrastive_model(self.trusted, **self._options)

    def states(self, texts: Sequence[str]) -> np.ndarray:
        """Shape [rows, hidden size], float32, of length 1."""
        return self._model.embeddings(texts)

    def probabilities(self, texts: Sequence[str], engine: Engine = LOCAL) -> np.ndarray:
        """P(label | text) of the head, not calibrated on any untrusted row, shape [rows, classes]; rows sum to 1.

        Each partition of the `engine` is a pass of its own, since the rows of a batch decide the last digits.
        """
        partitions = [texts[cut] for cut in cuts_of(len(texts), engine)]
        told = watched(partitions, [len(part) for part in partitions], f"reading {len(texts):,} texts in partitions")
        calls = engine.map(_probabilities, repeat(engine.share(self._model)), told)
        return np.concatenate(list(engine.results(calls)))

    def said_of(self, rows: TextDataset, engine: Engine = LOCAL, before: TextDataset | None = None) -> np.ndarray:
        """`probabilities` of the rows; those of the last rows are kept, for both scans and for what follows them.

        Of more than `sample_rows` rows so many are read, and a `word_model` of what is said of them says the rest. If
        the last rows are those of `before`, only texts that are not among them are read, and `before` stays kept.
        """
        known = self.kept(rows)
        if known is None and before is not None and (said := self.kept(before)) is not None:
            return self._changed(rows.texts, dict(zip(before.texts, said, strict=True)), engine)
        if known is None:
            known = self._said(rows.texts, engine)
            _last.clear()
            _last[self.key(rows)] = known
        return known

    def _changed(self, texts: list[str], known: dict[str, np.ndarray], engine: Engine) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known |= zip(new, self.probabilities(new, engine), strict=True)
        return np.stack([known[text] for text in texts])

    def _said(self, texts: Sequence[str], engine: Engine) -> np.ndarray:
        if self.sample_rows is None or len(texts) <= self.sample_rows:
            return self.probabilities(texts, engine)
        drawn = generator(self.seed, "trusted_model/sample").permutation(len(texts))[: self.sample_rows]
        sample = [texts[i] for i in drawn.tolist()]
        said = self.probabilities(sample, engine)
        of_all = word_model(sample, said)(texts)
        of_all[drawn] = said
        return of_all

    def kept(self, rows: TextDataset) -> np.ndarray | None:
        """What this model said of the rows, if they were the last that any was asked about."""
        return _last.get(self.key(rows))

    def key(self, rows: TextDataset) -> tuple[Any, ...]:
        """All that decides what this model says of the rows."""
        options = self._options | {"backbone": (self.backbone.location, self.backbone.sha256)}
        return (rows.sha256, self.trusted.sha256, self.sample_rows, *options.values())

    def accuracy(self, rows: TextDataset) -> float:
        """Share of `rows` whose label the head predicts."""
        return self._model.accuracy(rows)

    def calibrated(self, rows: TextDataset, engine: Engine = LOCAL, before: TextDataset | None = None) -> np.ndarray:
        """P(given label = class), shape [rows, classes]: the head's, calibrated on the given labels one by one."""
        return calibrate(self.said_of(rows, engine, before), rows.label_ids(self.label_names))

    def record(self, held_out: TextDataset | None = None) -> TrustedModelRecord:
        """How often it is right: on `held_out` rows whose labels are known to be right, else cross-validated.

        Cross-validation trains up to `FOLDS` further models, each on what is left of the trusted rows, and so says a
        little less than the model is worth. Raises `DataError` where a label has only one trusted row.
        """
        measured_on: Literal["held-out rows", "trusted rows, cross-validated"] = "held-out rows"
        given = self.trusted.data.label_ids(self.label_names)
        if held_out is not None:
            truth = held_out.label_ids(self.label_names)
            of_trusted = self.states(self.trusted.data.texts)
            parts = [Judged(np.arange(len(given)), of_trusted, self.states(held_out.texts), truth)]
        else:
            measured_on = "trusted rows, cross-validated"
            truth, parts = given, self._folds(given)
        n, penalty = len(truth), self.settings.inverse_penalty
        hits, chance = right_of(parts, given, penalty), max(Counter(truth.tolist()).values()) / n
        return TrustedModelRecord(
            encoder=self.backbone.name,
            encoder_sha256=self.backbone.sha256,
            contrastive_steps=self.settings.steps,
            trusted_rows=len(self.trusted),
            accuracy=hits / n,
            lower95=lower_bound(hits, n),
            n=n,
            chance=chance,
            measured_on=measured_on,
            sample_rows=self.sample_rows,
            sensitivity=sensitivity(parts, given, len(self.label_names), penalty, chance, self.seed),
        )

    def _folds(self, labels: np.ndarray) -> list[Judged]:
        """Each trusted row is judged once, by a model that was not trained on it."""
        rarest, count = min(Counter(labels.tolist()).items(), key=lambda item: item[1])
        if count < 2:
            raise DataError(
                f"The trusted set has only one row with label {self.label_names[rarest]!r}: to say how good its model "
                "is takes two of every label, better many. Vouch for more rows, or name dev rows."
            )
        shuffle, parts = derived_seed(self.seed, "trusted_model/folds") % 2**32, []
        for fit, left_out in StratifiedKFold(min(FOLDS, count), shuffle=True, random_state=shuffle).split(
            labels, labels
        ):
            fold = TrustedSet(TextDataset(self.trusted.data.rows.select(fit)), self.trusted.owner)
            model = train_contrastive(fold, **self._options)
            texts = self.trusted.data.rows.select(left_out)["text"][:]
            parts.append(Judged(fit, model.embeddings(fold.data.texts), model.embeddings(texts), labels[left_out]))
        return parts


def _probabilities(model: ContrastiveModel, texts: Sequence[str]) -> np.ndarray:
    return model.probabilities(texts)


def calibrate(probabilities: np.ndarray, given: np.ndarray, learned: np.ndarray | None = None) -> np.ndarray:
    """Isotonic regression of each given label on its probability, shape [rows, classes], within `EXTREME` of 0 and 1.

    `learned`, bool, shape [rows]: the rows whose given labels it is fitted to, all of them by default.

    Its only freedom is monotone, so that a weak model says little rather than something wrong (Zadrozny and Elkan
    2002, KDD). It says the same of many rows at once: those bins are what the token scan re-draws labels within.
    """
    columns = []
    for number in range(probabilities.shape[1]):
        isotonic = IsotonicRegression(out_of_bounds="clip", y_min=EXTREME, y_max=1 - EXTREME)
        p, hits = probabilities[:, number], given == number
        isotonic.fit(*((p, hits) if learned is None else (p[learned], hits[learned])))
        columns.append(isotonic.predict(p))
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class TokenScan:
    """The token scan with the trusted model as what is expected; the model is trained only when it is needed.

    `held_out` are clean rows that the trusted model's accuracy is measured on, where there are any. A scan without some
    of the last rows reads none again, and the last result of this process is kept, as that of the group scan is.
    """

    backbone: Backbone
    trusted: TrustedSet
    max_length: int
    contrastive: Contrastive | None = None
    seed: int = 0
    held_out: TextDataset | None = None
    engine: EngineConfig = ONE_PROCESS
    sample_rows: int | None = None

    @cached_property
    def model(self) -> TrustedModel:
        options: dict[str, Any] = {"contrastive": self.contrastive, "seed": self.seed, "sample_rows": self.sample_rows}
        return TrustedModel(self.backbone, self.trusted, self.max_length, **options)

    def record(self) -> TrustedModelRecord:
        return self.model.record(self.held_out)

    def probabilities(self, rows: TextDataset) -> np.ndarray:
        if (known := self.model.kept(rows)) is not None:
            return known
        with running(self.engine) as engine:
            return self.model.said_of(rows, engine)

    def __call__(
        self, rows: TextDataset, *, without: np.ndarray | None = None, before: TextDataset | None = None
    ) -> list[SuspectFeature]:
        """`without`, bool, shape [rows]: leave these out. `before`: see `TrustedModel.said_of`."""
        if without is not None:
            return self._scan(rows, without, before)
        key = (*self.model.key(rows), self.engine)
        if key not in _last_found:
            found = self._scan(rows, None, before)
            _last_found.clear()
            _last_found[key] = found
        return list(_last_found[key])

    def _scan(self, rows: TextDataset, without: np.ndarray | None, before: TextDataset | None) -> list[SuspectFeature]:
        names = self.model.label_names
        with running(self.engine) as engine:
            said = self.model.said_of(rows, engine, before)
            if without is not None:
                rows, said = rows.where(~without), said[~without]
            given = rows.label_ids(names)
            options: dict[str, Any] = {"seed": self.seed, "said": self.model.probabilities, "engine": engine}
            return scan_tokens(rows.texts, given, calibrate(said, given), names, **options)
