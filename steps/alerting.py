"""Tell a person: always a line in the log, and a message where the stack has an alerter."""

import logging

from zenml import get_step_context
from zenml.client import Client

from musclelora.governance.enforcement import GateInconclusiveError, GateRefusedError

logger = logging.getLogger("musclelora.progress")


def raise_alert(message: str) -> None:
    """Log the message; post it through the stack's alerter. One that does not take it is logged, and stops nothing."""
    logger.warning("ALERT: %s", message)
    alerter = Client().active_stack.alerter
    if alerter is None:
        return
    try:
        taken = alerter.post(message)
    except Exception as error:  # whatever a chat service's client raises: the run's own outcome counts
        logger.warning("ALERT not delivered: the alerter %r failed (%s)", alerter.name, type(error).__name__)
        return
    if not taken:
        logger.warning("ALERT not delivered: the alerter %r did not take it", alerter.name)


def alert_failure(error: BaseException) -> None:
    """Hook of a run: a step failed. The gate's own refusals were told before, by the step `alert`."""
    if isinstance(error, (GateRefusedError, GateInconclusiveError)):
        return
    run = get_step_context()
    raise_alert(
        f"{run.pipeline_run.name} failed in the step {run.step_run.name}, and the champion is where it was. "
        f"{type(error).__name__}: {error}"
    )
