"""The gate's decision. (records; the rules that fill them are `decide`)"""

from typing import Literal

from musclelora.frozen import Frozen
from musclelora.governance.policy import Policy

Verdict = Literal["accepted", "refused", "inconclusive"]


class RuleResult(Frozen):
    """One rule: what was measured, its bound, the limit, and what to do where it did not pass."""

    rule: str
    attack: str | None
    measured: float | None
    bound: float | None
    limit: float
    n: int | None
    verdict: Verdict
    reason: str


class GateDecision(Frozen):
    """Accepted, refused or inconclusive, with every rule that was read. `reasons` are those that did not pass."""

    decision: Verdict
    rules: list[RuleResult]
    policy: Policy
    policy_sha256: str
    report_sha256: str

    @property
    def reasons(self) -> list[str]:
        return [rule.reason for rule in self.rules if rule.verdict != "accepted"]
