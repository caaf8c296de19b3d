"""RegisteredVersion: JSON and its page."""

from typing import Any, ClassVar

from materializers.base import RecordMaterializer
from materializers.pages import registered_page
from musclelora.governance.registered import RegisteredVersion


class RegisteredVersionMaterializer(RecordMaterializer):
    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (RegisteredVersion,)

    def extract_metadata(self, data: RegisteredVersion) -> dict[str, Any]:
        return {
            "name": data.name,
            "version": data.version,
            "aliases": data.aliases,
            "decision": data.decision,
        }

    def page(self, data: RegisteredVersion) -> str:
        return registered_page(data)
