"""The part of the YAML file's `validation` section that the expectations read."""

from typing import Annotated

from pydantic import Field

from musclelora.frozen import Frozen
from musclelora.training.recipes import Contrastive


class TrustedModelConfig(Frozen):
    """The model of the trusted rows that the scans lean on: its encoder, and how far that is tuned on these rows.

    `contrastive: {steps: 0}` leaves the encoder as it is.
    """

    encoder: str | None = Field(None, description="none = the run's backbone; else a package, a folder or a hub name")
    contrastive: Contrastive = Contrastive()


class ValidationConfig(Frozen):
    """Limits. `max_words` suits 128 tokens of English; shares are fractions of rows, 0 to 1.

    `allowed_characters` are not reported as invisible: languages such as Persian need U+200C inside words.
    `token_scan` sets aside rows with a word or phrase that goes with a label more surely than expected.
    """

    max_words: Annotated[int, Field(ge=1)] = 96
    min_label_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    max_quarantined_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    allowed_characters: str = ""
    token_scan: bool = True
    trusted_model: TrustedModelConfig = TrustedModelConfig()
