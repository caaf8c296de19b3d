"""Base of every report, decision and config: typed, immutable, no unknown fields."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable record; JSON in, the same record out, numbers that are none included (as text: JSON has no NaN)."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")
