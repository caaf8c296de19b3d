"""The gate's rules on probes, robust accuracy, trusted rows, the champion so far, and metrics in MLflow's words."""

import math
from datetime import date, timedelta
from typing import Any

import pytest

from musclelora.data.trusted import Vouching
from musclelora.evaluation.probes import SUSPECTS
from musclelora.evaluation.report import AuditedModel, ChampionResult, ProbeResult, Rate, RobustnessReport
from musclelora.governance.attack_rules import PROBED
from musclelora.governance.decision import GateDecision, decide
from musclelora.governance.metrics import report_metrics
from musclelora.governance.policy import MetricLimit, Policy
from musclelora.governance.rule import RuleResult
from musclelora.validation.report import Check, Suspect, ValidationReport
from tests.governance.reports import a_rate, a_report, a_validation, an_attack

TODAY = date(2026, 11, 24)
NAN = Rate(value=math.nan, n=1000, lower95=math.nan, upper95=math.nan)


def read(decision: GateDecision, rule: str) -> list[RuleResult]:
    return [result for result in decision.rules if result.rule == rule]


def verdicts(decision: GateDecision, rule: str) -> list[str]:
    return [result.verdict for result in read(decision, rule)]


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
    assert read(decide(robust(rate), Policy()), "min_robust_accuracy") == []


def a_probe(trigger: str, kind: Any = "scan") -> ProbeResult:
    return ProbeResult(
        trigger=trigger,
        kind=kind,
        target="positive",
        position="start",
        z=9.0,
        rows=12,
        asr=a_rate(0.1),
        floor=a_rate(0.1),
        untriggered=a_rate(0.1),
        examples=[],
    )


def probed(asr: Rate, kind: str = "scan", floor: Rate | None = None) -> RobustnessReport:
    probe = a_probe("cf", kind).model_copy(update={"asr": asr, "floor": floor})
    return a_report().model_copy(update={"probes": [probe]})


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
    found = [Suspect(text=f"w{i}", label="positive", z=50.0 - i, purity=1.0, rows=20) for i in range(suspects)]
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
    assert [rule.measured for rule in read(decision, "required_probes")] == [len(probes)]


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

    assert decide(a_report(), policy, validation=scanned(0, "label_known")).decision == "inconclusive"
    assert verdicts(decide(a_report(), policy), "required_probes") == ["inconclusive"]


def test_a_search_must_have_been_made_and_of_an_audited_model_nobody_scans_rows() -> None:
    policy = Policy(required_probes=("search", "scan"), max_asr_over_floor=None)
    about = AuditedModel(name="m", sha256="0" * 64, floor=None, floor_sha256=None)
    audited = a_report(drills={}, attacks={"badnets": an_attack()}).model_copy(update={"audited": about})
    searched = audited.model_copy(update={"probes": [a_probe("x", "search")]})

    assert decide(audited, policy).decision == "inconclusive"
    assert decide(audited.model_copy(update={"probes": [a_probe("x")]}), policy).decision == "inconclusive"
    assert decide(searched, policy).decision == "accepted"
    assert [rule.attack for rule in read(decide(searched, policy), "required_probes")] == ["search"]


def vouched(checked_ago: int | None = None, expires_in: int | None = None) -> Vouching:
    return Vouching(
        sha256="e" * 64,
        rows=96,
        owner="ann@example.com",
        checked=None if checked_ago is None else TODAY - timedelta(days=checked_ago),
        expires=None if expires_in is None else TODAY + timedelta(days=expires_in),
        asked=TODAY,
    )


@pytest.mark.parametrize(
    ("days_left", "verdicts_"), [(30, ["accepted"]), (0, ["accepted"]), (-1, ["refused"]), (None, [])]
)
def test_trusted_rows_that_expired_refuse(days_left: int | None, verdicts_: list[str]) -> None:
    decision = decide(a_report(), Policy(), vouched=vouched(expires_in=days_left))

    assert verdicts(decision, "trusted_expiry") == verdicts_
    assert decision.decision == ("refused" if days_left == -1 else "accepted")
    assert [(rule.measured, rule.limit) for rule in read(decision, "trusted_expiry")] == [(days_left, 0)][
        : len(verdicts_)
    ]


