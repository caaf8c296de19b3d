"""The gate: known answers on every boundary, missing evidence, and what must hold for any report."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from musclelora.evaluation.report import AttackResult, Rate, RobustnessReport
from musclelora.governance.decision import GateDecision, decide, report_sha256
from musclelora.governance.policy import Policy
from tests.governance.reports import a_model_result, a_rate, a_report, a_validation, an_attack

POLICIES = Path(__file__).parents[2] / "configs" / "policies"
SCHEMA = POLICIES / "policy.schema.json"


@pytest.fixture
def policy() -> Policy:
    return Policy()


def verdict_of(decision: GateDecision, rule: str) -> str:
    return {read.rule: read.verdict for read in decision.rules}[rule]


def changed(report: RobustnessReport, **fields: Any) -> RobustnessReport:
    """The report with its one drill changed."""
    return report.model_copy(update={"drills": {"badnets": report.drills["badnets"].model_copy(update=fields)}})


def test_good_evidence_is_accepted_and_every_rule_was_read(policy: Policy) -> None:
    decision = decide(a_report(), policy)

    assert decision.decision == "accepted"
    assert decision.reasons == []
    assert {rule.rule for rule in decision.rules} == {
        "required_attacks",
        "finite_numbers",
        "min_cacc",
        "max_cacc_drop",
        "min_control_asr",
        "min_triggered_rows",
        "transform_rate",
        "max_asr",
        "max_asr_over_floor",
    }
    assert GateDecision.model_validate_json(decision.model_dump_json()) == decision


# rule, a report on its limit, and the same a little beyond it; limits are those of the default policy
BOUNDARIES = [
    (
        "max_asr",
        changed(a_report(), asr=Rate(value=0.38, n=1000, lower95=0.35, upper95=0.40), floor=a_rate(0.35)),
        changed(a_report(), asr=Rate(value=0.38, n=1000, lower95=0.35, upper95=0.4001), floor=a_rate(0.35)),
        "refused",
    ),
    (
        "max_asr_over_floor",  # 0.4 - 0.3 is 0.10000000000000003
        changed(a_report(), asr=Rate(value=0.38, n=1000, lower95=0.35, upper95=0.40), floor=a_rate(0.30)),
        changed(a_report(), asr=Rate(value=0.38, n=1000, lower95=0.35, upper95=0.40), floor=a_rate(0.2999)),
        "refused",
    ),
    ("min_cacc", a_report(cacc=0.72, undefended_cacc=0.75), a_report(cacc=0.7199, undefended_cacc=0.75), "refused"),
    ("max_cacc_drop", a_report(undefended_cacc=0.96), a_report(undefended_cacc=0.9601), "refused"),
    (
        "min_control_asr",
        changed(a_report(), control_asr=0.80),
        changed(a_report(), control_asr=0.7999),
        "inconclusive",
    ),
    (
        "min_triggered_rows",
        changed(a_report(), asr=a_rate(0.08, n=200)),
        changed(a_report(), asr=a_rate(0.08, n=199)),
        "inconclusive",
    ),
]


@pytest.mark.parametrize(
    ("rule", "on_the_limit", "beyond", "verdict"), BOUNDARIES, ids=[case[0] for case in BOUNDARIES]
)
def test_the_limit_passes_and_one_step_beyond_does_not(
    rule: str, on_the_limit: RobustnessReport, beyond: RobustnessReport, verdict: str, policy: Policy
) -> None:
    assert decide(on_the_limit, policy).decision == "accepted"
    failed = decide(beyond, policy)
    assert failed.decision == verdict
    assert verdict_of(failed, rule) == verdict
    assert len(failed.reasons) == 1


MISSING = {
    "no attack and no drill": a_report(drills={}),
    "no floor": changed(a_report(), floor=None),
    "no attack on the control": changed(a_report(), control_asr=None),
    "no undefended control": a_report(undefended_cacc=None),
    "nothing transformed": changed(a_report(), transform_rate=0.0),
    "called inconclusive": changed(a_report(), conclusive=False),
    "ASR is NaN": changed(a_report(), asr=Rate(value=math.nan, n=1000, lower95=math.nan, upper95=math.nan)),
    "only the bound is NaN": changed(a_report(), asr=Rate(value=0.0, n=1000, lower95=0.0, upper95=math.nan)),
    "floor is NaN": changed(a_report(), floor=Rate(value=math.nan, n=1000, lower95=0.0, upper95=1.0)),
    "control is NaN": changed(a_report(), control_asr=math.nan),
    "transform rate is NaN": changed(a_report(), transform_rate=math.nan),
    "NaN in a number that no rule reads": changed(
        a_report(), untriggered=Rate(value=math.nan, n=1000, lower95=0.0, upper95=1.0)
    ),
    "clean accuracy is NaN": a_report().model_copy(
        update={
            "candidate": a_model_result().model_copy(update={"cacc": Rate(value=0.9, n=9, lower95=math.nan, upper95=1)})
        }
    ),
    "bound under zero": changed(a_report(), asr=Rate(value=0.0, n=1000, lower95=0.0, upper95=-0.5)),
    "bound under the value": changed(a_report(), asr=Rate(value=0.9, n=1000, lower95=0.0, upper95=0.1)),
    "no rows": changed(a_report(), asr=Rate(value=0.0, n=0, lower95=0.0, upper95=0.0)),
    "control above one": changed(a_report(), control_asr=98.0),
}


@pytest.mark.parametrize("report", MISSING.values(), ids=MISSING.keys())
def test_missing_or_unreadable_evidence_is_inconclusive(report: RobustnessReport, policy: Policy) -> None:
    decision = decide(report, policy)

    assert decision.decision == "inconclusive"
    assert decision.reasons
    assert GateDecision.model_validate_json(decision.model_dump_json()) == decision  # no NaN is left in it


def test_a_difference_that_is_not_exact_in_binary_passes_on_its_limit_and_not_much_beyond() -> None:
    """0.9 - 0.8 is 0.09999999999999998, and 0.4 - 0.3 a little more than 0.1."""
    over = changed(a_report(), asr=Rate(value=0.38, n=1000, lower95=0.35, upper95=0.40), floor=a_rate(0.30))
    [rule] = [rule for rule in decide(over, Policy()).rules if rule.rule == "max_asr_over_floor"]

    assert rule.measured == pytest.approx(0.08)
    assert rule.bound == pytest.approx(0.10)
    assert rule.verdict == "accepted"


@pytest.mark.parametrize(("required", "limit"), [((), 1), (("badnets",), 1), (("addsent", "badnets", "badnets"), 2)])
def test_the_limit_of_attacks_is_how_many_the_policy_asks_for(required: tuple[str, ...], limit: int) -> None:
    rules = decide(a_report(), Policy(required_attacks=required)).rules

    assert {rule.limit for rule in rules if rule.rule == "required_attacks"} == {limit}


BROKEN_RATES = [
    {"lower95": -0.1},
    {"lower95": 1.1, "value": 1.0, "upper95": 1.0},
    {"value": -0.1, "lower95": -0.1},
    {"value": 1.1, "upper95": 1.1},
    {"upper95": 1.5},
    {"lower95": 0.5},
    {"upper95": 0.01},
]


@pytest.mark.parametrize("fields", BROKEN_RATES)
@pytest.mark.parametrize("where", ["asr", "floor"])
def test_a_rate_whose_bounds_are_no_fractions_around_it_is_not_read(where: str, fields: dict[str, float]) -> None:
    broken = changed(a_report(), **{where: a_rate(0.05).model_copy(update=fields)})
    policy = Policy(max_asr=1.0, max_asr_over_floor=1.0)

    assert verdict_of(decide(broken, policy), "max_asr_over_floor") == "inconclusive"


def test_the_reports_hash_is_of_the_evidence_not_of_how_long_it_took() -> None:
    report = a_report()
    slower = report.model_copy(
        update={
            "candidate": report.candidate.model_copy(update={"train_seconds": 99.0}),
            "comparisons": {
                role: model.model_copy(update={"train_seconds": 99.0}) for role, model in report.comparisons.items()
            },
        }
    )
    assert report_sha256(slower) == report_sha256(report) != report_sha256(a_report(cacc=0.87))


def test_a_required_attack_must_be_in_the_report() -> None:
    policy = Policy(required_attacks=("badnets", "addsent"))

    assert decide(a_report(), policy).decision == "inconclusive"
    both = a_report(drills={"badnets": an_attack()}, attacks={"addsent": an_attack()})
    assert decide(both, policy).decision == "accepted"


def test_rules_set_to_none_are_not_read_and_need_no_evidence() -> None:
    policy = Policy(max_asr_over_floor=None, max_cacc_drop=None)

    assert decide(changed(a_report(undefended_cacc=None), floor=None), policy).decision == "accepted"


def test_one_refused_rule_outweighs_inconclusive_ones_and_all_are_told(policy: Policy) -> None:
    report = a_report(drills={"badnets": an_attack(asr=0.9), "addsent": an_attack(control=0.1, n=50)}, cacc=0.5)

    decision = decide(report, policy)

    assert decision.decision == "refused"
    failed = {(rule.rule, rule.attack, rule.verdict) for rule in decision.rules if rule.verdict != "accepted"}
    assert failed == {
        ("min_cacc", None, "refused"),
        ("max_cacc_drop", None, "refused"),
        ("max_asr", "badnets", "refused"),
        ("max_asr_over_floor", "badnets", "refused"),
        ("min_control_asr", "addsent", "inconclusive"),
        ("min_triggered_rows", "addsent", "inconclusive"),
    }


def test_an_attack_on_the_candidate_counts_as_a_drill_does(policy: Policy) -> None:
    decision = decide(a_report(attacks={"badnets": an_attack(asr=0.9)}), policy)

    assert decision.decision == "refused"
    assert {rule.evidence for rule in decision.rules if rule.verdict == "refused"} == {"candidate"}


def test_a_reason_tells_the_measurement_the_limit_and_what_to_do(policy: Policy) -> None:
    reason = decide(a_report(drills={"badnets": an_attack(asr=0.62)}), policy).reasons[0]

    for part in ("badnets", "62.0%", "64.0%", "40.0%", "1000 rows", "train again"):
        assert part in reason


@pytest.mark.parametrize("name", ["quickstart", "research", "standard", "strict"])
def test_policy_files_are_policies(name: str) -> None:
    text = (POLICIES / f"{name}.yaml").read_text(encoding="utf-8")

    policy = Policy.model_validate(yaml.safe_load(text))

    assert text.startswith("# For ")
    assert set(yaml.safe_load(text)) == set(Policy.model_fields)  # nothing is left to a default
    assert name != "quickstart" or policy == Policy()


@pytest.mark.parametrize("name", ["decision", "enforcement", "policy", "rule", "waiver", "*_rules"])
def test_nothing_that_decides_looks_at_the_environment(name: str) -> None:
    files = list((Path(__file__).parents[2] / "musclelora" / "governance").glob(f"{name}.py"))

    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "environ" not in text
        assert "import os" not in text
        assert "getenv" not in text


def test_the_shipped_schema_is_that_of_a_policy() -> None:
    """Written by `python -m tests.governance.test_decision`."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == Policy.model_json_schema()


