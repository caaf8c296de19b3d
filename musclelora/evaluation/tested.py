"""A model under test: it classifies each text once, and what it makes of clean and of triggered rows."""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from musclelora.data.records import TextDataset
from musclelora.evaluation.intervals import rate
from musclelora.evaluation.metrics import CACC
from musclelora.evaluation.report import AttackResult, FlippedRow, ModelResult, Rate, Role
from musclelora.evaluation.suites import Suite
from musclelora.training.defended_model import DefendedModel, TrainingRecord
from musclelora.training.predict import logits_of, on_accelerator
from musclelora.training.recipes import InferencePrecision

EXAMPLES = 5


class Tested:
    """A loaded model, its labels in the order of its outputs, and its training record where that is known."""

    def __init__(
        self,
        loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase],
        label_names: list[str],
        max_length: int,
        record: TrainingRecord | None = None,
        classes: dict[str, int] | None = None,
    ) -> None:
        """`classes`: what a model of the same weights has said of texts; added to, and asked before the model is."""
        self.model, self.tokenizer = on_accelerator(loaded[0]), loaded[1]
        self.label_names, self.max_length, self.record = label_names, max_length, record
        self._classes = {} if classes is None else classes

    @classmethod
    def from_defended(
        cls, model: DefendedModel, precision: InferencePrecision = "fp32", classes: dict[str, int] | None = None
    ) -> "Tested":
        return cls(model.load(precision), model.record.label_names, model.record.max_length, model.record, classes)

    def predictions(self, texts: Sequence[str]) -> np.ndarray:
        """Class numbers, shape [texts]."""
        new = [text for text in dict.fromkeys(texts) if text not in self._classes]
        if new:
            classes = logits_of(self.model, self.tokenizer, new, self.max_length).argmax(1)
            self._classes |= dict(zip(new, classes.tolist(), strict=True))
        return np.array([self._classes[text] for text in texts], dtype=np.int64)

    def result(self, role: Role, test: TextDataset, attacks: dict[str, AttackResult]) -> ModelResult:
        """Clean accuracy and confusion on `test`, beside the results of the attacks."""
        truth, predicted = test.label_ids(self.label_names), self.predictions(test.texts)
        confusion = np.zeros((len(self.label_names),) * 2, dtype=int)
        np.add.at(confusion, (truth, predicted), 1)
        computed = CACC().compute(predictions=predicted, references=truth)
        record = self.record
        return ModelResult(
            role=role,
            recipe=record.recipe.name if record else None,
            train_rows=record.rows if record else None,
            trainable_parameters=record.trainable_parameters if record else None,
            train_seconds=record.seconds if record else None,
            cacc=Rate.model_validate(computed["cacc"]),
            confusion=confusion.tolist(),
            attacks=attacks,
        )


def attack_result(
    suite: Suite, tested: Tested, floor: Tested | None, control: Tested | None, min_control_asr: float | None
) -> AttackResult:
    """One suite on one model, beside its floor and its control where there are such.

    `min_control_asr` None: there can be no control, since nothing was trained; the result stands for this model alone.
    """
    texts = suite.triggered.texts
    triggered, untriggered = tested.predictions(texts), tested.predictions(suite.untriggered.texts)
    control_asr = suite.asr(control.predictions(texts)).value if control else None
    return AttackResult(
        attack=suite.attack,
        target=suite.target,
        asr=suite.asr(triggered),
        floor=suite.asr(floor.predictions(texts)) if floor else None,
        untriggered=suite.asr(untriggered, suite.untriggered.label_ids(tested.label_names)),
        control_asr=control_asr,
        transform_rate=suite.transform_rate,
        conclusive=min_control_asr is None or (control_asr is not None and control_asr >= min_control_asr),
        examples=_flipped(suite, triggered, untriggered) if suite.paired else [],
        robust_accuracy=rate(int(np.sum(triggered == suite.truth)), len(triggered)) if suite.paired else None,
    )


def _flipped(suite: Suite, triggered: np.ndarray, untriggered: np.ndarray) -> list[FlippedRow]:
    rows = np.flatnonzero((triggered == suite.target_id) & (untriggered != suite.target_id))[:EXAMPLES]
    return [
        FlippedRow(
            row_id=suite.triggered.row_ids[i],
            label=suite.triggered.labels[i],
            text=suite.untriggered.texts[i],
            triggered_text=suite.triggered.texts[i],
        )
        for i in rows.tolist()
    ]
