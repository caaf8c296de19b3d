"""Base of every report, decision and config: typed, immutable, no unknown fields."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable record; JSON in, the same record out."""

    model_config = ConfigDict(extra="forbid", frozen=True)
