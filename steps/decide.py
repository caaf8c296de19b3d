"""The gate. Never cached."""

from datetime import datetime, timezone
from typing import Annotated

from zenml import step

from musclelora.data.records import TrustedSet
from musclelora.data.trusted import Vouching, vouching
from musclelora.evaluation.report import ChampionResult, RobustnessReport
from musclelora.governance import decision
from musclelora.governance.decision import GateDecision
from musclelora.governance.policy import Policy
from musclelora.governance.waiver import Waiver
from musclelora.validation.report import ValidationReport
from steps.idle import unless_idle
from steps.progress import announce


@step(enable_cache=False)
@unless_idle
def decide(
    report: RobustnessReport,
    validation: ValidationReport,
    trusted: TrustedSet,
    champion: ChampionResult | None,
    policy: Policy,
    waivers: list[Waiver],
) -> tuple[Annotated[GateDecision, "gate_decision"], Annotated[Vouching, "vouching"]]:
    vouched = vouching(trusted, datetime.now(timezone.utc).date())
    decided = decision.decide(report, policy, waivers, validation, vouched, champion)
    announce(f"decide: {decided.decision}")
    return decided, vouched
