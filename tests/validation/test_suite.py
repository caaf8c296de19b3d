"""Validation of a delivery: which rows wait, what stops everything, and that a fault never looks like data."""

import socket

import pytest
from pydantic import ValidationError

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.errors import DataError
from musclelora.validation.config import ValidationConfig
from musclelora.validation.expectation_run import ExpectationError
from musclelora.validation.suite import UnusableDataError, validate

LOOSE = ValidationConfig(max_quarantined_share=1.0)
CLEAN = [(f"training text number {i}", str(i % 2)) for i in range(20)]
TEST = [("a test text", "0"), ("another test text", "1")]
TRUSTED = [("a trusted text", "0"), ("another trusted text", "1")]


def table(name, rows):
    return TextDataset.from_columns(
        {
            "row_id": [f"{name}/{i}" for i in range(len(rows))],
            "text": [text for text, _ in rows],
            "label": [label for _, label in rows],
        }
    )


def run(train=CLEAN, dev=None, test=TEST, trusted=TRUSTED, config=LOOSE):
    return validate(
        table("train", train),
        None if dev is None else table("dev", dev),
        table("test", test),
        TrustedSet(table("trusted", trusted), "Ada"),
        config,
    )


def checks(report, dataset="train"):
    return {check.name: check for check in report.checks if check.dataset == dataset}


def test_clean_rows_all_pass():
    result = run(dev=[("a dev text", "1")], config=ValidationConfig())
    assert {check.outcome for check in result.report.checks} == {"pass"}
    assert result.report.quarantined == {}
    assert result.accepted.row_ids == [f"train/{i}" for i in range(20)]
    assert len(result.quarantined) == 0
    assert result.report.label_counts == {"0": 10, "1": 10}
    assert (result.report.rows, result.report.accepted_rows) == (20, 20)
    assert {check.dataset for check in result.report.checks} == {"train", "dev", "test", "trusted"}


@pytest.mark.parametrize(
    ("rows", "quarantined"),
    [
        ([(None, "1")], {0: ["text_present"]}),
        ([("x", None)], {0: ["label_present"]}),
        ([(None, None)], {0: ["text_present", "label_present"]}),
        ([("", "1")], {0: ["text_not_blank"]}),
        ([(" \n\u00a0", "0")], {0: ["text_not_blank"]}),
        ([("x", "1"), ("x", "1"), ("X ", "1")], {1: ["duplicate_text"], 2: ["duplicate_text"]}),
        ([("x", "1"), ("x", "0")], {0: ["conflicting_labels"], 1: ["conflicting_labels"]}),
        ([("a\u200bb", "1")], {0: ["invisible_characters"]}),
        ([("p\u0430ypal", "1")], {0: ["homoglyphs"]}),
        ([("A  Test TEXT", "0")], {0: ["overlap_test"]}),
        ([("a trusted text", "0")], {0: ["overlap_trusted"]}),
        ([("a dev text", "0")], {0: ["overlap_dev"]}),
    ],
)
def test_bad_training_rows_wait_with_their_reasons(rows, quarantined):
    result = run(train=[*CLEAN, *rows], dev=[("a dev text", "1")])
    found = {row_id: sorted(names) for row_id, names in result.report.quarantined.items()}
    expected = {f"train/{20 + i}": sorted(names) for i, names in quarantined.items()}
    assert found == expected
    assert result.quarantined.row_ids == list(expected)
    assert len(result.accepted) == 20 + len(rows) - len(expected)


def test_words_such_as_na_are_text():
    assert run(train=[*CLEAN, ("NA", "1"), ("nan", "0"), ("None", "1"), ("null", "0")]).report.quarantined == {}


def test_examples_show_where_and_what():
    text = "word " * 60 + "p\u0430ypal " + "word " * 5
    report = run(train=[*CLEAN, (text, "1"), *[(f"q\u0430 {i}", str(i % 2)) for i in range(7)]]).report
    check = checks(report)["homoglyphs"]
    assert check.failed_rows == 8
    assert len(check.examples) == 5
    assert check.examples[0].startswith("train/20: ")
    assert "p\\u0430ypal" in check.examples[0]
    assert check.outcome == "quarantine"


def test_length_and_balance_warn_only():
    rows = [(f"number {i}", "1") for i in range(39)] + [("as long as allowed " * 24, "1")]
    report = run(
        train=[*CLEAN, *rows, ("word " * 97, "1")],
        config=ValidationConfig(min_label_share=0.3),
        trusted=[*TRUSTED, ("third", "2")],
    ).report
    warned = {name: check for name, check in checks(report).items() if check.outcome == "warn"}
    assert set(warned) == {"length", "label_balance", "label_coverage"}
    assert warned["length"].failed_rows == 1
    assert warned["label_balance"].failed_rows == 10
    assert "'0' (10)" in warned["label_balance"].detail
    assert report.quarantined == {}


