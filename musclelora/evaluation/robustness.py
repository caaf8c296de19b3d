"""Clean accuracy and attack success of the candidate, of what it is compared with, and of drills and probes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from musclelora.data.records import TextDataset
from musclelora.errors import DataError
from musclelora.evaluation.probes import run_probes
from musclelora.evaluation.report import ModelResult, ProbeResult, RobustnessReport, Role
from musclelora.evaluation.suites import TriggeredFrom, made_suite
from musclelora.evaluation.suspect_groups import group_results
from musclelora.evaluation.tested import Tested, attack_result
from musclelora.training.defended_model import DefendedModel
from musclelora.training.recipes import InferencePrecision
from musclelora.validation.report import ValidationReport

REWRITING = {"stylebkd", "hiddenkiller"}


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
            """By attack; the model of a joint drill, whose part joins its attacks, under each of them."""
            return {
                attack: model
                for part, model in by_part.items()
                if part.startswith(prefix)
                for attack in part.removeprefix(prefix).split("__")
            }

        roles: tuple[Role, ...] = get_args(Role)
        floors = {role: by_part[f"{role}_floor"] for role in roles if f"{role}_floor" in by_part}
        never_saw_poison: tuple[Role, ...] = ("trusted_only", "undefended_floor")
        floors |= {role: by_part[role] for role in never_saw_poison if role in by_part}
        return cls(
            candidate=by_part["candidate"],
            comparisons={role: by_part[role] for role in roles if role != "candidate" and role in by_part},
            floors=floors,
            drills=starting_with("drill_"),
            drill_controls=starting_with("control_"),
        )


def evaluate_robustness(
    models: ModelsUnderTest,
    test: TextDataset,
    triggers: TriggeredFrom,
    *,
    min_control_asr: float,
    validation: ValidationReport | None = None,
    quarantined: TextDataset | None = None,
    precision: InferencePrecision = "fp32",
) -> RobustnessReport:
    """Evaluate every model on the clean `test` rows and on their triggered copies, and probe the candidate.

    `triggers.attacks` are known to be in the data or asked for; drills bring their own. What `validation` suspects is
    tried on the candidate: words and phrases as probes, groups by their rows among the `quarantined`; the floor of both
    is the model trained on the trusted rows alone. Raises `DataError` when no test row can carry an attack, when the
    target is not a label, or when test labels are unknown.
    """
    label_names = models.candidate.record.label_names
    if triggers.target not in label_names:
        raise DataError(f"The target label {triggers.target!r} is not among the labels {label_names}.")
    suites = {name: made_suite(name, test, triggers, label_names) for name in [*triggers.attacks, *models.drills]}

    said_by: dict[str, dict[str, int]] = {}  # per weights: a floor is often the very model that it is the floor of

    def tested(model: DefendedModel) -> Tested:
        return Tested.from_defended(model, precision, said_by.setdefault(model.sha256, {}))

    floor_of = {role: tested(model) for role, model in models.floors.items()}
    candidate, undefended = tested(models.candidate), models.comparisons.get("undefended")
    control = tested(undefended) if undefended else None

    trusted_only = floor_of.get("trusted_only")
    probes = run_probes(validation.suspects if validation else [], test, candidate, trusted_only, triggers.seed)
    groups = group_results(validation, quarantined, candidate, trusted_only) if validation and quarantined else []

    def result(role: Role, model: Tested) -> ModelResult:
        attacks = {
            name: attack_result(suites[name], model, floor_of.get(role), control, min_control_asr)
            for name in triggers.attacks
        }
        return model.result(role, test, attacks)

    return RobustnessReport(
        label_names=label_names,
        test_rows=len(test),
        test_sha256=test.sha256,
        candidate=result("candidate", candidate),
        comparisons={
            role: result(role, control if role == "undefended" and control else tested(model))
            for role, model in models.comparisons.items()
        },
        drills={
            name: attack_result(
                suites[name], tested(model), candidate, tested(models.drill_controls[name]), min_control_asr
            )
            for name, model in models.drills.items()
        },
        probes=probes,
        suspect_groups=groups,
        precision=precision,
        not_tested=not_tested([*triggers.attacks, *models.drills], probes),
    )


def not_tested(attacks: Iterable[str], probes: Sequence[ProbeResult]) -> list[str]:
    """In words, what a report on these attacks and probes says nothing about."""
    said = []
    if not any(probe.kind == "scan" for probe in probes):
        said.append("words and phrases suspected in the training rows: there were none, or no row was scanned")
    if not any(probe.kind == "search" for probe in probes):
        said.append("triggers that only a search through the weights would find")
    if not REWRITING & set(attacks):
        said.append("attacks that rewrite style or syntax")
    return [*said, "triggers of other kinds than these", "attacks on the weights, the tokenizer or the serving system"]
