"""Settings of the frequency analysis, apart from its code: a configuration is read before anything slow is imported."""

from pydantic import Field

from musclelora.frozen import Frozen

MAX_ROWS = 10_000


class FourierConfig(Frozen):
    """How much is measured. The cost of one measurement is that of classifying twice `rows` rows."""

    rows: int = Field(256, ge=2, le=MAX_ROWS, description="clean dev rows, and as many with the trigger")
    measurements: int = Field(12, ge=1, le=1000, description="closer together at the start, where most is learned")
