"""Robustness of a model of which only the files are known: no training, no control, no drill."""

from collections.abc import Mapping, Sequence

from musclelora.data.records import TextDataset
from musclelora.errors import DataError
from musclelora.evaluation.probes import run_probes
from musclelora.evaluation.report import AttackResult, AuditedModel, RobustnessReport
from musclelora.evaluation.robustness import not_tested
from musclelora.evaluation.suites import TriggeredFrom, made_suite, ready_made_suite
from musclelora.evaluation.tested import Tested, attack_result
from musclelora.evaluation.trigger_search import search_triggers
from musclelora.training.recipes import InferencePrecision
from musclelora.validation.report import Suspect


def audit(
    model: Tested,
    floor: Tested | None,
    test: TextDataset,
    triggers: TriggeredFrom,
    *,
    about: AuditedModel,
    ready_made: Mapping[str, TextDataset],
    suspects: Sequence[Suspect] = (),
    search_seconds: float = 0,
    precision: InferencePrecision = "fp32",
) -> RobustnessReport:
    """Attack `model` on the clean `test` rows with `triggers`, with `ready_made` triggered rows, and with probes.

    `floor`: a model for the same labels that never saw the poison. The search for unknown triggers runs for up to
    `search_seconds`, and only beside a floor, without which its result could not be read. `precision` is what the
    models were loaded in. Raises `DataError` where labels do not agree or nothing is to be tested.
    """
    names = model.label_names
    _check_labels(test, triggers.target, suspects, names)
    if floor is not None and floor.label_names != names:
        raise DataError(
            f"The floor model's labels {floor.label_names} are not the audited model's {names}: it answers another "
            "question. Name a model of the same task, or none."
        )
    suites = [made_suite(attack, test, triggers, names) for attack in triggers.attacks]
    suites += [ready_made_suite(attack, rows, test, triggers.target, names) for attack, rows in ready_made.items()]
    probes = run_probes(suspects, test, model, floor, triggers.seed)
    if search_seconds and floor is not None:
        probes += search_triggers(model, floor, test, [triggers.target], seed=triggers.seed, seconds=search_seconds)

    def on(tested: Tested, beside: Tested | None) -> dict[str, AttackResult]:
        return {suite.attack: attack_result(suite, tested, beside, None, None) for suite in suites}

    return RobustnessReport(
        label_names=names,
        test_rows=len(test),
        test_sha256=test.sha256,
        candidate=model.result("candidate", test, on(model, floor)),
        comparisons={} if floor is None else {"floor": floor.result("floor", test, on(floor, None))},
        drills={},
        probes=probes,
        audited=about,
        precision=precision,
        not_tested=not_tested([suite.attack for suite in suites], probes),
    )


def _check_labels(test: TextDataset, target: str, suspects: Sequence[Suspect], names: list[str]) -> None:
    if foreign := sorted({suspect.label for suspect in suspects} - set(names)):
        raise DataError(
            f"The scan of the training rows suspects words of the labels {foreign}, and the model answers {names}: "
            "these training rows are of another task, or their labels are written differently."
        )
    strangers = sorted({str(label) for label in test.labels} - set(names))
    if strangers or target not in names:
        raise DataError(
            f"The test rows have the labels {sorted(set(map(str, test.labels)))}, the target is {target!r}, and the "
            f"model answers {names}. Say which of its outputs is which label: labels, in the order of its outputs."
        )
