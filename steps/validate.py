"""Great Expectations over the delivery: accepted rows, quarantined rows, the report."""

from typing import Annotated

from zenml import step

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.training.backbone import Backbone
from musclelora.validation import suite
from musclelora.validation.config import ValidationConfig
from musclelora.validation.report import ValidationReport
from musclelora.validation.scans import scans_of
from steps.cache import LIBRARY_CODE
from steps.idle import unless_idle
from steps.progress import announce


@step(cache_policy=LIBRARY_CODE)
@unless_idle
def validate(
    train: TextDataset,
    dev: TextDataset,
    test: TextDataset,
    trusted: TrustedSet,
    config: ValidationConfig,
    encoder: Backbone,
    max_length: int,
    seed: int,
) -> tuple[
    Annotated[ValidationReport, "validation_report"],
    Annotated[TextDataset, "accepted"],
    Annotated[TextDataset, "quarantined"],
    Annotated[TextDataset, "unscanned"],
]:
    announce(f"validate: {len(train)} training rows")
    held_out = dev if len(dev) else None
    scans = scans_of(config, encoder, trusted, max_length, seed, held_out)
    result = suite.validate(train, held_out, test, trusted, config, *scans)
    announce(f"validate: {len(result.quarantined)} rows set aside")
    return result.report, result.accepted, result.quarantined, result.unscanned
