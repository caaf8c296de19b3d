"""Whether a retraining is due: without ZenML and torch, whose imports alone take longer than this answer."""

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from pydantic import Field

from musclelora.config import RunConfig
from musclelora.errors import ConfigError
from musclelora.frozen import Frozen
from musclelora.governance.coverage import Occasion, covered_by_champion, occasion_of
from musclelora.governance.tracking import default_tracking_uri
from musclelora.ingest import ingest
from musclelora.target import target_of


class Skipped(Frozen):
    """`summary.json` of a retraining that found nothing to do."""

    schema_: Literal["musclelora/skipped/1"] = Field("musclelora/skipped/1", alias="schema")
    name: str
    status: Literal["skipped"] = "skipped"
    reason: str
    champion: str | None
    seconds: float


def check_compares(config: RunConfig) -> None:
    """Raise `ConfigError` for a gate that would let any new model replace the champion, however less accurate."""
    if config.gate.max_cacc_drop_from_champion is None:
        raise ConfigError(
            "A retraining replaces the champion by itself, so the gate must say how much clean accuracy that may cost: "
            "set gate.max_cacc_drop_from_champion, for example to 0.02."
        )


def first_look(config: RunConfig) -> Occasion:
    """Read the delivery and ask MLflow what the champion was made with; raises a `MuscleLoRAError` where it cannot."""
    check_compares(config)
    delivery = ingest(config.data, config.seed, target_of(config))
    covered = covered_by_champion(config.registry.name, config.tracking.uri or default_tracking_uri())
    limit = config.retraining.max_evidence_age_days
    return occasion_of(delivery.sha256, covered, limit, datetime.now(timezone.utc))


def write_skipped(config: RunConfig, occasion: Occasion, started: float, output: Path) -> None:
    """`output/summary.json`; `started` is the value of `time.monotonic()` when the command began."""
    skipped = Skipped(
        name=config.name,
        reason=occasion.reason,
        champion=occasion.champion,
        seconds=round(time.monotonic() - started, 2),
    )
    output.mkdir(parents=True, exist_ok=True)
    (output / "summary.json").write_text(skipped.model_dump_json(indent=1, by_alias=True), encoding="utf-8")
