"""A decision obeyed: a run whose candidate was not accepted fails, with the reasons."""

from musclelora.errors import MuscleLoRAError
from musclelora.governance.decision import GateDecision


class GateRefusedError(MuscleLoRAError):
    """The gate refused the candidate."""

    exit_code = 3


class GateInconclusiveError(MuscleLoRAError):
    """The evidence does not suffice to accept or refuse."""

    exit_code = 4


def enforce_decision(decision: GateDecision) -> None:
    """Raise `GateRefusedError` or `GateInconclusiveError` with every reason; return only when accepted."""
    if decision.decision == "accepted":
        return
    reasons = " ".join(f"({number}) {reason}" for number, reason in enumerate(decision.reasons, 1))
    if decision.decision == "refused":
        raise GateRefusedError(f"The gate refused the candidate; it has no alias. {reasons}")
    raise GateInconclusiveError(f"The gate found the evidence inconclusive; the candidate has no alias. {reasons}")