@pytest.mark.parametrize(("limit", "verdict"), [(0.10, "accepted"), (0.0999, "refused"), (None, "accepted")])
def test_the_share_of_quarantined_rows_is_limited(limit: float | None, verdict: str) -> None:
    policy = Policy(max_quarantined_share=limit)

    decision = decide(a_report(), policy, validation=a_validation())  # 100 of 1000 rows

    assert decision.decision == verdict
    read = [(rule.measured, rule.n) for rule in decision.rules if rule.rule == "max_quarantined_share"]
    assert read == ([] if limit is None else [(0.1, 1000)])


def test_a_limit_on_quarantined_rows_without_a_validation_report_is_inconclusive() -> None:
    policy = Policy(max_quarantined_share=0.5)

    assert decide(a_report(), policy).decision == "inconclusive"
    nothing = a_validation().model_copy(update={"rows": 0, "quarantined": {}})
    assert decide(a_report(), policy, validation=nothing).decision == "inconclusive"


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    n = draw(st.integers(1, 2000))
    hits = draw(st.integers(0, n))
    lower = 0.0 if hits == 0 else float(beta.ppf(0.05, hits, n - hits + 1))
    upper = 1.0 if hits == n else float(beta.ppf(0.95, hits + 1, n - hits))
    return Rate(value=hits / n, n=n, lower95=lower, upper95=upper)