STOPS = {
    "stranger label": ({"train": [*CLEAN, ("x", "neu"), ("y", "neu")]}, r"'neu' \(2\).*train/20"),
    "one class": ({"train": [(f"t {i}", "1") for i in range(9)]}, "label_classes"),
    "one class once the rest is set aside": ({"train": [("a", "1"), ("b", "1"), ("x\u200b", "0")]}, "label_classes"),
    "nothing left": ({"train": [(None, "1")]}, "label_classes"),
    "odd labels": ({"train": [*CLEAN, ("x", "\u00b2"), ("y", "--1")]}, "label_known"),
    "odd trusted labels": ({"trusted": [("x", "\u00b2"), ("y", "--1")]}, "label_known"),
    "no train rows": ({"train": []}, "train, rows"),
    "no test rows": ({"test": []}, "test, rows"),
    "test text missing": ({"test": [*TEST, (None, "1")]}, r"test, text_present.*test/2"),
    "test label missing": ({"test": [*TEST, ("x", None)]}, r"test, label_present.*test/2"),
    "test text blank": ({"test": [*TEST, ("  ", "1")]}, r"test, text_not_blank.*test/2"),
    "test label unknown": ({"test": [*TEST, ("x", "one")]}, r"test, label_known.*'one'"),
    "dev label unknown": ({"dev": [("x", "one")]}, r"dev, label_known.*'one'"),
    "trusted label missing": ({"trusted": [*TRUSTED, ("x", None)]}, "trusted, label_present"),
    "trusted has no label at all": ({"trusted": [("x", None)]}, "trusted, label_present"),
}


@pytest.mark.parametrize("case", STOPS)
def test_what_stops_everything(case):
    delivery, message = STOPS[case]
    with pytest.raises(UnusableDataError, match=message) as stop:
        run(**delivery)
    assert isinstance(stop.value, DataError)
    assert "stop" in {check.outcome for check in stop.value.report.checks}


def test_the_quarantined_share_has_a_limit():
    half = [*CLEAN, *[("same", "1")] * 21, ("other", "0")]  # 20 of 42 set aside
    assert len(run(train=half, config=ValidationConfig()).quarantined) == 20
    with pytest.raises(UnusableDataError, match=r"At most 40% of the rows are set aside\. 20 of 42"):
        run(train=half, config=ValidationConfig(max_quarantined_share=0.4))


def test_all_reasons_come_at_once_and_the_report_with_them():
    with pytest.raises(UnusableDataError, match=r"2 reasons.*train, label_known.*test, text_present") as stop:
        run(train=[*CLEAN, ("x", "neu"), ("z\u200b", "1")], test=[*TEST, (None, "0")])
    report = stop.value.report
    assert report.quarantined == {"train/21": ["invisible_characters"]}
    assert checks(report, "test")["text_present"].examples == ["test/2: no text"]


def test_missing_columns_and_repeated_ids_stop_first():
    good = table("train", CLEAN)
    trusted = TrustedSet(table("trusted", TRUSTED), "Ada")
    bare = TextDataset(good.rows.remove_columns(["label"]))
    with pytest.raises(UnusableDataError, match="train, columns"):
        validate(bare, None, table("test", TEST), trusted, LOOSE)
    repeated = TextDataset(good.rows.select([0, 0, 1]))
    with pytest.raises(UnusableDataError, match=r"train, row_id_unique.*train/0"):
        validate(repeated, None, table("test", TEST), trusted, LOOSE)


def test_a_fault_in_an_expectation_is_neither_pass_nor_fail(monkeypatch):
    def broken(_):
        raise ZeroDivisionError("broken on purpose")

    monkeypatch.setattr("musclelora.validation.expectations.find_mixed_script", broken)
    with pytest.raises(ExpectationError, match=r"homoglyphs on the train rows.*broken on purpose"):
        run()


def test_it_prints_nothing_writes_nothing_contacts_nobody(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    run(train=[*CLEAN, ("x", "1"), ("x", "1")])
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_the_same_delivery_gives_the_same_report():
    rows = [*CLEAN, ("x", "1"), ("x", "0"), ("a\u200b", "1")]
    assert run(train=rows).report == run(train=rows).report


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError, match="Extra inputs"):
        ValidationConfig.model_validate({"max_word": 5})


def test_every_check_is_reported_once():
    report = run(dev=[("a dev text", "1")]).report
    form = {"columns", "rows", "row_id_present", "row_id_unique"}
    complete = form | {"text_present", "label_present", "text_not_blank", "label_known"}
    assert set(checks(report, "dev")) == set(checks(report, "test")) == set(checks(report, "trusted")) == complete
    assert set(checks(report)) == complete | {
        *("duplicate_text", "conflicting_labels", "length", "invisible_characters", "homoglyphs"),
        *("overlap_dev", "overlap_test", "overlap_trusted"),
        *("quarantined_share", "label_classes", "label_coverage", "label_balance"),
    }
    assert len(report.checks) == 20 + 3 * 8
