"""The gate's rules on robust accuracy, probes, searched triggers and audited models."""

from typing import Any

import pytest

from musclelora.evaluation.probes import SUSPECTS
from musclelora.evaluation.report import AuditedModel, Rate, RobustnessReport
from musclelora.governance.attack_rules import PROBED
from musclelora.governance.decision import decide
from musclelora.governance.policy import Policy
from musclelora.validation.report import Check, Suspect, ValidationReport
from tests.governance.reports import (
    NAN,
    a_probe,
    a_rate,
    a_report,
    a_validation,
    an_attack,
    one_drill,
    probed,
    read,
    verdicts,
)


def robust(rate: Rate | None, in_attacks: bool = False) -> RobustnessReport:
    attack = an_attack().model_copy(update={"robust_accuracy": rate})
    return a_report(attacks={"badnets": attack}, drills={}) if in_attacks else a_report(drills={"badnets": attack})


@pytest.mark.parametrize(
    ("rate", "verdict"),
    [
        (Rate(value=0.82, n=1000, lower95=0.80, upper95=0.84), "accepted"),
        (Rate(value=0.82, n=1000, lower95=0.7999, upper95=0.84), "refused"),
        (None, "inconclusive"),
        (NAN, "inconclusive"),
    ],
)
@pytest.mark.parametrize("in_attacks", [False, True])
def test_triggered_rows_must_keep_their_true_class(rate: Rate | None, verdict: str, in_attacks: bool) -> None:
    decision = decide(robust(rate, in_attacks), Policy(min_robust_accuracy=0.80))

    assert (decision.decision, verdicts(decision, "min_robust_accuracy")) == (verdict, [verdict])
    if rate is not None and verdict != "inconclusive":
        [rule] = read(decision, "min_robust_accuracy")
        assert (rule.measured, rule.bound, rule.limit, rule.n) == (0.82, rate.lower95, 0.80, 1000)
        assert f"82.0% of the triggered rows keep their true class, at least {rate.lower95:.1%} (95 %" in rule.reason
        assert ("Quarantine suspected rows" in rule.reason) is (verdict == "refused")
    assert read(decide(robust(rate), Policy()), "min_robust_accuracy") == []


@pytest.mark.parametrize(
    ("asr", "verdict"), [(a_rate(0.38), "accepted"), (a_rate(0.3801), "refused"), (NAN, "inconclusive")]
)
def test_a_suspected_word_that_works_on_the_candidate_refuses(asr: Rate, verdict: str) -> None:
    decision = decide(probed(asr), Policy())  # at most 0.40

    assert (decision.decision, verdicts(decision, "max_probe_asr")) == (verdict, [verdict])
    [rule] = read(decision, "max_probe_asr")
    assert (rule.attack, rule.evidence, rule.n, rule.limit) == ("cf", "probe", 1000, 0.40)
    assert (rule.measured, rule.bound) == ((None, None) if asr is NAN else (asr.value, asr.upper95))
    assert ("Look at the training rows that carry it" in rule.reason) is (verdict != "accepted")
    assert read(decision, "max_search_asr_over_floor") == []
    assert read(decide(probed(asr), Policy(max_probe_asr=None)), "max_probe_asr") == []


@pytest.mark.parametrize(
    ("asr", "floor", "verdict"),
    [
        (a_rate(0.78), a_rate(0.30), "accepted"),  # 0.80 - 0.30
        (a_rate(0.78), a_rate(0.2999), "refused"),
        (a_rate(0.78), None, "inconclusive"),
        (a_rate(0.78), NAN, "inconclusive"),
        (NAN, a_rate(0.30), "inconclusive"),
    ],
)
def test_a_trigger_found_by_search_is_read_over_the_floor_model(asr: Rate, floor: Rate | None, verdict: str) -> None:
    report = probed(asr, "search", floor)

    decision = decide(report, Policy())

    assert (decision.decision, verdicts(decision, "max_search_asr_over_floor")) == (verdict, [verdict])
    assert read(decision, "max_probe_asr") == []
    [rule] = read(decision, "max_search_asr_over_floor")
    assert ("No training row need carry these very words" in rule.reason) is (verdict != "accepted")
    if verdict != "inconclusive" and floor is not None:
        assert (rule.measured, rule.bound) == (asr.value - floor.value, asr.upper95 - floor.value)
        assert f"points above the floor model's {floor.value:.1%}; the policy allows 50.0 points." in rule.reason
    elif floor is None:
        assert "an unknown number of points above the floor model's an unknown share" in rule.reason
    assert read(decide(report, Policy(max_search_asr_over_floor=None)), "max_search_asr_over_floor") == []


def audited(**fields: Any) -> RobustnessReport:
    about = AuditedModel(name="m", sha256="0" * 64, floor=None, floor_sha256=None)
    attack = an_attack(control=None).model_copy(update={"conclusive": False, **fields})
    return a_report(drills={}, attacks={"badnets": attack}, undefended_cacc=None).model_copy(update={"audited": about})


