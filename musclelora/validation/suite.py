"""Validation of one delivery: Great Expectations suites decide which rows train, which wait, and whether to stop."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import numpy as np
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig

from musclelora.data.normalise import text_key
from musclelora.data.records import TextDataset, TrustedSet, label_order
from musclelora.errors import DataError, MuscleLoRAError
from musclelora.validation.config import ValidationConfig
from musclelora.validation.group_checks import group_checks
from musclelora.validation.group_scan import GroupScanResult
from musclelora.validation.report import WEAK, Check, SourceFinding, TrustedModelRecord, ValidationReport
from musclelora.validation.rules import Rule, balance_rules, clean_rules, form_rules, train_rules
from musclelora.validation.sources import source_checks, sources_of
from musclelora.validation.suite_files import needed_columns, read_suite
from musclelora.validation.suspects import suspect_groups_of, suspects_of
from musclelora.validation.token_scan import RESIDUAL_TRIGGER, Scan, SuspectFeature

EXAMPLES = 5
SUSPECT = "suspect"  # column of the frame that suites in files may read: the suspect feature of the row
NO_TRIGGER = "Nothing in the texts goes with one label more surely than the trusted rows explain."
EXCERPT = 80  # characters


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


class ExpectationError(MuscleLoRAError):
    """An expectation could not be computed, so that it neither passed nor failed."""


@dataclass(frozen=True, eq=False)
class _Finding:
    """A check, and the numbers of the rows that failed it."""

    check: Check
    failed: list[int]


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
    source = _pandas_source()
    findings = [finding for name, frame in frames.items() for finding in _run(source, name, frame, form_rules())]
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
        findings += _run(source, "train", frames["train"], [*train_rules(labels, others, config), *first])
        for name, frame in others.items():
            findings += _run(source, name, frame, clean_rules(labels))
        quarantined = _quarantined(findings)
        unscanned = [i not in quarantined for i in range(len(train))]
        if scan is not None and not _stops(findings):
            trusted_model = scan.record()
            findings.append(_Finding(_trusted_model_check(trusted_model), []))
            features = scan(train.where(unscanned))
            findings += _scanned(features, train, unscanned)
            sources = sources_of(train.where(unscanned), scan, labels, features)
            findings += [_Finding(check, []) for check in source_checks(sources)]
            named = frames["train"].assign(**{SUSPECT: _suspects_by_row(features, unscanned)})
            findings += _run(source, "train", named, of_scan)
        if group_scan is not None and not _stops(findings):
            left, numbers = train.where(unscanned), np.flatnonzero(unscanned)
            groups = group_scan(left)
            findings += [_Finding(check, numbers[rows].tolist()) for check, rows in group_checks(groups, left)]
        quarantined = _quarantined(findings)
        accepted = frames["train"].drop(index=list(quarantined))
        findings.append(_share_finding(len(quarantined), len(train), config.max_quarantined_share))
        findings += _run(source, "train", accepted, balance_rules(labels, config))
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


def _scanned(features: Sequence[SuspectFeature], train: TextDataset, unscanned: Sequence[bool]) -> list[_Finding]:
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
            examples=[f"{row_ids[row]}: {_excerpt(texts[row])}" for row in failed[:EXAMPLES]],
        )
        findings.append(_Finding(check, failed))
    if not findings:
        passed = Check(
            name=RESIDUAL_TRIGGER,
            expectation=NO_TRIGGER,
            dataset="train",
            outcome="pass",
            failed_rows=0,
            detail="",
        )
        findings.append(_Finding(passed, []))
    return findings


def _frame(dataset: TextDataset) -> pd.DataFrame:
    """The rows as Python objects, so that all pandas versions treat text alike, with `key` for sameness of text."""
    columns = {name: pd.Series(dataset.column(name), dtype=object) for name in dataset.rows.column_names}
    if "text" in columns:
        keys = [None if text is None else text_key(text) for text in columns["text"]]
        columns["key"] = pd.Series(keys, dtype=object)
    return pd.DataFrame(columns)


def _pandas_source() -> Any:
    """A data source of a context that lives in memory only and shows no progress bars."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context.data_sources.add_pandas("delivery")


