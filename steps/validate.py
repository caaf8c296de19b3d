"""Great Expectations over the delivery: accepted rows, quarantined rows, the report."""

from typing import Annotated

from zenml import step

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.validation import suite
from musclelora.validation.config import ValidationConfig
from musclelora.validation.report import ValidationReport
from steps.cache import LIBRARY_CODE
from steps.progress import announce


@step(cache_policy=LIBRARY_CODE)
def validate(
    train: TextDataset, dev: TextDataset, test: TextDataset, trusted: TrustedSet, config: ValidationConfig
) -> tuple[
    Annotated[ValidationReport, "validation_report"],
    Annotated[TextDataset, "accepted"],
    Annotated[TextDataset, "quarantined"],
]:
    announce(f"validate: {len(train)} training rows")
    result = suite.validate(train, dev if len(dev) else None, test, trusted, config)
    return result.report, result.accepted, result.quarantined
