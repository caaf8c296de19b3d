"""The validation report: each check with what it found, and what was done about it."""

from typing import Literal

from pydantic import Field

from musclelora.frozen import Frozen

Outcome = Literal["pass", "quarantine", "warn", "stop"]
WEAK = 1 / 3


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
    """A feature of `rows` rows, the label it goes with, and how surely.

    `text` is the word or phrase as it stands in the rows, `says` what the rows have in common in words; only a feature
    with `can_be_inserted` can be put into other texts, as a probe. `purity` is the share of all rows with the feature
    that have the label, `expected` that of the trusted model, `effect` the ratio of their odds. `examples` are some of
    the rows, `honest` rows of the same label and length that no scan suspects, one for each.
    """

    text: str
    label: str
    z: float
    purity: float
    rows: int
    kind: str = "words"
    says: str = ""
    expected: float = 0.0
    effect: float = 0.0
    can_be_inserted: bool = True
    examples: list[str] = Field(default_factory=list)
    honest: list[str] = Field(default_factory=list)


class SuspectGroup(Frozen):
    """Rows of one label that share words, a pattern or a shape, and go with it beyond what honest rows show.

    `excess` over the `limit`, both in logits, weighed by the trusted model's doubt; `purity` is the share of all rows
    with as much of what is `shared` (in words) that have the label, `expected` that of the trusted model; how many
    `rows`, and for how many of them that says another label (`disagreeing`, with their ids). Which rows: those with
    `check` among their reasons; `examples` are the most typical of them, `honest` as of a `Suspect`.
    """

    check: str
    label: str
    excess: float
    limit: float
    purity: float
    expected: float
    shared: list[str]
    rows: int
    disagreeing: int
    disagreeing_row_ids: list[str] = Field(default_factory=list)
    examples: list[str] = Field(default_factory=list)
    honest: list[str] = Field(default_factory=list)


class SourceFinding(Frozen):
    """One source beside the others, with the label that it has most in excess.

    `share` of its `rows` with that label; `expected` by the trusted model calibrated on the rows of the other sources;
    `z` of the difference. `suspect_rows`: rows with a suspect feature. `hangs_on_it`: the features that no longer stand
    out without this source; None where the scan was not made without it.
    """

    source: str
    rows: int
    label: str
    share: float
    expected: float
    z: float
    suspect_rows: int
    hangs_on_it: list[str] | None = None


def is_weak(lower95: float, chance: float) -> bool:
    """Surely less than `WEAK` of the way from guessing to always right."""
    return lower95 - chance < WEAK * (1 - chance)


class SensitivityPoint(Frozen):
    """How right the trusted model would be with so many `wrong` labels among its rows: mean and worst draw.

    `is_weak`: the mean draw is surely less than `WEAK` of the way from guessing to always right.
    """

    wrong: int
    accuracy: float
    worst: float
    is_weak: bool


class TrustedModelRecord(Frozen):
    """What the scans leaned on: its encoder, and how often it is right about rows that it was not trained on.

    `accuracy` with its one-sided 95 % bound (Clopper-Pearson) over `n` rows; `chance` is the share of their commonest
    label, which a model that knows nothing reaches. `sensitivity`: the same with wrong labels among the trusted rows.
    `sample_rows`: how many rows of a larger delivery the encoder reads; none = all.
    """

    encoder: str
    encoder_sha256: str
    contrastive_steps: int
    trusted_rows: int
    accuracy: float
    lower95: float
    n: int
    chance: float
    measured_on: Literal["held-out rows", "trusted rows, cross-validated"]
    sensitivity: list[SensitivityPoint] = Field(default_factory=list)
    sample_rows: int | None = None

    @property
    def is_weak(self) -> bool:
        """Surely less than `WEAK` of the way from guessing to always right."""
        return is_weak(self.lower95, self.chance)


class ValidationReport(Frozen):
    """All checks on one delivery. `quarantined` maps a row id to the names of the checks that it failed.

    `suspects` are what the token scan found: they become probes of the candidate. `trusted_model` is what the scan
    leaned on; none where there was no scan. `suspect_groups` are what the group scan found. `sources` are those worth a
    look, where rows name their source.
    """

    train_sha256: str
    trusted_sha256: str
    trusted_rows: int = 0
    rows: int
    accepted_rows: int
    label_counts: dict[str, int]
    source_counts: dict[str, int]
    checks: list[Check]
    quarantined: dict[str, list[str]]
    suspects: list[Suspect] = Field(default_factory=list)
    trusted_model: TrustedModelRecord | None = None
    suspect_groups: list[SuspectGroup] = Field(default_factory=list)
    sources: list[SourceFinding] = Field(default_factory=list)
