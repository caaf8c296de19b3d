"""The gate: what must hold for any report and any policy."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from musclelora.evaluation.report import AttackResult, Rate, RobustnessReport
from musclelora.governance.decision import decide
from musclelora.governance.policy import Policy
from tests.governance.reports import a_report


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
