"""Clean accuracy and attack success of the candidate, of what it is compared with, and of the drills."""

from dataclasses import dataclass
from typing import get_args

import numpy as np

from musclelora.attacks.base import Attack, triggered_rows
from musclelora.attacks.registry import attack_by_name
from musclelora.data.records import TextDataset
from musclelora.errors import DataError
from musclelora.evaluation.metrics import ASR, CACC
from musclelora.evaluation.report import AttackResult, FlippedRow, ModelResult, Rate, RobustnessReport, Role
from musclelora.frozen import Frozen
from musclelora.training.defended_model import DefendedModel
from musclelora.training.predict import logits_of

EXAMPLES = 5
NOT_TESTED = [
    "triggers other than the attacks listed: no probe of unknown triggers was made",
    "attacks that rewrite style or syntax",
    "attacks on the weights, the tokenizer or the serving system",
]


class TriggeredFrom(Frozen):
    """What the triggered rows are made from: attack names, the target label's name, the seed."""

    attacks: list[str]
    target: str
    seed: int


@dataclass(frozen=True)
class ModelsUnderTest:
    """The models by part. `floors` maps a role to the same recipe trained without the poison; a drill's floor is the
    candidate. `drills` and `drill_controls` map an attack to the drill model and its undefended control."""

    candidate: DefendedModel
    comparisons: dict[Role, DefendedModel]
    floors: dict[Role, DefendedModel]
    drills: dict[str, DefendedModel]
    drill_controls: dict[str, DefendedModel]

    @classmethod
    def from_parts(cls, by_part: dict[str, DefendedModel]) -> "ModelsUnderTest":
        """Sort the models of a training plan by the names of their parts."""

        def starting_with(prefix: str) -> dict[str, DefendedModel]:
            return {part.removeprefix(prefix): m for part, m in by_part.items() if part.startswith(prefix)}

        roles: tuple[Role, ...] = get_args(Role)
        floors = {role: by_part[f"{role}_floor"] for role in roles if f"{role}_floor" in by_part}
        if "trusted_only" in by_part:  # never saw any untrusted row: it is its own floor
            floors["trusted_only"] = by_part["trusted_only"]
        return cls(
            candidate=by_part["candidate"],
            comparisons={role: by_part[role] for role in roles if role != "candidate" and role in by_part},
            floors=floors,
            drills=starting_with("drill_"),
            drill_controls=starting_with("control_"),
        )


def evaluate_robustness(
    models: ModelsUnderTest, test: TextDataset, triggers: TriggeredFrom, *, min_control_asr: float
) -> RobustnessReport:
    """Evaluate every model on the clean `test` rows and on their triggered copies.

    `triggers.attacks` are known to be in the data or asked for; drills bring their own. Raises `DataError` when no
    test row can carry an attack, when the target is not a label, or when test labels are unknown.
    """
    label_names = models.candidate.record.label_names
    if triggers.target not in label_names:
        raise DataError(f"The target label {triggers.target!r} is not among the labels {label_names}.")
    suites = {name: _Suite(name, test, triggers, label_names) for name in [*triggers.attacks, *models.drills]}
    floor_of = {role: _Tested(model) for role, model in models.floors.items()}
    candidate, undefended = _Tested(models.candidate), models.comparisons.get("undefended")
    control = _Tested(undefended) if undefended else None

    def result(role: Role, tested: _Tested) -> ModelResult:
        attacks = {
            name: _attack_result(suites[name], tested, floor_of.get(role), control, min_control_asr)
            for name in triggers.attacks
        }
        return tested.result(role, test, attacks)

    return RobustnessReport(
        label_names=label_names,
        test_rows=len(test),
        test_sha256=test.sha256,
        candidate=result("candidate", candidate),
        comparisons={
            role: result(role, control if role == "undefended" and control else _Tested(model))
            for role, model in models.comparisons.items()
        },
        drills={
            name: _attack_result(
                suites[name], _Tested(model), candidate, _Tested(models.drill_controls[name]), min_control_asr
            )
            for name, model in models.drills.items()
        },
        not_tested=NOT_TESTED,
    )


class _Suite:
    """The triggered rows of one attack, and the same rows untriggered."""

    def __init__(self, name: str, test: TextDataset, triggers: TriggeredFrom, label_names: list[str]) -> None:
        attack: Attack = attack_by_name(name)
        self.name, self.target_name = name, triggers.target
        self.target = label_names.index(triggers.target)
        self.triggered, self.untriggered = triggered_rows(test, attack, target=triggers.target, seed=triggers.seed)
        self.truth = self.triggered.label_ids(label_names).tolist()
        self.transform_rate = len(self.triggered) / sum(label != triggers.target for label in test.labels)

    def asr(self, predictions: np.ndarray) -> Rate:
        computed = ASR(self.target).compute(predictions=predictions, references=self.truth)
        return Rate.model_validate(computed["asr"])


class _Tested:
    """A loaded model that classifies each text once only."""

    def __init__(self, model: DefendedModel) -> None:
        self.record = model.record
        self._loaded = model.load()
        self._classes: dict[str, int] = {}

    def predictions(self, rows: TextDataset) -> np.ndarray:
        """Class numbers, shape [rows]."""
        texts = rows.texts
        new = [text for text in dict.fromkeys(texts) if text not in self._classes]
        if new:
            classes = logits_of(*self._loaded, new, self.record.max_length).argmax(1)
            self._classes |= dict(zip(new, classes.tolist(), strict=True))
        return np.array([self._classes[text] for text in texts])

    def result(self, role: Role, test: TextDataset, attacks: dict[str, AttackResult]) -> ModelResult:
        truth, predicted = test.label_ids(self.record.label_names), self.predictions(test)
        confusion = np.zeros((len(self.record.label_names),) * 2, dtype=int)
        np.add.at(confusion, (truth, predicted), 1)
        computed = CACC().compute(predictions=predicted, references=truth)
        return ModelResult(
            role=role,
            recipe=self.record.recipe.name,
            train_rows=self.record.rows,
            trainable_parameters=self.record.trainable_parameters,
            train_seconds=self.record.seconds,
            cacc=Rate.model_validate(computed["cacc"]),
            confusion=confusion.tolist(),
            attacks=attacks,
        )


def _attack_result(
    suite: _Suite, tested: _Tested, floor: _Tested | None, control: _Tested | None, min_control_asr: float
) -> AttackResult:
    triggered, untriggered = tested.predictions(suite.triggered), tested.predictions(suite.untriggered)
    control_asr = suite.asr(control.predictions(suite.triggered)).value if control else None
    return AttackResult(
        attack=suite.name,
        target=suite.target_name,
        asr=suite.asr(triggered),
        floor=suite.asr(floor.predictions(suite.triggered)) if floor else None,
        untriggered=suite.asr(untriggered),
        control_asr=control_asr,
        transform_rate=suite.transform_rate,
        conclusive=control_asr is not None and control_asr >= min_control_asr,
        examples=_flipped(suite, triggered, untriggered),
    )


def _flipped(suite: _Suite, triggered: np.ndarray, untriggered: np.ndarray) -> list[FlippedRow]:
    rows = np.flatnonzero((triggered == suite.target) & (untriggered != suite.target))[:EXAMPLES]
    return [
        FlippedRow(
            row_id=suite.triggered.row_ids[i],
            label=suite.triggered.labels[i],
            text=suite.untriggered.texts[i],
            triggered_text=suite.triggered.texts[i],
        )
        for i in rows.tolist()
    ]
