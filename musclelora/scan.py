"""Validation alone, for whoever has rows and a few trusted ones: what stands out in them, and what to set aside."""

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from pydantic import Field

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.data.trusted import check_trusted
from musclelora.frozen import Frozen
from musclelora.summary import DataSummary, TrustedSummary
from musclelora.training.backbone import Backbone
from musclelora.validation.config import ValidationConfig
from musclelora.validation.report import (
    Check,
    SourceFinding,
    Suspect,
    SuspectGroup,
    TrustedModelRecord,
    ValidationReport,
)
from musclelora.validation.rules import UNSEEN
from musclelora.validation.scans import scans_of
from musclelora.validation.suite import ValidationResult, validate

ScanStatus = Literal["clean", "suspects"]


class ScanSummary(Frozen):
    """`summary.json` of a scan. `status` is "suspects" where a feature or a group stands out, or a character cannot be
    seen."""

    schema_: Literal["musclelora/scan/1"] = Field(alias="schema")
    name: str
    status: ScanStatus
    seed: int
    seconds: float
    data: DataSummary
    trusted: TrustedSummary
    trusted_model: TrustedModelRecord | None
    suspects: list[Suspect]
    suspect_groups: list[SuspectGroup]
    sources: list[SourceFinding]
    checks: list[Check]


@dataclass(frozen=True, eq=False)
class Scanned:
    """What a scan found, and whether anything in it looks like somebody's work."""

    result: ValidationResult

    @property
    def report(self) -> ValidationReport:
        return self.result.report

    @property
    def status(self) -> ScanStatus:
        unseen = any(check.failed_rows for check in self.report.checks if check.name in UNSEEN)
        return "suspects" if unseen or self.report.suspects or self.report.suspect_groups else "clean"


def scan(
    rows: TextDataset, trusted: TrustedSet, *, encoder: Backbone, config: ValidationConfig, max_length: int, seed: int
) -> Scanned:
    """Check `trusted`, then every row. Raises `DataError` where either cannot be used at all."""
    check_trusted(trusted, {}, datetime.now(timezone.utc).date())
    scans = scans_of(config, encoder, trusted, max_length, seed)
    return Scanned(validate(rows, None, None, trusted, config, *scans))


def summarise_scan(name: str, scanned: Scanned, rows: TextDataset, seed: int, seconds: float) -> ScanSummary:
    """The fields of `summary.json`."""
    report = scanned.report
    return ScanSummary(
        schema="musclelora/scan/1",
        name=name,
        status=scanned.status,
        seed=seed,
        seconds=round(seconds, 2),
        data=DataSummary(
            sha256=rows.sha256, rows=len(rows), quarantined=len(report.quarantined), sources=report.source_counts
        ),
        trusted=TrustedSummary(sha256=report.trusted_sha256, rows=report.trusted_rows),
        trusted_model=report.trusted_model,
        suspects=report.suspects,
        suspect_groups=report.suspect_groups,
        sources=report.sources,
        checks=report.checks,
    )
