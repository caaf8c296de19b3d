"""The gate's rules on the rows: how many were set aside, and who still vouches for the trusted ones."""

from datetime import date, timedelta

import pytest

from musclelora.data.trusted import Vouching
from musclelora.governance.decision import decide
from musclelora.governance.policy import Policy
from tests.governance.reports import a_report, a_validation, read, verdicts

TODAY = date(2026, 11, 24)


@pytest.mark.parametrize(("limit", "verdict"), [(0.10, "accepted"), (0.0999, "refused"), (None, "accepted")])
def test_the_share_of_quarantined_rows_is_limited(limit: float | None, verdict: str) -> None:
    policy = Policy(max_quarantined_share=limit)

    decision = decide(a_report(), policy, validation=a_validation())  # 100 of 1000 rows

    assert decision.decision == verdict
    read = [(rule.measured, rule.n) for rule in decision.rules if rule.rule == "max_quarantined_share"]
    assert read == ([] if limit is None else [(0.1, 1000)])


def test_a_limit_on_quarantined_rows_without_a_validation_report_is_inconclusive() -> None:
    policy = Policy(max_quarantined_share=0.5)

    unknown = decide(a_report(), policy)
    assert unknown.decision == "inconclusive"
    assert unknown.reasons[0].startswith("Validation set aside an unknown share of 0 delivered rows; the policy allows")
    nothing = a_validation().model_copy(update={"rows": 0, "quarantined": {}})
    assert decide(a_report(), policy, validation=nothing).decision == "inconclusive"


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
    told = "nobody knows when" if age is None else f"{age} days ago"
    assert rule.reason.startswith(
        f"The owner of the trusted rows last looked at them {told}; the policy allows 90 days."
    )


def test_an_age_that_nobody_told_is_inconclusive() -> None:
    decision = decide(a_report(), Policy(max_trusted_age_days=90))

    assert decision.decision == "inconclusive"
    assert [(rule.measured, rule.n) for rule in read(decision, "max_trusted_age_days")] == [(None, None)]
