"""One rule of the gate as it was read, and the words for its numbers."""

import math
from typing import Literal

from musclelora.evaluation.report import Rate
from musclelora.frozen import Frozen

Verdict = Literal["accepted", "refused", "inconclusive"]
Evidence = Literal["candidate", "drill", "probe", "metric"]

# A limit such as 0.10 and a difference such as 0.4 - 0.3 are not exact in binary; a bound on the limit passes.
ROUNDING = 1e-9


class RuleResult(Frozen):
    """One rule: what was measured, its bound, the limit, and what to do where it did not pass.

    `attack` is None for a rule about the candidate as a whole; else `evidence` says where that attack was measured.
    """

    rule: str
    attack: str | None
    evidence: Evidence | None = None
    measured: float | None
    bound: float | None
    limit: float
    n: int | None
    verdict: Verdict
    reason: str
    waiver: str | None = None


def a_rule(
    rule: str,
    *,
    limit: float,
    passes: bool | None,
    fact: str,
    advice: str,
    subject: str = "",
    attack: str | None = None,
    evidence: Evidence | None = None,
    measured: float | None = None,
    bound: float | None = None,
    n: int | None = None,
) -> RuleResult:
    """`passes` is None where the evidence is missing or too weak to say."""
    return RuleResult(
        rule=rule,
        attack=attack,
        evidence=evidence,
        measured=finite(measured),
        bound=finite(bound),
        limit=limit,
        n=n,
        verdict="inconclusive" if passes is None else "accepted" if passes else "refused",
        reason=f"{subject}{fact}" if passes else f"{subject}{fact} {advice}",
    )


def is_usable(rate: Rate) -> bool:
    """Rows were measured, and the bounds are fractions around the value; False for NaN."""
    fractions = all(0 <= share <= 1 for share in (rate.lower95, rate.value, rate.upper95))
    return rate.n >= 1 and fractions and rate.lower95 - ROUNDING <= rate.value <= rate.upper95 + ROUNDING


def finite(number: float | None) -> float | None:
    """None for NaN and infinity, which JSON cannot hold."""
    return number if number is not None and math.isfinite(number) else None


def percent(rate: float | None) -> str:
    return "an unknown share" if finite(rate) is None else f"{rate:.1%}"


def points(difference: float | None) -> str:
    known = finite(difference)
    return "an unknown number of points" if known is None else f"{100 * known:.1f} points"
