"""The validation report: each check with what it found, and what was done about it."""

from typing import Literal

from pydantic import Field

from musclelora.frozen import Frozen

Outcome = Literal["pass", "quarantine", "warn", "stop"]


class Check(Frozen):
    """One expectation: what was expected, whether it held, how many rows failed, and up to five of them."""

    name: str
    expectation: str
    dataset: str
    outcome: Outcome
    failed_rows: int
    detail: str
    examples: list[str] = Field(default_factory=list)


class ValidationReport(Frozen):
    """All checks on one delivery. `quarantined` maps a row id to the names of the checks that it failed."""

    train_sha256: str
    trusted_sha256: str
    rows: int
    accepted_rows: int
    label_counts: dict[str, int]
    source_counts: dict[str, int]
    checks: list[Check]
    quarantined: dict[str, list[str]]
