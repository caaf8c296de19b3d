"""ValidationReport: JSON and its page."""

from typing import Any, ClassVar

from materializers.base import RecordMaterializer
from materializers.pages import validation_outcome, validation_page
from musclelora.validation.report import ValidationReport


class ValidationReportMaterializer(RecordMaterializer):
    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (ValidationReport,)

    def extract_metadata(self, data: ValidationReport) -> dict[str, Any]:
        return {
            "outcome": validation_outcome(data),
            "rows": data.rows,
            "accepted_rows": data.accepted_rows,
            "quarantined_rows": len(data.quarantined),
            "failed_checks": [check.name for check in data.checks if check.outcome != "pass"],
        }

    def page(self, data: ValidationReport) -> str:
        return validation_page(data)
