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


class Suspect(Frozen):
    """A word or phrase as it stands in the rows, the label it goes with, how surely, and in how many rows."""

    text: str
    label: str
    z: float
    purity: float
    rows: int


class ValidationReport(Frozen):
    """All checks on one delivery. `quarantined` maps a row id to the names of the checks that it failed.

    `suspects` are what the token scan found: they become probes of the candidate.
    """

    train_sha256: str
    trusted_sha256: str
    rows: int
    accepted_rows: int
    label_counts: dict[str, int]
    source_counts: dict[str, int]
    checks: list[Check]
    quarantined: dict[str, list[str]]
    suspects: list[Suspect] = Field(default_factory=list)
