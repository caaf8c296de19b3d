"""GateDecision: JSON and its page."""

from typing import Any, ClassVar

from materializers.base import RecordMaterializer
from materializers.pages import decision_page
from musclelora.governance.decision import GateDecision


class GateDecisionMaterializer(RecordMaterializer):
    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (GateDecision,)

    def extract_metadata(self, data: GateDecision) -> dict[str, Any]:
        return {
            "decision": data.decision,
            "reasons": data.reasons,
            "policy_sha256": data.policy_sha256,
            "report_sha256": data.report_sha256,
        }

    def page(self, data: GateDecision) -> str:
        return decision_page(data)
