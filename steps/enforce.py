"""Fail the run when the gate did not accept, so that every orchestrator shows it. Never cached."""

from zenml import step

from musclelora.governance.decision import GateDecision
from musclelora.governance.enforcement import enforce_decision
from musclelora.governance.registered import RegisteredVersion
from steps.idle import unless_idle


@step(enable_cache=False)
@unless_idle
def enforce(decision: GateDecision, registered: RegisteredVersion) -> None:  # noqa: ARG001 (recorded first)
    enforce_decision(decision)
