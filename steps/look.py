"""Read the delivery, and say whether there is anything to do. Never cached: both can change at any time."""

from datetime import datetime, timezone
from typing import Annotated

from zenml import step
from zenml.client import Client

from musclelora import ingest, retraining
from musclelora.data.config import DataConfig
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.governance.coverage import Occasion, covered_by_champion, occasion_of
from steps.idle import Idle
from steps.progress import announce
from steps.tracking import tracking


@step(enable_cache=False)
def look(
    data: DataConfig, seed: int, target: str, name: str, max_evidence_age_days: float | None
) -> tuple[
    Annotated[Occasion, "occasion"],
    Annotated[TextDataset | Idle, "train"],
    Annotated[TextDataset | Idle, "dev"],
    Annotated[TextDataset | Idle, "test"],
    Annotated[TrustedSet | Idle, "trusted"],
    Annotated[TextDataset | Idle, "new_rows"],
]:
    delivery = ingest.ingest(data, seed, target)
    covered = covered_by_champion(name, tracking()[0])
    occasion = occasion_of(delivery.sha256, covered, max_evidence_age_days, datetime.now(timezone.utc))
    announce(f"look: {occasion.reason}{'' if occasion.due else ' Nothing to do: skipped.'}")
    if not occasion.due:
        idle = Idle(reason=occasion.reason)
        return occasion, idle, idle, idle, idle, idle
    new = retraining.new_rows(delivery.train, _delivered_to(covered.pipeline_run if covered else None))
    announce(f"look: {len(new)} of {len(delivery.train)} training rows are new")
    return occasion, delivery.train, delivery.dev, delivery.test, delivery.trusted, new


def _delivered_to(run_name: str | None) -> TextDataset | None:
    """The training rows that a former run read; None where ZenML does not know that run any more."""
    runs = Client().list_pipeline_runs(name=run_name, hydrate=True).items if run_name else []
    for run in runs:
        for first in ("look", "ingest"):
            if first in run.steps and "train" in run.steps[first].outputs:
                rows = run.steps[first].outputs["train"][0].load()
                return rows if isinstance(rows, TextDataset) else None
    return None
