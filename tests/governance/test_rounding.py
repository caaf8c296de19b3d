"""Limits and rates at the edge: what is over a limit by the rounding alone passes, and none or all rows are rates."""

import pytest

from musclelora.evaluation.report import AuditedModel, Rate, RobustnessReport
from musclelora.governance.decision import decide
from musclelora.governance.policy import Policy
from musclelora.governance.rule import is_usable
from musclelora.validation.report import ValidationReport
from tests.governance.reports import a_champion, a_report, a_validation, an_attack, one_drill, probed, verdicts

OVER = 1e-9  # by how much a bound may pass its limit: what is not exact in binary


def exact(value: float, lower: float | None = None, upper: float | None = None) -> Rate:
    return Rate(
        value=value, n=1000, lower95=value if lower is None else lower, upper95=value if upper is None else upper
    )


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
        {"champion": a_champion(cacc=exact(OVER))},
    ),
    "max_asr_over_champion": (
        one_drill(floor=exact(0.0, upper=OVER)),
        {"max_asr_over_champion": 0.0},
        {"champion": a_champion(asr={"badnets": exact(0.0)})},
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


def test_an_audited_model_may_be_moved_by_the_rounding() -> None:
    moved = an_attack(control=None).model_copy(
        update={"asr": exact(0.0, upper=OVER), "untriggered": exact(0.0), "floor": None}
    )
    about = AuditedModel(name="m", sha256="0" * 64, floor=None, floor_sha256=None)
    report = a_report(drills={}, attacks={"badnets": moved}).model_copy(update={"audited": about})

    assert verdicts(decide(report, Policy(max_asr_over_floor=0.0)), "max_asr_over_floor") == ["accepted"]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_row_and_rates_of_none_or_all_can_be_read(value: float) -> None:
    one = Rate(value=value, n=1, lower95=value, upper95=value)
    policy = Policy(**{**ONLY, "max_asr": 1.0, "min_triggered_rows": 1})

    assert decide(one_drill(asr=one), policy).decision == "accepted"


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_none_and_all_are_usable_rates_with_their_bounds_off_by_the_rounding(value):
    assert is_usable(exact(value))
    assert is_usable(exact(0.5, lower=0.5 + OVER / 2, upper=0.5 - OVER / 2))


@pytest.mark.parametrize(
    "outside",
    [
        exact(-OVER / 2, lower=0.0, upper=1.0),
        exact(1 + OVER / 2, lower=0.0, upper=1.0),
        exact(0.0, lower=-OVER / 2),
        exact(1.0, upper=1 + OVER / 2),
        exact(1.0, lower=1 + OVER / 2, upper=1.0),
        exact(0.0, upper=-OVER / 2),
    ],
)
def test_what_is_no_fraction_is_no_rate_whatever_the_rounding(outside):
    assert not is_usable(outside)
