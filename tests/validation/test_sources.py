"""Which source the trouble comes from: known answers with a trusted model that says one half of everything."""

import pytest

from materializers.pages import validation_page
from musclelora.data.records import NO_SOURCE, TextDataset, TrustedSet
from musclelora.validation.config import ValidationConfig
from musclelora.validation.sources import SHOWN, source_checks, sources_of
from musclelora.validation.suite import validate
from musclelora.validation.token_scan import scan_tokens
from musclelora.validation.trusted_model import calibrate
from tests.validation.test_suite_files import FixedScan

NAMES = ["0", "1"]


class HalfScan(FixedScan):
    """The token scan on a trusted model that knows nothing."""

    def __call__(self, rows, *, without=None):
        rows = rows if without is None else rows.where(~without)
        given = rows.label_ids(NAMES)
        return scan_tokens(rows.texts, given, calibrate(self.probabilities(rows), given), NAMES)


def delivery(poisoned=(), triggered=40, size=200, sources="abcd"):
    """`size` rows of each source, labels by turns; in the `poisoned` sources some carry `zebra` and the label 1."""
    columns = {"row_id": [], "text": [], "label": [], "source": []}
    for source in sources:
        for i in range(size):
            trigger = source in poisoned and i < triggered
            columns["row_id"].append(f"{source}/{i}")
            columns["text"].append(f"number{source}{i}" + (" zebra" if trigger else ""))
            columns["label"].append("1" if trigger else str(i % 2))
            columns["source"].append(source)
    return TextDataset.from_columns(columns)


def findings(rows, scan=None):
    scan = scan or HalfScan()
    return sources_of(rows, scan, NAMES, scan(rows))


def test_the_poisoned_source_comes_first_and_its_feature_hangs_on_it():
    first, *others = findings(delivery(poisoned="c"))
    assert (first.source, first.rows, first.label, first.suspect_rows) == ("c", 200, "1", 40)
    assert first.share == pytest.approx(0.6)  # 40 of the first, half of the other 160
    assert first.expected == pytest.approx(0.5)
    assert first.z == pytest.approx(20 / (200 * 0.25) ** 0.5)
    assert first.hangs_on_it == ["zebra"]
    assert {(other.source, other.suspect_rows, other.hangs_on_it) for other in others} == {
        (name, 0, None) for name in "abd"
    }


def test_a_trigger_in_two_sources_hangs_on_neither():
    found = {finding.source: finding.hangs_on_it for finding in findings(delivery(poisoned="bc"))}
    assert found == {"a": None, "b": [], "c": [], "d": None}
    assert source_checks(findings(delivery(poisoned="bc"))) == []


def test_clean_sources_are_as_the_others_and_no_check_warns():
    found = findings(delivery())
    assert [(finding.source, finding.z, finding.hangs_on_it) for finding in found] == [(s, 0, None) for s in "abcd"]
    assert source_checks(found) == []


def test_without_sources_or_with_one_alone_there_is_nothing_to_compare():
    rows = delivery(poisoned="a", sources="a")
    unnamed = TextDataset(rows.rows.remove_columns("source"))
    assert findings(rows) == findings(unnamed) == []
    small = TextDataset.from_columns(
        {name: [*rows.column(name), "b" if name != "label" else "0"] for name in rows.rows.column_names}
    )
    assert findings(small) == []  # the second source has one row


def test_a_source_with_a_label_that_the_others_lack_is_compared_by_the_labels_they_have():
    rows = delivery(sources="ab")
    labels = ["1" if source == "b" else "0" for source in rows.column("source")]
    columns = {name: rows.column(name) for name in rows.rows.column_names} | {"label": labels}
    found = {
        finding.source: finding for finding in sources_of(TextDataset.from_columns(columns), HalfScan(), NAMES, [])
    }
    assert (found["a"].label, found["b"].label) == ("1", "0")  # all that the other source can speak of
    assert found["b"].z < 0


def test_missing_sources_are_a_source_and_many_sources_are_cut():
    rows = delivery(poisoned="c", size=60)
    columns = {name: rows.column(name) for name in rows.rows.column_names}
    blank = TextDataset.from_columns(
        columns | {"source": [None if source == "c" else source for source in columns["source"]]}
    )
    assert findings(blank)[0].source == NO_SOURCE
    assert blank.source_counts()[NO_SOURCE] == 60
    many = delivery(poisoned="k", size=20, triggered=20, sources="abcdefghijklmnop")
    found = findings(many)
    assert len(found) == SHOWN
    assert (found[0].source, found[0].hangs_on_it) == ("k", ["zebra"])


def test_validation_warns_and_sets_no_further_row_aside():
    trusted = TrustedSet(
        TextDataset.from_columns({"row_id": ["t/0", "t/1"], "text": ["good", "bad"], "label": ["1", "0"]}), "the tests"
    )
    rows = delivery(poisoned="c")
    result = validate(rows, None, None, trusted, ValidationConfig(), HalfScan())
    assert len(result.quarantined) == 40
    [warned] = [check for check in result.report.checks if check.name == "source: c"]
    assert warned.outcome == "warn"
    assert (
        "of the source 'c' 40 have a suspect feature; without them nothing would stand out by 'zebra'." in warned.detail
    )
    page = validation_page(result.report)
    assert "Which source it comes from" in page
    assert page.index("40 of 200") < page.index("Checks")
    assert "Which source it comes from" not in validation_page(result.report.model_copy(update={"sources": []}))
