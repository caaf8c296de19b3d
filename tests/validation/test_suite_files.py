import json
from pathlib import Path

import numpy as np
import pytest

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.errors import ConfigError
from musclelora.validation.config import ValidationConfig
from musclelora.validation.expectation_run import ExpectationError
from musclelora.validation.report import TrustedModelRecord
from musclelora.validation.suite import UnusableDataError, validate
from musclelora.validation.suite_files import read_suite
from musclelora.validation.token_scan import SuspectFeature

SHIPPED = Path(__file__).parents[2] / "configs" / "suites" / "sources.json"


class FixedScan:
    """Suspects rows 0 and 1 (of those that passed)."""

    def record(self):
        about = {"encoder": "x", "encoder_sha256": "", "contrastive_steps": 0, "trusted_rows": 2, "n": 9}
        return TrustedModelRecord(**about, accuracy=1, lower95=1, chance=0.5, measured_on="held-out rows")

    def probabilities(self, rows):
        return np.full((len(rows), 2), 0.5)

    def __call__(self, rows, *, without=None):  # noqa: ARG002
        about = {"z": 9, "threshold": 4, "effect": 99, "purity": 1, "expected": 0.5, "count": 2}
        return [SuspectFeature("words", "zebra", "1", rows=(0, 1), **about)]


def table(n=200, skewed=False):
    """Sources a, b and c by turns; all labels balanced, or the 67 rows of source b with label 1 only."""
    labels = ["1" if skewed and i % 3 == 1 else str(i // 3 % 2) for i in range(n)]
    return TextDataset.from_columns(
        {
            "row_id": [f"train/{i}" for i in range(n)],
            "text": [f"text number {i}" for i in range(n)],
            "label": labels,
            "source": ["abc"[i % 3] for i in range(n)],
        }
    )


def trusted():
    columns = {"row_id": ["t/0", "t/1"], "text": ["good", "bad"], "label": ["1", "0"]}
    return TrustedSet(TextDataset.from_columns(columns), "the tests")


def suite(tmp_path, *entries):
    path = tmp_path / "suite.json"
    path.write_text(json.dumps({"name": "mine", "expectations": list(entries)}))
    return str(path)


def entry(kind, outcome="quarantine", **kwargs):
    return {"type": kind, "kwargs": kwargs, "meta": {"rule": "mine", "sentence": "As said.", "outcome": outcome}}


RATE = {"column_A": "source", "column_B": "label", "within": 0.3}


def checked(path, rows, scan=None):
    return validate(rows, None, None, trusted(), ValidationConfig(suites=[path]), scan)


def test_rows_of_a_source_with_a_label_far_oftener_than_elsewhere_are_set_aside(tmp_path):
    path = suite(tmp_path, entry("expect_label_rate_by_source_within", **RATE))
    result = checked(path, table(skewed=True))
    # b has label 1 in 100 %, the others in 50 %; a and c have label 0 in 50 %, the others in 25 %.
    assert {(row["source"], row["label"]) for row in result.quarantined.rows} == {("b", "1")}
    assert len(result.quarantined) == 67
    assert checked(path, table()).report.quarantined == {}


@pytest.mark.parametrize(("within", "min_rows", "failed"), [(0.49, 30, 67), (0.51, 30, 0), (0.3, 68, 0)])
def test_the_limit_and_the_least_number_of_rows_count(tmp_path, within, min_rows, failed):
    limits = {"within": within, "min_rows": min_rows}
    path = suite(tmp_path, entry("expect_label_rate_by_source_within", **RATE | limits))
    assert len(checked(path, table(skewed=True)).quarantined) == failed


@pytest.mark.parametrize("outcome", ["pass", "warn", "quarantine"])
def test_the_file_says_what_follows(tmp_path, outcome):
    path = suite(tmp_path, entry("expect_label_rate_by_source_within", outcome, **RATE))
    result = checked(path, table(skewed=True))
    [check] = [check for check in result.report.checks if check.name == "mine"]
    assert (check.outcome, check.failed_rows) == (outcome, 67)
    assert len(result.quarantined) == (67 if outcome == "quarantine" else 0)


def test_a_suite_may_stop_the_run_where_the_token_scan_suspects_anything(tmp_path):
    path = suite(tmp_path, entry("expect_no_residual_trigger_features", "stop", column="suspect"))
    with pytest.raises(UnusableDataError, match="mine"):
        checked(path, table(), FixedScan())


def test_the_shipped_suite_reads_and_runs():
    assert [rule.failure for rule in read_suite(str(SHIPPED))] == ["warn", "quarantine", "stop"]
    assert checked(str(SHIPPED), table()).report.quarantined == {}


def test_a_built_in_expectation_that_raises_is_an_error_and_no_verdict(tmp_path):
    path = suite(tmp_path, entry("expect_column_max_to_be_between", column="label", min_value=0, max_value=1))
    with pytest.raises(ExpectationError, match="could not be computed"):
        checked(path, table())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ('{"name": "x"}', "expectations"),
        ({"type": "expect_magic", "kwargs": {}}, "no expectation"),
        ({"type": "expect_label_rate_by_source_within", "kwargs": {"column_A": "a", "column_B": "b"}}, "within"),
        ({"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "nowhere"}}, "'nowhere'"),
    ],
)
def test_a_suite_that_cannot_be_used_is_a_config_error(tmp_path, content, message):
    path = tmp_path / "bad.json"
    if isinstance(content, dict):
        content = json.dumps({"name": "x", "expectations": [content | {"meta": entry("x")["meta"]}]})
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        checked(str(path), table())