fractions = st.floats(0, 1)
attacks = st.builds(
    AttackResult,
    attack=st.just("badnets"),
    target=st.just("positive"),
    asr=rates(),
    floor=st.none() | rates(),
    untriggered=rates(),
    control_asr=st.none() | fractions,
    transform_rate=fractions,
    conclusive=st.booleans(),
    examples=st.just([]),
)
many_attacks = st.dictionaries(st.sampled_from(["badnets", "addsent", "style", "syntax"]), attacks, max_size=4)
limits = st.none() | fractions
policies = st.builds(
    Policy,
    max_asr=limits,
    max_asr_over_floor=limits,
    min_cacc=limits,
    max_cacc_drop=limits,
    min_control_asr=fractions,
    min_triggered_rows=st.integers(1, 500),
    required_attacks=st.just(()),
)
reports = st.builds(
    a_report, drills=many_attacks, attacks=many_attacks, cacc=fractions, undefended_cacc=st.none() | fractions
)


@given(reports, policies, st.floats(0, 1))
def test_a_worse_attack_success_rate_never_helps(report: RobustnessReport, policy: Policy, more: float) -> None:
    def worse(result: AttackResult) -> AttackResult:
        raised = {key: min(1.0, getattr(result.asr, key) + more) for key in ("value", "lower95", "upper95")}
        return result.model_copy(update={"asr": result.asr.model_copy(update=raised)})

    worsened = report.model_copy(update={"drills": {name: worse(result) for name, result in report.drills.items()}})

    if decide(report, policy).decision == "refused":
        assert decide(worsened, policy).decision == "refused"
    if decide(worsened, policy).decision == "accepted":
        assert decide(report, policy).decision == "accepted"


