"""Vouching and ChampionResult: JSON, and a page that lists what they say."""

from typing import Any, ClassVar

from materializers.base import RecordMaterializer
from materializers.pages import facts_page
from musclelora.data.trusted import Vouching
from musclelora.evaluation.report import ChampionResult


class VouchingMaterializer(RecordMaterializer):
    """Who vouched for the trusted rows when the gate asked."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (Vouching,)

    def extract_metadata(self, data: Vouching) -> dict[str, Any]:
        return {"owner": data.owner, "rows": data.rows, "asked": data.asked.isoformat()}

    def page(self, data: Vouching) -> str:
        return facts_page("Who vouches for the trusted rows", data)


class ChampionResultMaterializer(RecordMaterializer):
    """The champion so far on the candidate's test rows."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (ChampionResult,)

    def extract_metadata(self, data: ChampionResult) -> dict[str, Any]:
        return {"version": data.version or "none", "test_sha256": data.test_sha256}

    def page(self, data: ChampionResult) -> str:
        return facts_page("The champion so far, on the same rows", data)