@pytest.mark.parametrize(
    ("age", "verdict"),
    [(0, "accepted"), (90, "accepted"), (91, "refused"), (None, "inconclusive"), (-1, "inconclusive")],
)
def test_the_age_of_the_trusted_rows_is_limited(age: int | None, verdict: str) -> None:
    decision = decide(a_report(), Policy(max_trusted_age_days=90), vouched=vouched(checked_ago=age))

    assert (decision.decision, verdicts(decision, "max_trusted_age_days")) == (verdict, [verdict])
    [rule] = read(decision, "max_trusted_age_days")
    assert (rule.measured, rule.limit, rule.n) == (age, 90, 96)


def test_an_age_that_nobody_told_is_inconclusive() -> None:
    decision = decide(a_report(), Policy(max_trusted_age_days=90))

    assert decision.decision == "inconclusive"
    assert "nobody knows when" in decision.reasons[0]


LIMITS = Policy(max_asr_over_champion=0.10, max_cacc_drop_from_champion=0.05)
SHA = a_report().test_sha256


def champion(**fields: Any) -> ChampionResult:
    """As good as the candidate of `a_report`: CACC 0.88 (at least 0.86), and ASR 0.06 (at most 0.08) as its floor."""
    known = {"version": "3", "model_sha256": "c" * 64, "test_sha256": SHA, "cacc": a_rate(0.88)}
    return ChampionResult(**{**known, "asr": {"badnets": a_rate(0.06), "addsent": a_rate(0.06)}, **fields})


def test_the_champion_is_read_on_both_sides() -> None:
    report = a_report(attacks={"addsent": an_attack(asr=0.08)})

    decision = decide(report, LIMITS, champion=champion())

    assert decision.decision == "accepted"
    [accuracy] = read(decision, "max_cacc_drop_from_champion")
    assert (accuracy.measured, accuracy.bound, accuracy.n) == (0.0, pytest.approx(0.02), 1000)
    drill, candidate = read(decision, "max_asr_over_champion")
    assert (drill.attack, drill.evidence, drill.measured, drill.bound) == ("badnets", "drill", 0.0, pytest.approx(0.02))
    assert (candidate.attack, candidate.evidence) == ("addsent", "candidate")
    assert (candidate.measured, candidate.bound) == (pytest.approx(0.02), pytest.approx(0.04))
    assert read(decide(report, Policy(), champion=champion()), "max_asr_over_champion") == []


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (champion(cacc=a_rate(0.91)), "accepted"),  # 0.91 - 0.86 = 0.05
        (champion(cacc=a_rate(0.9101)), "refused"),
        (champion(cacc=None), "inconclusive"),
        (champion(cacc=NAN), "inconclusive"),
        (champion(asr={"badnets": a_rate(0.0)}), "accepted"),  # 0.08 - 0.00
        (champion(asr={}), "inconclusive"),
        (champion(asr={"badnets": a_rate(0.06, n=999)}), "inconclusive"),  # not the same rows
        (champion(asr={"badnets": a_rate(0.06, n=1001)}), "inconclusive"),
        (champion(asr={"badnets": NAN}), "inconclusive"),
        (champion(test_sha256="8" * 64), "inconclusive"),
        (champion(test_sha256="6" * 64), "inconclusive"),
        (None, "inconclusive"),
        (ChampionResult(version=None, test_sha256=SHA), "accepted"),
        (ChampionResult(version=None, test_sha256="8" * 64), "inconclusive"),
    ],
)
def test_what_was_not_compared_with_the_champion_is_never_a_pass(result: ChampionResult | None, verdict: str) -> None:
    assert decide(a_report(), LIMITS, champion=result).decision == verdict


@pytest.mark.parametrize(("former", "verdict"), [(0.22, "accepted"), (0.2199, "refused")])
def test_a_candidate_easier_to_attack_than_the_champion_is_refused(former: float, verdict: str) -> None:
    attack = an_attack(asr=0.30, floor=0.30)  # at most 0.32
    report = a_report(drills={}, attacks={"badnets": attack})

    decision = decide(report, LIMITS, champion=champion(asr={"badnets": a_rate(former)}))

    assert (decision.decision, verdicts(decision, "max_asr_over_champion")) == (verdict, [verdict])


def test_a_drill_without_a_floor_or_with_a_broken_candidate_cannot_be_compared() -> None:
    no_floor = a_report(drills={"badnets": an_attack(floor=None)})
    policy = LIMITS.model_copy(update={"max_asr_over_floor": None})
    broken = a_report()
    broken = broken.model_copy(update={"candidate": broken.candidate.model_copy(update={"cacc": NAN})})

    assert verdicts(decide(no_floor, policy, champion=champion()), "max_asr_over_champion") == ["inconclusive"]
    assert verdicts(decide(broken, policy, champion=champion()), "max_cacc_drop_from_champion") == ["inconclusive"]


