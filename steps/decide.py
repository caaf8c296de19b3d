"""The gate. Never cached."""

from typing import Annotated

from zenml import step

from musclelora.evaluation.report import RobustnessReport
from musclelora.governance import decision
from musclelora.governance.decision import GateDecision
from musclelora.governance.policy import Policy
from musclelora.governance.waiver import Waiver
from musclelora.validation.report import ValidationReport
from steps.progress import announce


@step(enable_cache=False)
def decide(
    report: RobustnessReport, validation: ValidationReport, policy: Policy, waivers: list[Waiver]
) -> Annotated[GateDecision, "gate_decision"]:
    decided = decision.decide(report, policy, waivers, validation)
    announce(f"decide: {decided.decision}")
    return decided
