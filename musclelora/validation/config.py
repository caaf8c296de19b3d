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


class GroupScanConfig(Frozen):
    """The section `validation.group_scan`."""

    enabled: bool = Field(False, description="costs one to two minutes per 5,000 rows")
    false_alarm: float = Field(0.01, gt=0, lt=0.5, description="chance per label and look that honest rows are suspect")
    redraws: int = Field(20, ge=10, description="draws of honest labels; more make the limit surer, and cost time")
    max_groups: int = Field(4, ge=1, description="looks per label; more find more triggers")


class ValidationConfig(Frozen):
    """Limits. `max_words` suits 128 tokens of English; shares are fractions of rows, 0 to 1.

    `allowed_characters` are not reported as invisible: languages such as Persian need U+200C inside words.
    `suites` are JSON files with further expectations on the training rows (configs/suites).
    `token_scan` sets aside rows with a word or phrase that goes with a label more surely than expected;
    `group_scan` rows with a style or syntax that does.
    """

    max_words: Annotated[int, Field(ge=1)] = 96
    min_label_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    max_quarantined_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    allowed_characters: str = ""
    token_scan: bool = True
    group_scan: GroupScanConfig = GroupScanConfig()
    suites: list[str] = Field([])
    trusted_model: TrustedModelConfig = TrustedModelConfig()
