"""Tell a person what a retraining found. Never cached."""

from typing import Annotated

from zenml import step

from musclelora.evaluation.report import RobustnessReport
from musclelora.governance.coverage import Occasion
from musclelora.governance.decision import GateDecision
from musclelora.governance.registered import RegisteredVersion
from musclelora.retraining import alert_text
from musclelora.validation.report import ValidationReport
from steps.alerting import raise_alert
from steps.idle import unless_idle


@step(enable_cache=False)
@unless_idle
def alert(
    occasion: Occasion,
    validation: ValidationReport,
    report: RobustnessReport,
    decision: GateDecision,
    registered: RegisteredVersion,
    new_rows: ValidationReport | None,
) -> Annotated[str, "alert"]:
    message = alert_text(occasion, validation, new_rows, report, decision, registered)
    if message:
        raise_alert(message)
    return message or ""
