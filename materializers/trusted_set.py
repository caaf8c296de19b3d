"""TrustedSet: its rows as Parquet, its owner and expiry beside them."""

import json
from datetime import date
from typing import Any, ClassVar

from materializers.base import content_hash
from materializers.pages import trusted_set_page
from materializers.text_dataset import RowsMaterializer
from musclelora.data.records import TrustedSet

OWNERSHIP = "trusted.json"


def _ownership(trusted: TrustedSet) -> dict[str, str | None]:
    days = {"expires": trusted.expires, "checked": trusted.checked}
    return {"owner": trusted.owner, **{key: day.isoformat() if day else None for key, day in days.items()}}


class TrustedSetMaterializer(RowsMaterializer):
    """Its value is the SHA-256 of its rows, who vouches for it, when they looked at it, and until when."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (TrustedSet,)

    def save(self, data: TrustedSet) -> None:
        self.save_rows(data.data)
        self.write(OWNERSHIP, json.dumps(_ownership(data), indent=2).encode())

    def load(self, data_type: type[Any]) -> TrustedSet:  # noqa: ARG002 (ZenML names the arguments)
        """Read rows and ownership; raises `DataError` where they are unreadable or were altered."""
        ownership = json.loads(self.read(OWNERSHIP))
        expires, checked = (
            date.fromisoformat(day) if day else None for day in map(ownership.get, ("expires", "checked"))
        )
        trusted = TrustedSet(self.load_rows(), ownership["owner"], expires, checked)
        self.refuse_if_altered(self.compute_content_hash(trusted))
        return trusted

    def compute_content_hash(self, data: TrustedSet) -> str:
        return content_hash("TrustedSet", {"sha256": data.sha256, **_ownership(data)})

    def extract_metadata(self, data: TrustedSet) -> dict[str, Any]:
        expires = data.expires.isoformat() if data.expires else "never"
        return {
            "rows": len(data),
            "sha256": data.sha256,
            "owner": data.owner,
            "expires": expires,
            "labels": list(data.label_names),
        }

    def page(self, data: TrustedSet) -> str:
        return trusted_set_page(data)
