"""RobustnessReport: JSON and its page."""

from typing import Any, ClassVar

from materializers.base import RecordMaterializer
from materializers.pages import robustness_page
from musclelora.evaluation.report import RobustnessReport


class RobustnessReportMaterializer(RecordMaterializer):
    """Its value is all it says except how long training took."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (RobustnessReport,)

    def values(self, record: dict[str, Any]) -> dict[str, Any]:
        for model in (record["candidate"], *record["comparisons"].values()):
            del model["train_seconds"]
        return record

    def extract_metadata(self, data: RobustnessReport) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "cacc": data.candidate.cacc.value,
            "cacc_lower95": data.candidate.cacc.lower95,
            "test_rows": data.test_rows,
            "test_sha256": data.test_sha256,
        }
        results = [*data.candidate.attacks.values(), *data.drills.values()]
        if results:
            worst = max(results, key=lambda result: result.asr.upper95)
            metadata |= {
                "worst_attack": worst.attack,
                "worst_asr": worst.asr.value,
                "worst_asr_upper95": worst.asr.upper95,
            }
        return metadata

    def page(self, data: RobustnessReport) -> str:
        return robustness_page(data, None)
