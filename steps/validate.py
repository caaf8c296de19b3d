"""Great Expectations over the delivery: accepted rows, quarantined rows, the report."""

from typing import Annotated

from zenml import step

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.training.backbone import Backbone
from musclelora.validation import suite
from musclelora.validation.config import ValidationConfig
from musclelora.validation.group_scan import GroupScan
from musclelora.validation.report import ValidationReport
from musclelora.validation.trusted_model import TokenScan
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
    tuning, sample = config.trusted_model.contrastive, config.trusted_model.sample_rows
    scan, group_scan = None, None
    if config.token_scan:
        scan = TokenScan(encoder, trusted, max_length, tuning, seed, held_out, config.engine, sample)
    if config.group_scan.enabled:
        group_scan = GroupScan(encoder, trusted, max_length, tuning, config.group_scan, seed, config.engine, sample)
    result = suite.validate(train, held_out, test, trusted, config, scan, group_scan)
    announce(f"validate: {len(result.quarantined)} rows set aside")
    return result.report, result.accepted, result.quarantined, result.unscanned