def _run(source: Any, dataset: str, frame: pd.DataFrame, rules: Sequence[Rule]) -> list[_Finding]:
    """Validate one frame by one suite; findings in the order of the rules."""
    asset = source.add_dataframe_asset(f"{dataset}_{len(source.assets)}")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    for rule in rules:
        rule.expectation.meta = {"rule": rule.name}
    suite = gx.ExpectationSuite(asset.name, expectations=[rule.expectation for rule in rules])
    outcome = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    results = {result.expectation_config.meta["rule"]: result for result in outcome.results}
    return [_finding(rule, dataset, frame, results[rule.name]) for rule in rules]


def _finding(rule: Rule, dataset: str, frame: pd.DataFrame, result: Any) -> _Finding:
    if error := _exception(result.exception_info):
        raise ExpectationError(
            f"The check {rule.name} on the {dataset} rows could not be computed: {error}. This says nothing about the "
            "data: it is a fault of musclelora or of the installed Great Expectations, please report it."
        )
    failed = sorted(result.result.get("unexpected_index_list") or [])
    rows = frame.loc[failed]
    check = Check(
        name=rule.name,
        expectation=rule.sentence,
        dataset=dataset,
        outcome="pass" if result.success else rule.failure,
        failed_rows=len(failed),
        detail="" if result.success else _detail(rule, rows, len(frame), result.result),
        examples=_examples(rule, rows.head(EXAMPLES)),
    )
    return _Finding(check, failed)


def _exception(info: dict[str, Any]) -> str | None:
    """The message of what was raised inside an expectation: GX reports it flat, or per metric."""
    entries = [info] if "raised_exception" in info else info.values()
    return next((str(entry["exception_message"]) for entry in entries if entry["raised_exception"]), None)


def _detail(rule: Rule, rows: pd.DataFrame, total: int, result: dict[str, Any]) -> str:
    if not len(rows):
        return f"Found: {result.get('observed_value')}."
    if getattr(rule.expectation, "column", None) != "label" or rows["label"].isna().all():
        return f"{len(rows)} of {total} rows."
    values = Counter(rows["label"]).most_common()
    named = ", ".join(f"{label!r} ({n})" for label, n in values[:EXAMPLES])
    return f"{len(rows)} of {total} rows: {named}{' and others' if len(values) > EXAMPLES else ''}."


def _examples(rule: Rule, rows: pd.DataFrame) -> list[str]:
    """`row id: excerpt`, around the place found where the rule can tell."""
    if rule.spots is None or not len(rows):
        return [f"{row.row_id}: {_excerpt(row.text)}" for row in rows.itertuples()]
    spots = rule.spots(list(rows["text"]))
    return [
        # In ASCII: these characters are the ones that cannot be told by looking.
        f"{row.row_id}: {row.text[max(0, spot.start() - EXCERPT // 2) :][:EXCERPT]!a}"
        for row, spot in zip(rows.itertuples(), spots, strict=True)
        if spot is not None
    ]


def _excerpt(text: str | None) -> str:
    return "no text" if text is None else repr(text if len(text) <= EXCERPT else f"{text[:EXCERPT]}...")


def _quarantined(findings: Sequence[_Finding]) -> dict[int, list[str]]:
    """Names of the failed checks by row number."""
    names: defaultdict[int, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.check.outcome == "quarantine":
            for row in finding.failed:
                names[row].append(finding.check.name)
    return dict(names)


def _share_finding(quarantined: int, rows: int, limit: float) -> _Finding:
    check = Check(
        name="quarantined_share",
        expectation=f"At most {limit:.0%} of the rows are set aside.",
        dataset="train",
        outcome="stop" if quarantined > limit * rows else "pass",
        failed_rows=quarantined,
        detail=f"{quarantined} of {rows} rows.",
    )
    return _Finding(check, [])


def _label_counts(frame: pd.DataFrame) -> dict[str, int]:
    """Rows per label as delivered; rows without one are not counted."""
    counts = Counter(label for label in frame.get("label", []) if label is not None)
    return {label: counts[label] for label in label_order(list(counts))}


def _stops(findings: Sequence[_Finding]) -> list[Check]:
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
