"""Validation of one delivery: Great Expectations suites decide which rows train, which wait, and whether to stop."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from musclelora.data.normalise import text_key
from musclelora.data.records import TextDataset, TrustedSet, label_order
from musclelora.errors import DataError
from musclelora.validation.config import ValidationConfig
from musclelora.validation.expectation_run import EXAMPLES, Finding, excerpt, pandas_source, run_suite
from musclelora.validation.group_checks import group_checks
from musclelora.validation.group_scan import GroupScanResult
from musclelora.validation.report import WEAK, Check, SourceFinding, TrustedModelRecord, ValidationReport
from musclelora.validation.rules import balance_rules, clean_rules, form_rules, train_rules
from musclelora.validation.sources import source_checks, sources_of
from musclelora.validation.suite_files import needed_columns, read_suite
from musclelora.validation.suspects import suspect_groups_of, suspects_of
from musclelora.validation.token_scan import RESIDUAL_TRIGGER, Scan, SuspectFeature

SUSPECT = "suspect"  # column of the frame that suites in files may read: the suspect feature of the row
NO_TRIGGER = "Nothing in the texts goes with one label more surely than the trusted rows explain."


@dataclass(frozen=True, eq=False)
class ValidationResult:
    """The training rows that passed, and those set aside for the reasons in `report.quarantined`.

    `unscanned` are the accepted rows and those that only a scan set aside: what an undefended model trains on.
    """

    report: ValidationReport
    accepted: TextDataset
    quarantined: TextDataset
    unscanned: TextDataset


class UnusableDataError(DataError):
    """The delivery cannot be used at all; `report` holds every check that ran."""

    def __init__(self, message: str, report: ValidationReport) -> None:
        super().__init__(message)
        self.report = report


def validate(
    train: TextDataset,
    dev: TextDataset | None,
    test: TextDataset | None,
    trusted: TrustedSet,
    config: ValidationConfig,
    scan: Scan | None = None,
    group_scan: Callable[[TextDataset], GroupScanResult] | None = None,
) -> ValidationResult:
    """Check `train` row by row and as a whole, the others for form; set doubtful training rows aside.

    Without `test` rows `train` is checked alone, as by `musclelora scan`.

    Raises `UnusableDataError`, after all checks, with every reason: rows of dev, test or the trusted set without text
    or label, labels that the trusted set does not have, one label only, or too much quarantined. Where columns or
    unique row ids are missing nothing else can be checked, and it stops with those reasons. Raises `ExpectationError`
    if a check fails to run. The other half is `musclelora.data.trusted.check_trusted`: expiry, and overlap with dev
    and test.
    """
    delivery = {"train": train, "dev": dev, "test": test, "trusted": trusted.data}
    frames = {name: _frame(dataset) for name, dataset in delivery.items() if dataset is not None}
    source = pandas_source()
    findings = [finding for name, frame in frames.items() for finding in run_suite(source, name, frame, form_rules())]
    quarantined: dict[int, list[str]] = {}
    features: list[SuspectFeature] = []
    trusted_model: TrustedModelRecord | None = None
    groups = GroupScanResult((), ())
    sources: list[SourceFinding] = []
    if not _stops(findings):
        labels = label_order([label for label in frames["trusted"]["label"] if label is not None])
        others = {name: frame for name, frame in frames.items() if name != "train"}
        further = [rule for path in config.suites for rule in read_suite(path)]
        needed_columns(further, {*frames["train"], SUSPECT})
        of_scan = [rule for rule in further if getattr(rule.expectation, "column", None) == SUSPECT]
        first = [rule for rule in further if rule not in of_scan]
        findings += run_suite(source, "train", frames["train"], [*train_rules(labels, others, config), *first])
        for name, frame in others.items():
            findings += run_suite(source, name, frame, clean_rules(labels))
        quarantined = _quarantined(findings)
        unscanned = [i not in quarantined for i in range(len(train))]
        if scan is not None and not _stops(findings):
            trusted_model = scan.record()
            findings.append(Finding(_trusted_model_check(trusted_model), []))
            features = scan(train.where(unscanned))
            findings += _scanned(features, train, unscanned)
            sources = sources_of(train.where(unscanned), scan, labels, features)
            findings += [Finding(check, []) for check in source_checks(sources)]
            named = frames["train"].assign(**{SUSPECT: _suspects_by_row(features, unscanned)})
            findings += run_suite(source, "train", named, of_scan)
        if group_scan is not None and not _stops(findings):
            left, numbers = train.where(unscanned), np.flatnonzero(unscanned)
            groups = group_scan(left)
            findings += [Finding(check, numbers[rows].tolist()) for check, rows in group_checks(groups, left)]
        quarantined = _quarantined(findings)
        accepted = frames["train"].drop(index=list(quarantined))
        findings.append(_share_finding(len(quarantined), len(train), config.max_quarantined_share))
        findings += run_suite(source, "train", accepted, balance_rules(labels, config))
    row_ids = train.row_ids if quarantined else []
    scanned = train.where(unscanned) if features or groups.groups else train
    report = ValidationReport(
        train_sha256=train.sha256,
        trusted_sha256=trusted.sha256,
        trusted_rows=len(trusted),
        rows=len(train),
        accepted_rows=len(train) - len(quarantined),
        label_counts=_label_counts(frames["train"]),
        source_counts=train.source_counts(),
        checks=[finding.check for finding in findings],
        quarantined={row_ids[i]: names for i, names in sorted(quarantined.items())},
        suspects=suspects_of(features, scanned, groups.groups),
        trusted_model=trusted_model,
        suspect_groups=suspect_groups_of(groups.groups, scanned, features),
        sources=sources,
    )
    if stops := _stops(findings):
        raise UnusableDataError(_reasons(stops), report)
    keep = [i not in quarantined for i in range(len(train))]
    return ValidationResult(report, train.where(keep), train.where([not kept for kept in keep]), train.where(unscanned))


def _trusted_model_check(model: TrustedModelRecord) -> Check:
    found = (
        f"It is right in {model.accuracy:.1%} of {model.n} rows ({model.measured_on}), surely in {model.lower95:.1%}; "
        f"guessing the commonest label is right in {model.chance:.1%}."
    )
    if model.sample_rows is not None:
        found += (
            f" It reads {model.sample_rows:,} rows; of what more there are a linear model of their words says what it "
            "would say."
        )
    weak = (
        " The trusted model is WEAK: the scan sees less, and takes more honest rows for suspects. Vouch for more rows, "
        "or name a stronger encoder in validation.trusted_model.encoder."
    )
    return Check(
        name="trusted_model",
        expectation=f"The model of the trusted rows is surely {WEAK:.0%} of the way from guessing to always right.",
        dataset="trusted",
        outcome="warn" if model.is_weak else "pass",
        failed_rows=0,
        detail=found + (weak if model.is_weak else ""),
    )


def _suspects_by_row(features: Sequence[SuspectFeature], unscanned: Sequence[bool]) -> pd.Series:
    """The suspect feature of each training row, None where it has none."""
    numbers = [i for i, kept in enumerate(unscanned) if kept]
    names: list[str | None] = [None] * len(unscanned)
    for feature in features:
        for row in feature.rows:
            names[numbers[row]] = feature.name
    return pd.Series(names, dtype=object)


def _scanned(features: Sequence[SuspectFeature], train: TextDataset, unscanned: Sequence[bool]) -> list[Finding]:
    """One finding per suspect feature of the rows that passed everything else; one that passes where there is none."""
    numbers = [i for i, kept in enumerate(unscanned) if kept]
    texts, row_ids, findings = train.texts, train.row_ids, []
    for feature in features:
        failed = [numbers[row] for row in feature.rows]
        check = Check(
            name=f"{RESIDUAL_TRIGGER}: {feature.name}",
            expectation=NO_TRIGGER,
            dataset="train",
            outcome="quarantine",
            failed_rows=len(failed),
            detail=f"Of {feature.count} rows with {feature.sentence} {feature.purity:.1%} have the label "
            f"{feature.label!r}, where the trusted model expects {feature.expected:.0%} (z = {feature.z:.1f}, odds "
            f"{feature.effect:.0f} times as high): perhaps a backdoor's trigger.",
            examples=[f"{row_ids[row]}: {excerpt(texts[row])}" for row in failed[:EXAMPLES]],
        )
        findings.append(Finding(check, failed))
    if not findings:
        passed = Check(
            name=RESIDUAL_TRIGGER,
            expectation=NO_TRIGGER,
            dataset="train",
            outcome="pass",
            failed_rows=0,
            detail="",
        )
        findings.append(Finding(passed, []))
    return findings


def _frame(dataset: TextDataset) -> pd.DataFrame:
    """The rows as Python objects, so that all pandas versions treat text alike, with `key` for sameness of text."""
    columns = {name: pd.Series(dataset.column(name), dtype=object) for name in dataset.rows.column_names}
    if "text" in columns:
        keys = [None if text is None else text_key(text) for text in columns["text"]]
        columns["key"] = pd.Series(keys, dtype=object)
    return pd.DataFrame(columns)


def _quarantined(findings: Sequence[Finding]) -> dict[int, list[str]]:
    """Names of the failed checks by row number."""
    names: defaultdict[int, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.check.outcome == "quarantine":
            for row in finding.failed:
                names[row].append(finding.check.name)
    return dict(names)


def _share_finding(quarantined: int, rows: int, limit: float) -> Finding:
    check = Check(
        name="quarantined_share",
        expectation=f"At most {limit:.0%} of the rows are set aside.",
        dataset="train",
        outcome="stop" if quarantined > limit * rows else "pass",
        failed_rows=quarantined,
        detail=f"{quarantined} of {rows} rows.",
    )
    return Finding(check, [])


def _label_counts(frame: pd.DataFrame) -> dict[str, int]:
    """Rows per label as delivered; rows without one are not counted."""
    counts = Counter(label for label in frame.get("label", []) if label is not None)
    return {label: counts[label] for label in label_order(list(counts))}


def _stops(findings: Sequence[Finding]) -> list[Check]:
    return [finding.check for finding in findings if finding.check.outcome == "stop"]


def _reasons(stops: Sequence[Check]) -> str:
    reasons = []
    for check in stops:
        first = f" First rows: {'; '.join(check.examples)}." if check.examples else ""
        reasons.append(f"({check.dataset}, {check.name}) Expected: {check.expectation} {check.detail}{first}")
    return (
        f"The data cannot be used, for {len(stops)} reason{'s' if len(stops) > 1 else ''}. {' '.join(reasons)} "
        "Correct the files, or the columns and trusted set named in the configuration."
    )
