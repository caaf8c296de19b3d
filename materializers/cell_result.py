"""CellResult of a comparison: JSON and its page."""

from typing import Any, ClassVar

from materializers.base import RecordMaterializer
from materializers.compare_page import cell_page
from musclelora.comparison.record import CellResult


class CellResultMaterializer(RecordMaterializer):
    """Its value is what was measured, without the seconds and the memory that took."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (CellResult,)

    def values(self, record: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in record.items() if key not in ("seconds", "peak_memory_mb")}

    def extract_metadata(self, data: CellResult) -> dict[str, Any]:
        rates = {f"asr.{attack}": measured.asr.value for attack, measured in data.attacks.items()}
        return {"method": data.cell.method, "attack": data.cell.attack, "cacc": data.cacc.value, **rates}

    def page(self, data: CellResult) -> str:
        return cell_page(data)
