"""Great Expectations over the delivery: accepted rows, quarantined rows, the report."""

from typing import Annotated

from zenml import step

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.training.backbone import Backbone
from musclelora.validation import suite
from musclelora.validation.config import ValidationConfig
from musclelora.validation.report import ValidationReport
from musclelora.validation.trusted_model import TokenScan
from steps.cache import LIBRARY_CODE
from steps.progress import announce


@step(cache_policy=LIBRARY_CODE)
def validate(
    train: TextDataset,
    dev: TextDataset,
    test: TextDataset,
    trusted: TrustedSet,
    config: ValidationConfig,
    backbone: Backbone,
    max_length: int,
) -> tuple[
    Annotated[ValidationReport, "validation_report"],
    Annotated[TextDataset, "accepted"],
    Annotated[TextDataset, "quarantined"],
    Annotated[TextDataset, "unscanned"],
]:
    announce(f"validate: {len(train)} training rows")
    scan = TokenScan(backbone, trusted, max_length) if config.token_scan else None
    result = suite.validate(train, dev if len(dev) else None, test, trusted, config, scan)
    announce(f"validate: {len(result.quarantined)} rows set aside")
    return result.report, result.accepted, result.quarantined, result.unscanned