@pytest.mark.parametrize(
    ("untriggered", "floor"),
    [(a_rate(0.0), None), (a_rate(0.5), None), (a_rate(0.0), a_rate(0.0)), (a_rate(0.5), a_rate(0.0))],
)
def test_an_audited_model_needs_no_control_and_is_read_over_the_untriggered_rows_without_a_floor(
    untriggered: Rate, floor: Rate | None
) -> None:
    report = audited(untriggered=untriggered, floor=floor)

    decision = decide(report, Policy(max_cacc_drop=0.0, max_quarantined_share=0.0))

    assert decision.decision == "accepted"
    assert {rule.rule for rule in decision.rules} & {
        "min_control_asr",
        "max_cacc_drop",
        "max_quarantined_share",
    } == set()


@pytest.mark.parametrize(("untriggered", "verdict"), [(0.20, "accepted"), (0.1999, "inconclusive")])
def test_a_trigger_that_moves_an_audited_model_without_a_floor_is_inconclusive(
    untriggered: float, verdict: str
) -> None:
    report = audited(asr=a_rate(0.28), untriggered=a_rate(untriggered), floor=None)  # at most 0.30

    assert verdicts(decide(report, Policy()), "max_asr_over_floor") == [verdict]


def scanned(suspects: int, check: str = "residual_trigger: cf") -> ValidationReport:
    passed = Check(name=check, expectation="", dataset="train", outcome="pass", failed_rows=0, detail="")
    weakest_first = reversed(range(suspects))
    found = [Suspect(text=f"w{i}", label="positive", z=50.0 - i, purity=1.0, rows=20) for i in weakest_first]
    return a_validation().model_copy(update={"checks": [passed], "suspects": found})


@pytest.mark.parametrize(
    ("suspects", "probes", "verdict"),
    [
        (0, [], "accepted"),
        (1, [0], "accepted"),
        (1, [0, 5], "accepted"),
        (1, [], "inconclusive"),
        (2, [0], "inconclusive"),
        (25, list(range(20)), "accepted"),
        (25, list(range(1, 21)), "inconclusive"),
        (25, list(range(19)), "inconclusive"),
    ],
)
def test_every_suspect_of_the_scan_must_be_probed_up_to_the_twenty_strongest(
    suspects: int, probes: list[int], verdict: str
) -> None:
    report = a_report().model_copy(update={"probes": [a_probe(f"w{i}") for i in probes]})

    decision = decide(report, Policy(required_probes=("scan",)), validation=scanned(suspects))

    assert (decision.decision, verdicts(decision, "required_probes")) == (verdict, [verdict])
    [rule] = read(decision, "required_probes")
    assert (rule.measured, rule.limit) == (len(probes), 1)
    assert rule.reason.startswith(
        f"The training rows were scanned: {suspects} suspect words and phrases, {len(probes)} of them probed."
    )


def test_a_trigger_that_was_searched_for_is_no_probe_of_the_scan() -> None:
    report = a_report().model_copy(update={"probes": [a_probe("w0", "search")]})

    decision = decide(report, Policy(required_probes=("scan",)), validation=scanned(1))

    assert verdicts(decision, "required_probes") == ["inconclusive"]
    assert "Switch the token scan on" in decision.reasons[0]
    unsearched = decide(a_report(), Policy(required_probes=("search",)))
    assert "Audit the model beside a floor model" in unsearched.reasons[0]


def test_as_many_are_asked_for_as_a_run_probes() -> None:
    assert PROBED == SUSPECTS


def test_rows_that_were_not_scanned_are_no_evidence() -> None:
    policy = Policy(required_probes=("scan", "scan"))

    for other in ("label_known", "text_length"):
        assert decide(a_report(), policy, validation=scanned(0, other)).decision == "inconclusive"
    [rule] = read(decide(a_report(), policy), "required_probes")
    assert rule.verdict == "inconclusive"
    assert rule.reason.startswith("The training rows were not scanned: 0 suspect words and phrases, 0 of them probed.")


def test_a_search_must_have_been_made_and_of_an_audited_model_nobody_scans_rows() -> None:
    policy = Policy(required_probes=("search", "scan"), max_asr_over_floor=None)
    about = AuditedModel(name="m", sha256="0" * 64, floor=None, floor_sha256=None)
    audited = a_report(drills={}, attacks={"badnets": an_attack()}).model_copy(update={"audited": about})
    searched = audited.model_copy(update={"probes": [a_probe("x", "search")]})

    assert decide(audited, policy).decision == "inconclusive"
    assert decide(audited.model_copy(update={"probes": [a_probe("x")]}), policy).decision == "inconclusive"
    assert decide(searched, policy).decision == "accepted"
    for kinds in (("search", "scan"), ("scan", "search")):
        both = policy.model_copy(update={"required_probes": kinds})
        assert [rule.attack for rule in read(decide(searched, both), "required_probes")] == ["search"]


@pytest.mark.parametrize(("share", "verdict"), [(-0.1, "inconclusive"), (0.01, "accepted"), (1.0, "accepted")])
def test_a_trigger_must_have_gone_into_some_rows(share: float, verdict: str) -> None:
    assert verdicts(decide(one_drill(transform_rate=share), Policy()), "transform_rate") == [verdict]
    assert verdicts(decide(one_drill(transform_rate=1.1), Policy()), "transform_rate") == ["inconclusive"]


def test_a_control_on_which_every_row_turns_is_as_strong_as_can_be() -> None:
    assert verdicts(decide(one_drill(control_asr=1.0), Policy()), "min_control_asr") == ["accepted"]
