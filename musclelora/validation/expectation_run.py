"""One suite of expectations on one frame, by Great Expectations: what failed, and in which rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig

from musclelora.errors import MuscleLoRAError
from musclelora.validation.report import Check
from musclelora.validation.rules import Rule

EXAMPLES = 5
EXCERPT = 80  # characters


class ExpectationError(MuscleLoRAError):
    """An expectation could not be computed, so that it neither passed nor failed."""


@dataclass(frozen=True, eq=False)
class Finding:
    """A check, and the numbers of the rows that failed it."""

    check: Check
    failed: list[int]


def pandas_source() -> Any:
    """A data source of a context that lives in memory only and shows no progress bars."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context.data_sources.add_pandas("delivery")


def run_suite(source: Any, dataset: str, frame: pd.DataFrame, rules: Sequence[Rule]) -> list[Finding]:
    """Validate one frame by one suite; findings in the order of the rules."""
    asset = source.add_dataframe_asset(f"{dataset}_{len(source.assets)}")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    for rule in rules:
        rule.expectation.meta = {"rule": rule.name}
    suite = gx.ExpectationSuite(asset.name, expectations=[rule.expectation for rule in rules])
    outcome = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    results = {result.expectation_config.meta["rule"]: result for result in outcome.results}
    return [_finding(rule, dataset, frame, results[rule.name]) for rule in rules]


def _finding(rule: Rule, dataset: str, frame: pd.DataFrame, result: Any) -> Finding:
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
    return Finding(check, failed)


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
        return [f"{row.row_id}: {excerpt(row.text)}" for row in rows.itertuples()]
    spots = rule.spots(list(rows["text"]))
    return [
        # In ASCII: these characters are the ones that cannot be told by looking.
        f"{row.row_id}: {row.text[max(0, spot.start() - EXCERPT // 2) :][:EXCERPT]!a}"
        for row, spot in zip(rows.itertuples(), spots, strict=True)
        if spot is not None
    ]


def excerpt(text: str | None) -> str:
    return "no text" if text is None else repr(text if len(text) <= EXCERPT else f"{text[:EXCERPT]}...")
