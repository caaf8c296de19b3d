"""The part of the YAML file's `validation` section that the expectations read."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from musclelora.frozen import Frozen
from musclelora.training.recipes import Contrastive

PARTITION_ROWS = 100_000


class EngineConfig(Frozen):
    """The section `validation.engine`: where the scans and their encoder passes are computed.

    `scheduler` is the address of a Dask scheduler; none = a local cluster of `workers` processes, closed at the end.
    """

    name: Literal["local", "dask"] = "local"
    scheduler: str | None = Field(None, description="such as tcp://scheduler:8786, or tls://")
    workers: int | None = Field(None, ge=1, description="processes of a local cluster; none = one per core")
    partition_rows: int = Field(PARTITION_ROWS, ge=1, description="rows that a worker takes at a time")

    @model_validator(mode="after")
    def _belong_together(self) -> "EngineConfig":
        if self.name == "local" and (self.scheduler or self.workers):
            raise ValueError("scheduler and workers belong to the engine dask: set its name, or leave them out")
        if self.scheduler and self.workers:
            raise ValueError("workers are those of a local cluster, and scheduler names another: leave one of them out")
        return self


ONE_PROCESS = EngineConfig()


class TrustedModelConfig(Frozen):
    """The model of the trusted rows that the scans lean on: its encoder, and how far that is tuned on these rows.

    `contrastive: {steps: 0}` leaves the encoder as it is. Of more than `sample_rows` rows the encoder reads so many,
    and a linear model of their words says what it would say of the others.
    """

    encoder: str | None = Field(None, description="none = the run's backbone; else a package, a folder or a hub name")
    contrastive: Contrastive = Contrastive()
    sample_rows: int | None = Field(None, ge=1000, description="of more rows the encoder reads so many; none = all")


class GroupScanConfig(Frozen):
    """The section `validation.group_scan`."""

    enabled: bool = Field(False, description="costs one to two minutes per 5,000 rows")
    false_alarm: float = Field(0.01, gt=0, lt=0.5, description="chance per label and view that honest rows are suspect")
    redraws: int = Field(20, ge=10, description="draws of honest labels; up to five times as many near a limit")
    max_groups: int = Field(4, ge=1, description="looks per label; more find more triggers")
    sample_rows: int = Field(10_000, ge=1000, description="of more rows so many are scanned, and lead to the others")


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
    engine: EngineConfig = ONE_PROCESS