METRIC = "drill.asr_upper95.badnets"  # 0.10


@pytest.mark.parametrize(
    ("metric", "limit", "verdict"),
    [
        (METRIC, {"greater_is_better": False, "threshold": 0.10}, "accepted"),
        (METRIC, {"greater_is_better": False, "threshold": 0.09}, "refused"),
        ("cacc", {"greater_is_better": True, "threshold": 0.88}, "accepted"),
        ("cacc", {"greater_is_better": True, "threshold": 0.89}, "refused"),
        ("cacc", {"greater_is_better": True, "min_absolute_change": 0.01}, "refused"),
        ("asr.addsent", {"greater_is_better": False, "min_absolute_change": 0.01}, "accepted"),  # 0.04, was 0.06
        ("asr.addsent", {"greater_is_better": False, "min_relative_change": 0.5}, "refused"),
        ("asr.addsent", {"greater_is_better": False, "min_relative_change": 0.3}, "accepted"),
        ("asr.none", {"greater_is_better": False, "threshold": 1.0}, "inconclusive"),
        ("drill.asr.badnets", {"greater_is_better": False, "min_absolute_change": 0.01}, "inconclusive"),
    ],
)
def test_a_metric_is_limited_in_mlflows_words(metric: str, limit: dict[str, Any], verdict: str) -> None:
    report = a_report(attacks={"addsent": an_attack(asr=0.04)})
    policy = Policy(mlflow_thresholds={metric: MetricLimit(**limit)})

    decision = decide(report, policy, champion=champion())

    assert (decision.decision, verdicts(decision, "mlflow_thresholds")) == (verdict, [verdict])
    assert policy.compares_with_champion == ("threshold" not in limit)
    [rule] = read(decision, "mlflow_thresholds")
    assert (rule.attack, rule.measured, rule.bound) == (metric, *[report_metrics(report).get(metric)] * 2)
    assert rule.limit == limit.get("threshold", 0.0)


def test_a_champion_measured_on_other_rows_is_no_baseline() -> None:
    policy = Policy(mlflow_thresholds={"cacc": MetricLimit(greater_is_better=True, min_absolute_change=0.01)})
    worse = champion(cacc=a_rate(0.5))

    assert decide(a_report(), policy, champion=worse).decision == "accepted"
    for sha256 in ("6" * 64, "8" * 64):
        elsewhere = worse.model_copy(update={"test_sha256": sha256})
        assert decide(a_report(), policy, champion=elsewhere).decision == "inconclusive"


def test_a_metric_that_is_not_a_number_is_inconclusive_although_mlflow_passes_it() -> None:
    report = a_report(drills={"badnets": an_attack().model_copy(update={"asr": NAN})})
    policy = Policy(mlflow_thresholds={METRIC: MetricLimit(greater_is_better=False, threshold=0.9)})

    assert verdicts(decide(report, policy), "mlflow_thresholds") == ["inconclusive"]


@pytest.mark.parametrize(("threshold", "verdict"), [(0.8, "accepted"), (0.9, "refused"), (None, "accepted")])
def test_where_there_is_no_champion_yet_only_the_threshold_counts(threshold: float | None, verdict: str) -> None:
    limit = MetricLimit(greater_is_better=True, threshold=threshold, min_absolute_change=0.01)
    policy = Policy(mlflow_thresholds={"cacc": limit})
    none_yet = ChampionResult(version=None, test_sha256=SHA)

    assert decide(a_report(), policy, champion=none_yet).decision == verdict
    assert decide(a_report(), policy).decision == "inconclusive"


@pytest.mark.parametrize("limit", [{}, {"min_absolute_change": 0}, {"min_relative_change": 1}, {"maximum": 1}])
def test_a_limit_that_limits_nothing_or_speaks_otherwise_is_refused(limit: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"limits nothing|greater than 0|less than 1|Extra inputs"):
        MetricLimit(greater_is_better=True, **limit)


def test_a_threshold_that_a_later_version_adds_changes_no_policys_hash() -> None:
    spelled = Policy(min_robust_accuracy=None, mlflow_thresholds={}, required_probes=())

    assert spelled.sha256 == Policy().sha256 != Policy(min_robust_accuracy=0.5).sha256
    assert Policy(max_asr=None).sha256 != Policy().sha256 != Policy(max_asr=0.0).sha256


OVER = 1e-9  # by how much a bound may pass its limit: what is not exact in binary


