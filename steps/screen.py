"""The new rows on a page of their own."""

from typing import Annotated

from zenml import step

from musclelora import retraining
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.training.backbone import Backbone
from musclelora.validation.config import ValidationConfig
from musclelora.validation.report import ValidationReport
from musclelora.validation.scans import scans_of
from steps.cache import LIBRARY_CODE
from steps.idle import unless_idle
from steps.progress import announce


@step(cache_policy=LIBRARY_CODE)
@unless_idle
def screen(
    new_rows: TextDataset,
    test: TextDataset,
    trusted: TrustedSet,
    config: ValidationConfig,
    encoder: Backbone,
    max_length: int,
    seed: int,
) -> Annotated[ValidationReport | None, "new_rows_report"]:
    announce(f"screen: {len(new_rows)} new rows by themselves")
    scan, _ = scans_of(config, encoder, trusted, max_length, seed) if len(new_rows) else (None, None)
    return retraining.screen(new_rows, test, trusted, config, scan)
