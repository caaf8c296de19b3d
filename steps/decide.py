"""The gate. Never cached."""

from typing import Annotated

from zenml import step

from musclelora.evaluation.report import RobustnessReport
from musclelora.governance import decision
from musclelora.governance.decision import GateDecision
from musclelora.governance.policy import Policy
from steps.progress import announce


@step(enable_cache=False)
def decide(report: RobustnessReport, policy: Policy) -> Annotated[GateDecision, "gate_decision"]:
    decided = decision.decide(report, policy)
    announce(f"decide: {decided.decision}")
    return decided