def exact(value: float, lower: float | None = None, upper: float | None = None) -> Rate:
    return Rate(
        value=value, n=1000, lower95=value if lower is None else lower, upper95=value if upper is None else upper
    )


def one_drill(**fields: Any) -> RobustnessReport:
    return a_report(drills={"badnets": an_attack().model_copy(update=fields)})


def measured(cacc: Rate, undefended: Rate) -> RobustnessReport:
    report = a_report()
    control = report.comparisons["undefended"].model_copy(update={"cacc": undefended})
    return report.model_copy(
        update={
            "candidate": report.candidate.model_copy(update={"cacc": cacc}),
            "comparisons": {"undefended": control},
        }
    )


def one_in_a_billion() -> ValidationReport:
    return a_validation().model_copy(update={"rows": 10**9, "quarantined": {"row-1": ["group_scan"]}})


ONLY = {"max_asr": None, "max_asr_over_floor": None, "min_cacc": None, "max_cacc_drop": None}
BY_THE_ROUNDING = {
    "max_asr": (one_drill(asr=exact(0.0, upper=OVER)), {"max_asr": 0.0}, {}),
    "max_asr_over_floor": (
        one_drill(asr=exact(0.0, upper=OVER), floor=exact(0.0)),
        {"max_asr_over_floor": 0.0},
        {},
    ),
    "min_robust_accuracy": (one_drill(robust_accuracy=exact(0.0)), {"min_robust_accuracy": OVER}, {}),
    "min_control_asr": (one_drill(control_asr=0.0), {"min_control_asr": OVER}, {}),
    "min_cacc": (measured(exact(0.0), exact(0.0)), {"min_cacc": OVER}, {}),
    "max_cacc_drop": (measured(exact(0.0), exact(OVER)), {"max_cacc_drop": 0.0}, {}),
    "max_quarantined_share": (a_report(), {"max_quarantined_share": 0.0}, {"validation": one_in_a_billion()}),
    "max_probe_asr": (probed(exact(0.0, upper=OVER)), {"max_probe_asr": 0.0}, {}),
    "max_search_asr_over_floor": (
        probed(exact(0.0, upper=OVER), "search", exact(0.0)),
        {"max_search_asr_over_floor": 0.0},
        {},
    ),
    "max_cacc_drop_from_champion": (
        measured(exact(0.0), exact(0.0)),
        {"max_cacc_drop_from_champion": 0.0},
        {"champion": champion(cacc=exact(OVER))},
    ),
    "max_asr_over_champion": (
        one_drill(floor=exact(0.0, upper=OVER)),
        {"max_asr_over_champion": 0.0},
        {"champion": champion(asr={"badnets": exact(0.0)})},
    ),
    "lower bound of a rate": (one_drill(asr=exact(0.0, lower=OVER, upper=OVER)), {"max_asr": 1.0}, {}),
    "upper bound of a rate": (one_drill(asr=exact(OVER, lower=0.0, upper=0.0)), {"max_asr": 1.0}, {}),
}


@pytest.mark.parametrize("case", BY_THE_ROUNDING)
def test_a_bound_that_is_over_its_limit_by_the_rounding_alone_passes(case: str) -> None:
    report, limit, beside = BY_THE_ROUNDING[case]
    policy = Policy(**{**ONLY, "max_probe_asr": None, "max_search_asr_over_floor": None, **limit})

    decision = decide(report, policy, **beside)

    assert (decision.decision, decision.reasons) == ("accepted", [])
    assert case not in Policy.model_fields or "accepted" in verdicts(decision, case)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_row_and_rates_of_none_or_all_can_be_read(value: float) -> None:
    one = Rate(value=value, n=1, lower95=value, upper95=value)
    policy = Policy(**{**ONLY, "max_asr": 1.0, "min_triggered_rows": 1})

    assert decide(one_drill(asr=one), policy).decision == "accepted"


@pytest.mark.parametrize(("share", "verdict"), [(-0.1, "inconclusive"), (0.01, "accepted"), (1.0, "accepted")])
def test_a_trigger_must_have_gone_into_some_rows(share: float, verdict: str) -> None:
    assert verdicts(decide(one_drill(transform_rate=share), Policy()), "transform_rate") == [verdict]
    assert verdicts(decide(one_drill(transform_rate=1.1), Policy()), "transform_rate") == ["inconclusive"]


def test_a_control_on_which_every_row_turns_is_as_strong_as_can_be() -> None:
    assert verdicts(decide(one_drill(control_asr=1.0), Policy()), "min_control_asr") == ["accepted"]