@given(reports, policies)
def test_the_order_of_attacks_changes_nothing(report: RobustnessReport, policy: Policy) -> None:
    turned = report.model_copy(update={"drills": dict(reversed(list(report.drills.items())))})

    assert decide(turned, policy) == decide(report, policy)


NOTHING_MEASURED = Rate(value=0.0, n=0, lower95=0.0, upper95=0.0)


@given(reports, policies, st.sampled_from([{"floor": None}, {"control_asr": None}, {"asr": NOTHING_MEASURED}]))
def test_removing_a_measurement_never_helps(report: RobustnessReport, policy: Policy, gone: dict[str, Any]) -> None:
    less = report.model_copy(
        update={"drills": {name: result.model_copy(update=gone) for name, result in report.drills.items()}}
    )

    if decide(report, policy).decision != "accepted":
        assert decide(less, policy).decision != "accepted"


@given(reports, policies)
def test_removing_the_control_or_all_attacks_never_helps(report: RobustnessReport, policy: Policy) -> None:
    without_control = report.model_copy(update={"comparisons": {}})
    bare = report.candidate.model_copy(update={"attacks": {}})
    without_attacks = report.model_copy(update={"drills": {}, "candidate": bare})

    if decide(report, policy).decision != "accepted":
        assert decide(without_control, policy).decision != "accepted"
    assert decide(without_attacks, policy).decision != "accepted"


@given(many_attacks.filter(bool), policies)
def test_leaving_out_a_drill_that_the_policy_names_is_never_accepted(
    drills: dict[str, AttackResult], policy: Policy
) -> None:
    names_all = policy.model_copy(update={"required_attacks": tuple(drills)})
    without_first = dict(list(drills.items())[1:])

    assert decide(a_report(drills=without_first), names_all).decision != "accepted"


@given(reports, policies)
def test_a_limit_of_zero_is_never_met(report: RobustnessReport, policy: Policy) -> None:
    strict = decide(report, policy.model_copy(update={"max_asr": 0.0})).decision

    assert strict == ("refused" if report.drills or report.candidate.attacks else strict)
    assert strict != "accepted"


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(Policy.model_json_schema(), indent=1) + "\n", encoding="utf-8")
