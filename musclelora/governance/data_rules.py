"""The gate's rules on the rows: how many validation set aside, and whether somebody still vouches for the trusted."""

from collections.abc import Iterator

from musclelora.data.trusted import Vouching
from musclelora.governance.policy import Policy
from musclelora.governance.rule import ROUNDING, RuleResult, a_rule, percent
from musclelora.validation.report import ValidationReport

LOOK_AGAIN = "Let the owner look at the rows again, and set data.trusted.checked (and expires) to that day."


def data_rules(validation: ValidationReport | None, vouched: Vouching | None, policy: Policy) -> Iterator[RuleResult]:
    if policy.max_quarantined_share is not None:
        yield _quarantine_rule(validation, policy.max_quarantined_share)
    if vouched is not None and vouched.expires is not None:
        yield _expiry_rule(vouched, (vouched.expires - vouched.asked).days)
    if policy.max_trusted_age_days is not None:
        yield _age_rule(vouched, policy.max_trusted_age_days)


def _quarantine_rule(validation: ValidationReport | None, limit: float) -> RuleResult:
    """A delivery that is mostly suspect is no basis for a model."""
    rows = validation.rows if validation else 0
    share = len(validation.quarantined) / rows if validation and rows else None
    return a_rule(
        "max_quarantined_share",
        limit=limit,
        passes=None if share is None else share <= limit + ROUNDING,
        fact=f"Validation set aside {percent(share)} of {rows} delivered rows; the policy allows {percent(limit)}.",
        advice="Look at quarantined.csv: leave out the source that the rows come from, or correct a check that is "
        "wrong, and run again.",
        measured=share,
        n=rows,
    )


def _expiry_rule(vouched: Vouching, days_left: int) -> RuleResult:
    return a_rule(
        "trusted_expiry",
        limit=0,
        passes=days_left >= 0,
        fact=f"{vouched.owner} vouches for the {vouched.rows} trusted rows until {vouched.expires}; the gate asked on "
        f"{vouched.asked}.",
        advice=LOOK_AGAIN,
        measured=days_left,
        n=vouched.rows,
    )


def _age_rule(vouched: Vouching | None, limit: int) -> RuleResult:
    age = None if vouched is None or vouched.checked is None else (vouched.asked - vouched.checked).days
    known = age is not None and age >= 0
    when = "nobody knows when" if age is None else f"{age} days ago"
    return a_rule(
        "max_trusted_age_days",
        limit=limit,
        passes=age <= limit if known and age is not None else None,
        fact=f"The owner of the trusted rows last looked at them {when}; the policy allows {limit} days.",
        advice=LOOK_AGAIN,
        measured=age,
        n=vouched.rows if vouched else None,
    )
